//! The command line.

mod oci;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::platforms::PlatformChoice;

pub(crate) use oci::*;

/// The version in the form that Docker and Podman parse.
const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.0.2");
/// Appended to every help text.
const EXIT_STATUS: &str = "\
Exit status: that of the program, 128+n if signal n killed it; 127 if it was not found, 126 if it cannot be executed; \
125 if Amber itself failed or the command line is invalid.";
/// Appended to the help text of commands that wait for a program and imitate runc.
const EXIT_STATUS_OF_RUN: &str = "\
Exit status: that of the program, 128+n if signal n killed it; 127 if it was not found, 126 if it cannot be executed; \
125 if Amber itself failed; 1 for an invalid command line.";

/// Run programs on Amber, a Linux kernel that is itself an ordinary program.
///
/// The programs see Linux; their system calls are served by Amber and never reach the host's kernel.
#[derive(Debug, Parser)]
#[command(name = "amber", version = VERSION, disable_version_flag = true, after_help = EXIT_STATUS, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// Print version
    #[arg(short = 'v', short_alias = 'V', long, action = ArgAction::Version)]
    pub version: Option<bool>,
    /// Flags of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes, before or after its name.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// How guest code is run
    #[arg(long, global = true, value_enum, value_name = "NAME", default_value_t = PlatformChoice::Auto)]
    pub platform: PlatformChoice,
    /// The Linux release the guest sees (`uname -r` and all that follows from it), such as 6.12 or 6.1.100
    #[arg(long, global = true, value_name = "RELEASE")]
    pub kernel: Option<String>,
    /// Log system calls: all of them, or those named, separated by commas
    #[arg(
        long,
        global = true,
        value_name = "NAMES",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "all",
        value_delimiter = ','
    )]
    pub strace: Option<Vec<String>>,
    /// Append the log to this file instead of writing it to standard error
    #[arg(long, global = true, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// The format of the log; `text` and `json` are those of runc
    #[arg(long, global = true, value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Log messages of this importance and above
    #[arg(long, global = true, value_enum, value_name = "LEVEL", default_value_t = LogLevel::Warn)]
    pub log_level: LogLevel,
    /// The same as `--log-level debug`
    #[arg(long, global = true)]
    pub debug: bool,
    /// Write counters to this file when the sandbox ends: exits from guest code by reason, one `NAME NUMBER` a line
    #[arg(long, global = true, value_name = "FILE")]
    pub metrics: Option<PathBuf>,
    /// What the guest's sockets reach: only each other, the host's network, or another network namespace
    #[arg(long, global = true, value_name = "none|host|ns:PATH", value_parser = network, default_value = "none")]
    pub network: Network,
    /// Disable speculative store bypass and indirect branch speculation, and flush the L1 data cache on context
    /// switches where the host supports it; slower, but fewer side channels
    #[arg(long, global = true)]
    pub speculation_mitigations: bool,
    /// Directory for the state of containers [default: /run/amber, or amber in $XDG_RUNTIME_DIR for ordinary users]
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Use systemd to manage control groups; `cgroupsPath` is then SLICE:PREFIX:NAME
    #[arg(long, global = true)]
    pub systemd_cgroup: bool,
    /// Ignore permission errors of control groups
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Rootless::Auto)]
    pub rootless: Rootless,
    /// Accepted for programs that call runc; containers are not saved with CRIU
    #[arg(long, global = true, value_name = "PATH", hide = true)]
    pub criu: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command in a new sandbox
    ///
    /// The command sees the host's files read-only; its writes go to a layer in memory, which is discarded at the end.
    /// Working directory, environment, standard streams, terminal and exit status are as if the command ran directly.
    #[command(disable_help_flag = true, after_help = EXIT_STATUS)]
    Do(DoArgs),
    /// Create and start the container of an OCI bundle
    #[command(after_help = EXIT_STATUS_OF_RUN)]
    Run(RunArgs),
    /// Create the container of an OCI bundle without starting it
    Create(CreateArgs),
    /// Start a created container
    Start(ContainerArgs),
    /// Print the state of a container
    State(ContainerArgs),
    /// Send a signal to the first process of a container
    Kill(KillArgs),
    /// Remove a container and all that belongs to it
    Delete(DeleteArgs),
    /// Run an additional process in a container
    Exec(ExecArgs),
    /// Print the processes of a container
    Ps(PsArgs),
    /// Print the containers
    List(ListArgs),
    /// Suspend all processes of a container
    Pause(ContainerArgs),
    /// Resume all processes of a container
    Resume(ContainerArgs),
    /// Print resource usage and events of a container
    Events(EventsArgs),
    /// Change the limits of a container
    Update(UpdateArgs),
    /// Write a template of config.json
    Spec(SpecArgs),
    /// Print the features that bundles can use
    Features,
    /// Register Amber with Docker, Podman and containerd; shows the changes first and keeps the old files
    Install(InstallArgs),
    /// Undo `amber install`
    Uninstall(InstallArgs),
    /// Save a running container (not supported yet)
    #[command(hide = true)]
    Checkpoint(UnsupportedArgs),
    /// Restore a saved container (not supported yet)
    #[command(hide = true)]
    Restore(UnsupportedArgs),
    /// Print the system calls that Amber itself makes on the host while a guest runs, with the reason for each
    ///
    /// A seccomp filter refuses all others. With --platform, the list is that of this platform.
    HostCalls(HostCallsArgs),
    /// Print the table of system calls: which are implemented, and in which releases they exist
    Syscalls(SyscallsArgs),
}

