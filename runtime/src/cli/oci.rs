//! The commands of an OCI runtime, with the flags of runc.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Arguments of commands about one container.
#[derive(Args, Clone, Debug)]
pub(crate) struct ContainerArgs {
    /// The container
    #[arg(value_name = "ID")]
    pub id: String,
}

/// Arguments of `amber create`.
#[derive(Args, Clone, Debug)]
pub(crate) struct CreateArgs {
    /// Directory with `config.json`
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Send the master of the container's terminal to this unix socket
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Write the process ID of the sandbox to this file
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Send a pidfd of the sandbox's process (see pidfd_open(2)) to this unix socket
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,
    /// Accepted for compatibility with runc; Amber does not use pivot_root
    #[arg(long, hide = true)]
    pub no_pivot: bool,
    /// Accepted for compatibility with runc; Amber never falls back to another kind of mount
    #[arg(long, hide = true)]
    pub no_mount_fallback: bool,
    /// Accepted for compatibility with runc; the guest has its own keyrings
    #[arg(long, hide = true)]
    pub no_new_keyring: bool,
    /// Pass N file descriptors above standard error and those of $LISTEN_FDS to the program
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u16,
    /// A name for the container: letters, digits, `_`, `+`, `-` and `.`
    #[arg(value_name = "ID")]
    pub id: String,
}

/// Arguments of `amber run`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RunArgs {
    /// The arguments of `create`.
    #[command(flatten)]
    pub create: CreateArgs,
    /// Do not wait for the container to end
    #[arg(short, long)]
    pub detach: bool,
    /// Do not remove the container when it ends
    #[arg(long)]
    pub keep: bool,
    /// Accepted for compatibility with runc; the guest's orphans never become the host's
    #[arg(long, hide = true)]
    pub no_subreaper: bool,
}

/// Arguments of `amber kill`.
#[derive(Args, Clone, Debug)]
pub(crate) struct KillArgs {
    /// Send the signal to all processes of the container
    #[arg(short, long)]
    pub all: bool,
    /// The container
    #[arg(value_name = "ID")]
    pub id: String,
    /// Signal, by name or number
    #[arg(value_name = "SIGNAL", default_value = "SIGTERM")]
    pub signal: String,
}

/// Arguments of `amber delete`.
#[derive(Args, Clone, Debug)]
pub(crate) struct DeleteArgs {
    /// Kill the container first if it is running; a missing container is not an error
    #[arg(short, long)]
    pub force: bool,
    /// The container
    #[arg(value_name = "ID")]
    pub id: String,
}

/// Arguments of `amber exec`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ExecArgs {
    /// Send the master of the process's terminal to this unix socket
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Working directory in the container
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// Set an environment variable
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Give the process a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Run as this user
    #[arg(short, long, value_name = "UID[:GID]")]
    pub user: Option<String>,
    /// Additional groups
    #[arg(short = 'g', long, value_name = "GID")]
    pub additional_gids: Vec<u32>,
    /// Read the process from this file, which has the form of `process` in config.json
    #[arg(short, long, value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Do not wait for the process to end
    #[arg(short, long)]
    pub detach: bool,
    /// Write the process ID on the host to this file
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Send a pidfd of that process (see pidfd_open(2)) to this unix socket
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,
    /// Accepted for compatibility with runc; the guest's kernel has no SELinux
    #[arg(long, value_name = "LABEL", hide = true)]
    pub process_label: Option<String>,
    /// Accepted for compatibility with runc; the guest's kernel has no AppArmor
    #[arg(long, value_name = "PROFILE", hide = true)]
    pub apparmor: Option<String>,
    /// Set no_new_privs (see prctl(2))
    #[arg(long)]
    pub no_new_privs: bool,
    /// Add a capability
    #[arg(short, long, value_name = "NAME")]
    pub cap: Vec<String>,
    /// Pass N file descriptors above standard error to the program
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u16,
    /// Control group below the container's; only `/`, the container's own, exists
    #[arg(long, value_name = "[CONTROLLER:]PATH")]
    pub cgroup: Vec<String>,
    /// Allow this in a paused container; the process starts when the container is resumed
    #[arg(long)]
    pub ignore_paused: bool,
    /// The container
    #[arg(value_name = "ID")]
    pub id: String,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// Output formats of lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    /// Aligned columns
    Table,
    /// JSON
    Json,
}

