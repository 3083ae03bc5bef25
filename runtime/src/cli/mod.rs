//! The command line.

mod oci;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::platforms::PlatformChoice;

pub use oci::*;

/// The version, in the form in which Docker and Podman read that of a runtime.
const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.0.2");
/// What stands behind every help text.
const EXIT_STATUS: &str = "\
Exit status: that of the program, 128+n if signal n killed it; 127 if it was not found, 126 if it cannot be executed; \
125 if Amber itself failed or the command line makes no sense.";
/// What stands behind the help text of a command that waits for a program, and is called as one of runc.
const EXIT_STATUS_OF_RUN: &str = "\
Exit status: that of the program, 128+n if signal n killed it; 127 if it was not found, 126 if it cannot be executed; \
125 if Amber itself failed; 1 for a command line that makes no sense.";

/// Run programs on Amber, a Linux kernel that is itself an ordinary program.
///
/// The programs see Linux; their system calls are served by Amber and never reach the host's kernel.
#[derive(Debug, Parser)]
#[command(name = "amber", version = VERSION, disable_version_flag = true, after_help = EXIT_STATUS, arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    /// Print version
    #[arg(short = 'v', short_alias = 'V', long, action = ArgAction::Version)]
    pub version: Option<bool>,
    /// Flags of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes, before or after its name.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// How guest code is run
    #[arg(long, global = true, value_enum, value_name = "NAME", default_value_t = PlatformChoice::Auto)]
    pub platform: PlatformChoice,
    /// The Linux release the guest sees (`uname -r` and all that follows from it), such as 6.12 or 6.1.100
    #[arg(long, global = true, value_name = "RELEASE")]
    pub kernel: Option<String>,
    /// Trace system calls in the log: all of them, or those named, separated by commas
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
    /// The least important messages to log
    #[arg(long, global = true, value_enum, value_name = "LEVEL", default_value_t = LogLevel::Warn)]
    pub log_level: LogLevel,
    /// The same as `--log-level debug`
    #[arg(long, global = true)]
    pub debug: bool,
    /// At the end, write counters to this file: exits from guest code by reason, one `NAME NUMBER` a line
    #[arg(long, global = true, value_name = "FILE")]
    pub metrics: Option<PathBuf>,
    /// What the guest's sockets reach: only each other, the host's network, or that of a network namespace
    #[arg(long, global = true, value_name = "none|host|ns:PATH", value_parser = network, default_value = "none")]
    pub network: Network,
    /// Disable speculative store bypass and indirect branch speculation, and flush the first-level data cache on context
    /// switches where the host offers it; slower, but fewer side channels
    #[arg(long, global = true)]
    pub speculation_mitigations: bool,
    /// Where the state of containers is kept [default: /run/amber, or amber in $XDG_RUNTIME_DIR for ordinary users]
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Have systemd manage the control group; `cgroupsPath` then is SLICE:PREFIX:NAME
    #[arg(long, global = true)]
    pub systemd_cgroup: bool,
    /// Ignore errors of control groups for want of permission
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Rootless::Auto)]
    pub rootless: Rootless,
    /// Accepted for programs that call runc; containers are not saved with CRIU
    #[arg(long, global = true, value_name = "PATH", hide = true)]
    pub criu: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a command in a sandbox made for it
    ///
    /// The command sees the host's files, read-only; what it writes goes to a layer in memory and is gone when it ends.
    /// Working directory, environment, standard streams, terminal and exit status are as if it ran directly.
    #[command(disable_help_flag = true, after_help = EXIT_STATUS)]
    Do(DoArgs),
    /// Make and start the container of an OCI bundle
    #[command(after_help = EXIT_STATUS_OF_RUN)]
    Run(RunArgs),
    /// Make the container of an OCI bundle; nothing runs in it yet
    Create(CreateArgs),
    /// Let a created container run
    Start(ContainerArgs),
    /// Print the state of a container
    State(ContainerArgs),
    /// Send a signal to the first process of a container
    Kill(KillArgs),
    /// Remove what a container holds
    Delete(DeleteArgs),
    /// Run a further process in a container
    Exec(ExecArgs),
    /// Print the processes of a container
    Ps(PsArgs),
    /// Print the containers
    List(ListArgs),
    /// Suspend all processes of a container
    Pause(ContainerArgs),
    /// Resume all processes of a container
    Resume(ContainerArgs),
    /// Print what a container uses and what happens to it
    Events(EventsArgs),
    /// Change the limits of a container
    Update(UpdateArgs),
    /// Write a config.json to begin with
    Spec(SpecArgs),
    /// Print what bundles can ask for
    Features,
    /// Make Amber a runtime of Docker, Podman and containerd; shows the changes first and keeps the old files
    Install(InstallArgs),
    /// Take back what `amber install` did
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
    /// The exit status of a command that failed: as with runc where there is such a command there.
    pub fn failed(&self) -> u8 {
        match self {
            Command::Do(_) | Command::Run(_) | Command::HostCalls(_) | Command::Syscalls(_) => crate::FAILED,
            Command::Exec(_) => 255,
            _ => 1,
        }
    }
}