impl Command {
    /// The exit status of this command when it fails: runc's for commands that runc has.
    pub(crate) fn failed(&self) -> u8 {
        match self {
            Command::Do(_) | Command::Run(_) | Command::HostCalls(_) | Command::Syscalls(_) => crate::FAILED,
            Command::Exec(_) => 255,
            _ => 1,
        }
    }
}

/// Parses a command line.
///
/// # Errors
/// The text to print instead: an error message, help, or the version.
pub(crate) fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let line: Vec<OsString> = line.into_iter().collect();
    match parse_frequent(&line) {
        Some(cli) => Ok(cli),
        None => Cli::try_parse_from(line),
    }
}

/// Parses the line of a command that starts a sandbox or that engines call for each container, if the command comes
/// first and the line is valid. The full definition repeats the global flags for each command, which costs some hundred
/// pages of heap.
fn parse_frequent(line: &[OsString]) -> Option<Cli> {
    match line.get(1)?.to_str()? {
        "do" => parse_alone("do", line, Command::Do),
        "run" => parse_alone("run", line, Command::Run),
        "create" => parse_alone("create", line, Command::Create),
        "start" => parse_alone("start", line, Command::Start),
        "state" => parse_alone("state", line, Command::State),
        "kill" => parse_alone("kill", line, Command::Kill),
        "delete" => parse_alone("delete", line, Command::Delete),
        "exec" => parse_alone("exec", line, Command::Exec),
        _ => None,
    }
}

/// Parses a line with a definition of only the command `name`, without help.
fn parse_alone<A: Args>(name: &'static str, line: &[OsString], command: fn(A) -> Command) -> Option<Cli> {
    let only = A::augment_args(clap::Command::new(name)).disable_help_flag(true);
    let program = GlobalArgs::augment_args(clap::Command::new("amber"))
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .subcommand(only);
    let matches = program.try_get_matches_from(line).ok()?;
    let (_, own) = matches.subcommand()?;
    let (global, own) = (GlobalArgs::from_arg_matches(&matches).ok()?, A::from_arg_matches(own).ok()?);
    Some(Cli { version: None, global, command: command(own) })
}

/// Names of the commands that runc does not have.
const OWN: [&str; 5] = ["do", "host-calls", "syscalls", "install", "uninstall"];

/// What can be recovered from an invalid command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PartialCli {
    /// The command, if runc has it.
    pub oci: Option<String>,
    /// The log file for errors.
    pub log: Option<PathBuf>,
    /// The format of the log.
    pub format: Option<LogFormat>,
}