/// Arguments of `amber ps`.
#[derive(Args, Clone, Debug)]
pub(crate) struct PsArgs {
    /// `table` prints the guest's processes, `json` their process IDs on the host
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = ListFormat::Table)]
    pub format: ListFormat,
    /// The container
    #[arg(value_name = "ID")]
    pub id: String,
    /// Options of ps(1) for the table, such as `-o pid,args` [default: -ef]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PS OPTIONS")]
    pub options: Vec<OsString>,
}

/// Arguments of `amber list`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ListArgs {
    /// Output format
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = ListFormat::Table)]
    pub format: ListFormat,
    /// Print only the names
    #[arg(short, long)]
    pub quiet: bool,
}

/// Arguments of `amber events`.
#[derive(Args, Clone, Debug)]
pub(crate) struct EventsArgs {
    /// Interval between reports, such as 5s
    #[arg(long, value_name = "TIME", default_value = "5s")]
    pub interval: humantime::Duration,
    /// Print one report and exit
    #[arg(long)]
    pub stats: bool,
    /// The container
    #[arg(value_name = "ID")]
    pub id: String,
}

/// Arguments of `amber update`.
#[derive(Args, Clone, Debug)]
pub(crate) struct UpdateArgs {
    /// Read all limits from this file, which has the form of `linux.resources` in config.json; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    pub resources: Option<PathBuf>,
    /// Weight of the container's block I/O, from 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<u16>,
    /// Period of the CPU quota in microseconds
    #[arg(long, value_name = "USEC")]
    pub cpu_period: Option<u64>,
    /// CPU time per period in microseconds
    #[arg(long, value_name = "USEC", allow_hyphen_values = true)]
    pub cpu_quota: Option<i64>,
    /// CPU time in microseconds that may accumulate beyond the quota
    #[arg(long, value_name = "USEC")]
    pub cpu_burst: Option<u64>,
    /// Give the container only idle CPU time: 0 or 1
    #[arg(long, value_name = "0|1", allow_hyphen_values = true)]
    pub cpu_idle: Option<i64>,
    /// Weight of the container's CPU time
    #[arg(long, value_name = "SHARES")]
    pub cpu_share: Option<u64>,
    /// Period of realtime scheduling in microseconds
    #[arg(long, value_name = "USEC")]
    pub cpu_rt_period: Option<u64>,
    /// CPU time of realtime scheduling per period in microseconds
    #[arg(long, value_name = "USEC", allow_hyphen_values = true)]
    pub cpu_rt_runtime: Option<i64>,
    /// The CPUs to use
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// The memory nodes to use
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Accepted for compatibility with runc; the memory limit includes kernel objects
    #[arg(long, value_name = "BYTES", hide = true)]
    pub kernel_memory: Option<String>,
    /// Accepted for compatibility with runc; the memory limit includes kernel objects
    #[arg(long, value_name = "BYTES", hide = true)]
    pub kernel_memory_tcp: Option<String>,
    /// Refused, as by runc on hosts without Intel RDT
    #[arg(long, value_name = "SCHEMA", hide = true)]
    pub l3_cache_schema: Option<String>,
    /// Refused, as by runc on hosts without Intel RDT
    #[arg(long, value_name = "SCHEMA", hide = true)]
    pub mem_bw_schema: Option<String>,
    /// Memory limit, such as 512m
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory: Option<String>,
    /// Soft memory limit
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_reservation: Option<String>,
    /// Limit of memory plus swap; -1 for none
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Limit of tasks
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    /// The container
    #[arg(value_name = "ID")]
    pub id: String,
}

/// Arguments of `amber spec`.
#[derive(Args, Clone, Debug)]
pub(crate) struct SpecArgs {
    /// Directory for the file
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Write a configuration that works without root
    #[arg(long = "rootless")]
    pub for_ordinary_user: bool,
}

/// Arguments of commands that are not supported yet.
#[derive(Args, Clone, Debug)]
pub(crate) struct UnsupportedArgs {
    /// Ignored
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<OsString>,
}

/// Container engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// Docker, in /etc/docker/daemon.json
    Docker,
    /// Podman, in a file in /etc/containers/containers.conf.d
    Podman,
    /// containerd for Kubernetes, in /etc/containerd/config.toml
    Containerd,
}

/// Arguments of `amber install` and `amber uninstall`.
#[derive(Args, Clone, Debug)]
pub(crate) struct InstallArgs {
    /// The engines to configure [default: those that are installed]
    #[arg(value_enum, value_name = "ENGINE")]
    pub engines: Vec<Engine>,
    /// Change the files below this directory instead of `/`
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub prefix: PathBuf,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Only show the changes
    #[arg(long)]
    pub dry_run: bool,
}
