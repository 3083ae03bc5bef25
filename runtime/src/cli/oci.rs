//! The commands of an OCI runtime, with the flags of runc.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What commands about one container take.
#[derive(Args, Clone, Debug)]
pub struct ContainerArgs {
    /// The container
    #[arg(value_name = "ID")]
    pub id: String,
}

/// What `amber create` takes.
#[derive(Args, Clone, Debug)]
pub struct CreateArgs {
    /// The directory with `config.json`
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Send the master of the container's terminal to this unix socket
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Write the number of the sandbox's process to this file
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Send a descriptor of the sandbox's process (see pidfd_open(2)) to this unix socket
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,
    /// Accepted for programs that call runc; Amber pivots nothing
    #[arg(long, hide = true)]
    pub no_pivot: bool,
    /// Accepted for programs that call runc; a mount is made as it is asked for, or not at all
    #[arg(long, hide = true)]
    pub no_mount_fallback: bool,
    /// Accepted for programs that call runc; the guest's keyrings are its own
    #[arg(long, hide = true)]
    pub no_new_keyring: bool,
    /// Pass N file descriptors above standard error and those of $LISTEN_FDS to the program
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u16,
    /// A name for the container: letters, digits, `_`, `+`, `-` and `.`
    #[arg(value_name = "ID")]
    pub id: String,
}

/// What `amber run` takes.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// What it shares with `create`.
    #[command(flatten)]
    pub create: CreateArgs,
    /// Do not wait for the end of the container
    #[arg(short, long)]
    pub detach: bool,
    /// Do not remove the container when it ends
    #[arg(long)]
    pub keep: bool,
    /// Accepted for programs that call runc; the guest's orphans never become the host's
    #[arg(long, hide = true)]
    pub no_subreaper: bool,
}

/// What `amber kill` takes.
#[derive(Args, Clone, Debug)]
pub struct KillArgs {
    /// Send the signal to all processes of the container
    #[arg(short, long)]
    pub all: bool,
    /// The container
    #[arg(value_name = "ID")]
    pub id: String,
    /// The signal, by name or number
    #[arg(value_name = "SIGNAL", default_value = "SIGTERM")]
    pub signal: String,
}

/// What `amber delete` takes.
#[derive(Args, Clone, Debug)]
pub struct DeleteArgs {
    /// Kill the container first if it still runs; a container that does not exist is no error
    #[arg(short, long)]
    pub force: bool,
    /// The container
    #[arg(value_name = "ID")]
    pub id: String,
}

/// What `amber exec` takes.
#[derive(Args, Clone, Debug)]
pub struct ExecArgs {
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
    /// Take the process from this file, in the form of `process` in config.json
    #[arg(short, long, value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Do not wait for the end of the process
    #[arg(short, long)]
    pub detach: bool,
    /// Write the number of the process on the host to this file
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Send a descriptor of that process (see pidfd_open(2)) to this unix socket
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,
    /// Accepted for programs that call runc; the guest's kernel has no SELinux
    #[arg(long, value_name = "LABEL", hide = true)]
    pub process_label: Option<String>,
    /// Accepted for programs that call runc; the guest's kernel has no AppArmor
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
    /// Run it in this control group below the container's; only `/`, the container's own, exists
    #[arg(long, value_name = "[CONTROLLER:]PATH")]
    pub cgroup: Vec<String>,
    /// Allow it in a paused container; the process starts when the container is resumed
    #[arg(long)]
    pub ignore_paused: bool,
    /// The container
    #[arg(value_name = "ID")]
    pub id: String,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// Forms of lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// Aligned columns
    Table,
    /// JSON
    Json,
}

/// What `amber ps` takes.
#[derive(Args, Clone, Debug)]
pub struct PsArgs {
    /// `table` has the guest's processes; `json` the process IDs on the host
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = ListFormat::Table)]
    pub format: ListFormat,
    /// The container
    #[arg(value_name = "ID")]
    pub id: String,
    /// Options of ps(1) for the table, such as `-o pid,args` [default: -ef]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PS OPTIONS")]
    pub options: Vec<OsString>,
}

/// What `amber list` takes.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// How it is printed
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = ListFormat::Table)]
    pub format: ListFormat,
    /// Only the names
    #[arg(short, long)]
    pub quiet: bool,
}

/// What `amber events` takes.
#[derive(Args, Clone, Debug)]
pub struct EventsArgs {
    /// Time between two reports, such as 5s
    #[arg(long, value_name = "TIME", default_value = "5s")]
    pub interval: humantime::Duration,
    /// Print one report and end
    #[arg(long)]
    pub stats: bool,
    /// The container
    #[arg(value_name = "ID")]
    pub id: String,
}

/// What `amber update` takes.
#[derive(Args, Clone, Debug)]
pub struct UpdateArgs {
    /// Take all limits from this file, in the form of `linux.resources` in config.json; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    pub resources: Option<PathBuf>,
    /// Weight of the container's block I/O, from 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<u16>,
    /// Period in microseconds in which the quota is counted
    #[arg(long, value_name = "USEC")]
    pub cpu_period: Option<u64>,
    /// CPU time in microseconds that the container may use in a period
    #[arg(long, value_name = "USEC", allow_hyphen_values = true)]
    pub cpu_quota: Option<i64>,
    /// CPU time in microseconds that may be saved up beyond the quota
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
    /// Time of realtime scheduling in a period in microseconds
    #[arg(long, value_name = "USEC", allow_hyphen_values = true)]
    pub cpu_rt_runtime: Option<i64>,
    /// The CPUs to use
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// The memory nodes to use
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Accepted for programs that call runc; the limit of memory counts the sentry's objects
    #[arg(long, value_name = "BYTES", hide = true)]
    pub kernel_memory: Option<String>,
    /// Accepted for programs that call runc; the limit of memory counts the sentry's objects
    #[arg(long, value_name = "BYTES", hide = true)]
    pub kernel_memory_tcp: Option<String>,
    /// Refused, as by runc on hosts without Intel RDT
    #[arg(long, value_name = "SCHEMA", hide = true)]
    pub l3_cache_schema: Option<String>,
    /// Refused, as by runc on hosts without Intel RDT
    #[arg(long, value_name = "SCHEMA", hide = true)]
    pub mem_bw_schema: Option<String>,
    /// Limit of memory, such as 512m
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory: Option<String>,
    /// Soft limit of memory
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_reservation: Option<String>,
    /// Limit of memory and swap together; -1 for none
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Limit of tasks
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    /// The container
    #[arg(value_name = "ID")]
    pub id: String,
}

/// What `amber spec` takes.
#[derive(Args, Clone, Debug)]
pub struct SpecArgs {
    /// The directory in which to write it
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Write one that works without root
    #[arg(long = "rootless")]
    pub for_ordinary_user: bool,
}

/// What commands take that only say that they do not work yet.
#[derive(Args, Clone, Debug)]
pub struct UnsupportedArgs {
    /// Anything
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<OsString>,
}

/// Programs that run containers with a runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// Docker, by /etc/docker/daemon.json
    Docker,
    /// Podman, by a file in /etc/containers/containers.conf.d
    Podman,
    /// containerd for Kubernetes, by /etc/containerd/config.toml
    Containerd,
}

/// What `amber install` and `amber uninstall` take.
#[derive(Args, Clone, Debug)]
pub struct InstallArgs {
    /// The engines to configure [default: those that are installed]
    #[arg(value_enum, value_name = "ENGINE")]
    pub engines: Vec<Engine>,
    /// Change the files below this directory instead of `/`
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub prefix: PathBuf,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Only show what would be changed
    #[arg(long)]
    pub dry_run: bool,
}