/// Recovers the parts of an invalid command line that determine how to report the error.
pub(crate) fn salvage(line: impl IntoIterator<Item = OsString>) -> PartialCli {
    let line: Vec<OsString> = line.into_iter().collect();
    let known = Cli::command();
    let Ok(matches) = known.clone().ignore_errors(true).try_get_matches_from(&line) else {
        return PartialCli::default();
    };
    let places = || matches.subcommand().map(|(_, inner)| inner).into_iter().chain([&matches]);
    // Parsing stops at an unknown flag.
    let named = || line.iter().find_map(|word| known.find_subcommand(word)).map(clap::Command::get_name);
    let command = matches.subcommand_name().or_else(named);
    PartialCli {
        oci: command.filter(|name| !OWN.contains(name)).map(str::to_owned),
        log: places().find_map(|matches| matches.try_get_one::<PathBuf>("log").ok().flatten().cloned()),
        format: places().find_map(|matches| matches.try_get_one::<LogFormat>("log_format").ok().flatten().copied()),
    }
}

/// Arguments of `amber do`.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct DoArgs {
    /// Use this directory as the root instead of the host's `/`
    #[arg(long, value_name = "DIR")]
    pub rootfs: Option<PathBuf>,
    /// Write to the files in --rootfs instead of a layer in memory
    #[arg(long, requires = "rootfs")]
    pub rw: bool,
    /// Run as this user, a name or number in the guest, optionally with a group
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Set an environment variable; without a value, pass the caller's
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<OsString>,
    /// Working directory in the guest [default: the caller's, or `/` with --rootfs]
    #[arg(short = 'w', long, visible_alias = "workdir", value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// Host name in the guest
    #[arg(short = 'h', long, value_name = "NAME", default_value = "amber")]
    pub hostname: String,
    /// Mount a host directory or file; options are ro, rw, nosuid, nodev, noexec
    #[arg(short, long, value_name = "SRC:DST[:OPTIONS]")]
    pub volume: Vec<OsString>,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    pub help: Option<bool>,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Arguments of `amber syscalls`.
#[derive(Args, Clone, Debug)]
pub(crate) struct SyscallsArgs {
    /// Output format
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = TableFormat::Text)]
    pub format: TableFormat,
}

/// Arguments of `amber host-calls`.
#[derive(Args, Clone, Debug)]
pub(crate) struct HostCallsArgs {
    /// Output format
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = TableFormat::Text)]
    pub format: TableFormat,
}

/// The network of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Network {
    /// A loopback interface inside the sandbox.
    None,
    /// The host's network: the guest's sockets are sockets of the host.
    Host,
    /// The network namespace at this path.
    Namespace(PathBuf),
}

fn network(text: &str) -> Result<Network, String> {
    match (text, text.strip_prefix("ns:")) {
        ("none", _) => Ok(Network::None),
        ("host", _) => Ok(Network::Host),
        (_, Some(path)) if !path.is_empty() => Ok(Network::Namespace(path.into())),
        _ => Err("possible values: none, host, ns:PATH".into()),
    }
}

/// Log levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum LogLevel {
    /// Nothing
    Off,
    /// Why Amber failed
    Error,
    /// Warnings
    Warn,
    /// Choices and actions
    Info,
    /// Details for finding a defect
    Debug,
    /// Everything
    Trace,
}

/// Log formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum LogFormat {
    /// `time="…" level=error msg="…"`
    Text,
    /// One object per line
    Json,
}

/// When permission errors of control groups are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Rootless {
    /// Always
    True,
    /// Never
    False,
    /// When not running as root
    Auto,
}