/// Reads a command line.
///
/// # Errors
/// What is to be printed instead: what is wrong with it, or the help that it asks for.
pub fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let line: Vec<OsString> = line.into_iter().collect();
    match parse_frequent(&line) {
        Some(cli) => Ok(cli),
        None => Cli::try_parse_from(line),
    }
}

/// Reads the line of a command that starts a sandbox or that engines call for each container, if it comes first and makes
/// sense. A definition of all commands has the global flags for each of them, and costs some hundred pages of heap.
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

/// Reads a line by a definition that has only the command of this name, and no help.
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

/// Names of commands that runc does not have.
const OWN: [&str; 5] = ["do", "host-calls", "syscalls", "install", "uninstall"];

/// What can be told of a command line that makes no sense.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PartialCli {
    /// The command, if it is one that runc has.
    pub oci: Option<String>,
    /// Where errors are logged.
    pub log: Option<PathBuf>,
    /// In which form.
    pub format: Option<LogFormat>,
}

/// Reads what can be read of a command line that makes no sense.
pub fn salvage(line: impl IntoIterator<Item = OsString>) -> PartialCli {
    let line: Vec<OsString> = line.into_iter().collect();
    let known = Cli::command();
    let Ok(matches) = known.clone().ignore_errors(true).try_get_matches_from(&line) else {
        return PartialCli::default();
    };
    let places = || matches.subcommand().map(|(_, inner)| inner).into_iter().chain([&matches]);
    // Behind an unknown flag nothing more is read.
    let named = || line.iter().find_map(|word| known.find_subcommand(word)).map(clap::Command::get_name);
    let command = matches.subcommand_name().or_else(named);
    PartialCli {
        oci: command.filter(|name| !OWN.contains(name)).map(str::to_owned),
        log: places().find_map(|matches| matches.try_get_one::<PathBuf>("log").ok().flatten().cloned()),
        format: places().find_map(|matches| matches.try_get_one::<LogFormat>("log_format").ok().flatten().copied()),
    }
}

/// What `amber do` takes.
#[derive(Args, Clone, Debug, Default)]
pub struct DoArgs {
    /// Use this directory as the root instead of the host's `/`
    #[arg(long, value_name = "DIR")]
    pub rootfs: Option<PathBuf>,
    /// Let the command change the files of --rootfs themselves instead of a layer in memory
    #[arg(long, requires = "rootfs")]
    pub rw: bool,
    /// Run as this user: a name or number of the guest, optionally with a group
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Set an environment variable, or take it over from the caller if it has no value
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

/// What `amber syscalls` takes.
#[derive(Args, Clone, Debug)]
pub struct SyscallsArgs {
    /// How the table is printed
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = TableFormat::Text)]
    pub format: TableFormat,
}

/// What `amber host-calls` takes.
#[derive(Args, Clone, Debug)]
pub struct HostCallsArgs {
    /// How the list is printed
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = TableFormat::Text)]
    pub format: TableFormat,
}

/// What the network of a guest reaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// A loopback inside the sandbox.
    None,
    /// What Amber itself reaches: its sockets are sockets of the host.
    Host,
    /// The same in another network namespace, named by its path, which is given to the guest.
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

/// Importance of log messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum LogLevel {
    /// Nothing
    Off,
    /// Why Amber failed
    Error,
    /// What a user should know
    Warn,
    /// What was chosen and done
    Info,
    /// What helps to find a defect
    Debug,
    /// Everything
    Trace,
}

/// Forms of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum LogFormat {
    /// `time="…" level=error msg="…"`
    Text,
    /// An object in each line
    Json,
}

/// When errors of control groups for want of permission are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Rootless {
    /// Always
    True,
    /// Never
    False,
    /// When not running as root
    Auto,
}

/// Forms of the system call table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TableFormat {
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
        // What is no such line, or makes no sense, is left to the definition of all.
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