/// Output formats of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableFormat {
    /// Aligned columns
    Text,
    /// An array of objects
    Json,
    /// The page docs/syscalls.md
    Markdown,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        super::parse(line.split_whitespace().map(OsString::from))
    }

    fn parse_do(line: &str) -> DoArgs {
        match parse(line).unwrap().command {
            Command::Do(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_definition_of_one_command_reads_what_that_of_all_does() {
        for line in [
            "amber do true",
            "amber do --platform kvm -h box -w / -e A=1 --strace --log /l -v /a:/b -u 5 -- ls -h --rw",
            "amber do --strace=open,openat --debug --network ns:/x --kernel 6.1 ls",
            "amber run --bundle /b --detach --systemd-cgroup x",
            "amber create --bundle /b --pid-file /p --console-socket /s --preserve-fds 3 --root /r x",
            "amber start x",
            "amber state x",
            "amber kill --all x",
            "amber kill x 9",
            "amber delete --force x",
            "amber exec --detach --process /p --pid-file /f --log /l --log-format json x",
            "amber exec -t -u 1:2 --cap CAP_KILL x sh -c true",
        ] {
            let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            let frequent = parse_frequent(&words).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(format!("{frequent:?}"), format!("{:?}", Cli::try_parse_from(&words).unwrap()), "{line}");
        }
        // Other lines, and invalid ones, are left to the full definition.
        for line in [
            "amber",
            "amber --debug do true",
            "amber do",
            "amber do --rw true",
            "amber do --help",
            "amber run -h",
            "amber run --help",
            "amber do --rootless true x",
            "amber do --version",
            "amber kill",
            "amber start",
            "amber state x y",
            "amber list",
            "amber do --platform bogus x",
        ] {
            let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            assert!(parse_frequent(&words).is_none(), "{line}");
        }
    }

    #[test]
    fn everything_after_the_command_is_its_own() {
        for line in ["amber do -u 5 -- ls -l --rw", "amber do -u 5 ls -l --rw"] {
            let args = parse_do(line);
            assert_eq!(args.command, ["ls", "-l", "--rw"]);
            assert_eq!(args.user.as_deref(), Some("5"));
            assert!(!args.rw);
        }
    }

    #[test]
    fn an_unknown_flag_is_refused() {
        let error = parse("amber do --bogus -- ls").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("--bogus"));
        assert!(parse("amber do").is_err());
        assert!(parse("amber do --rw -- ls").is_err());
        assert!(parse("amber run").is_err());
    }

    #[test]
    fn of_what_makes_no_sense_the_rest_is_read() {
        let read = |line: &str| salvage(line.split_whitespace().map(OsString::from));
        for line in ["amber create --bogus x", "amber --bogus create", "amber exec", "amber list --format bogus"] {
            assert!(read(line).oci.is_some(), "{line}");
        }
        for line in ["amber", "amber bogus", "amber do --bogus", "amber syscalls x"] {
            assert_eq!(read(line), PartialCli::default(), "{line}");
        }
        let (log, format) = (Some("/l".into()), Some(LogFormat::Json));
        let wanted = PartialCli { oci: Some("create".to_owned()), log, format };
        assert_eq!(read("amber --log /l --log-format json create --bogus x"), wanted);
        assert_eq!(read("amber create --log /l --log-format json"), wanted);
    }

    #[test]
    fn global_flags_stand_anywhere() {
        let cli = parse("amber --strace do --log-level=debug --kernel 6.1 -- true").unwrap();
        assert_eq!(cli.global.strace.unwrap(), ["all"]);
        assert_eq!(cli.global.log_level, LogLevel::Debug);
        assert_eq!(cli.global.kernel.as_deref(), Some("6.1"));
        let cli = parse("amber do --strace=open,openat -- true").unwrap();
        assert_eq!(cli.global.strace.unwrap(), ["open", "openat"]);
    }

    #[test]
    fn short_flags_are_those_of_docker() {
        let args = parse_do("amber do -h box -w /tmp -e A=1 -e B -v /a:/b:ro -v c:/d -- id");
        assert_eq!(args.hostname, "box");
        assert_eq!(args.cwd.unwrap().to_str(), Some("/tmp"));
        assert_eq!(args.env, ["A=1", "B"]);
        assert_eq!(args.volume, ["/a:/b:ro", "c:/d"]);
    }
}
