//! What a sandbox is made of: the runtime fills this in, [`Sandbox::boot`](crate::sandbox::Sandbox::boot) makes it.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use amber_abi::capability::CapabilitySet;
use amber_host::trees::{HostTrees, is_tree};

use crate::profile::KernelProfile;

/// Everything that makes one sandbox.
pub struct SandboxConfig {
    /// Which Linux the guest sees.
    pub profile: KernelProfile,
    /// What `uname -n` prints.
    pub hostname: String,
    /// The NIS domain, if any.
    pub domainname: Option<String>,
    /// What is mounted, in order; the first is the root.
    pub mounts: Vec<MountSpec>,
    /// Trees of the host that were opened beforehand; others are looked for by their paths when they are mounted.
    pub trees: HostTrees,
    /// Guest paths over which an unreadable emptiness is put (`linux.maskedPaths`).
    pub masked_paths: Vec<String>,
    /// Guest paths that become read-only (`linux.readonlyPaths`).
    pub readonly_paths: Vec<String>,
    /// Kernel parameters to set, such as `net.core.somaxconn` → `512`.
    pub sysctls: Vec<(String, String)>,
    /// What AF_INET and AF_INET6 reach.
    pub network: NetworkKind,
    /// The first process.
    pub process: ProcessSpec,
    /// Its working directory is made, also in a root that can only be read, unless it is there.
    pub make_cwd: bool,
    /// What the first process begins with.
    pub descriptors: Descriptors,
    /// The host's terminal as the controlling terminal of the first session, if the guest gets no console.
    pub controlling_terminal: Option<OwnedFd>,
    /// Which system calls the guest's programs may make, beside what they forbid themselves.
    pub seccomp: Option<SeccompProfile>,
    /// Device nodes beside the standard ones.
    pub devices: Vec<DeviceSpec>,
    /// What the processes of the sandbox may use together.
    pub limits: Limits,
    /// Which system calls to print, if any.
    pub trace: Option<TraceFilter>,
}

/// What the sandbox's sockets of AF_INET and AF_INET6 reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkKind {
    /// Each other, over a loopback inside the sandbox.
    #[default]
    Loopback,
    /// Whatever the network namespace of Amber's own process reaches: they are sockets of the host in it.
    Host,
    /// The same, where that namespace is the sandbox's own: the guest may do in it what a container may.
    Namespace,
}

/// Host descriptors that become those of the guest with the same place in the list, from 0 on. Where there is none, the
/// guest gets its console as 0, 1 and 2 if it has one, and nothing otherwise. A directory has to be a
/// [tree](amber_host::trees::is_tree), of which the guest can name everything.
pub type Descriptors = Vec<Option<OwnedFd>>;

impl SandboxConfig {
    /// A sandbox for this process that has nothing yet, on the newest Linux, without limits.
    pub fn new(process: ProcessSpec) -> SandboxConfig {
        SandboxConfig {
            profile: KernelProfile::default(),
            hostname: "amber".to_owned(),
            domainname: None,
            network: NetworkKind::default(),
            mounts: Vec::new(),
            trees: HostTrees::default(),
            masked_paths: Vec::new(),
            readonly_paths: Vec::new(),
            sysctls: Vec::new(),
            process,
            make_cwd: false,
            descriptors: Descriptors::default(),
            controlling_terminal: None,
            seccomp: None,
            devices: Vec::new(),
            limits: Limits::default(),
            trace: None,
        }
    }

    /// Whether the guest may change files of the host that it can name.
    pub fn changes_host_files(&self) -> bool {
        let changed = |mount: &MountSpec| matches!(mount.source, MountSource::Host(_)) && !mount.read_only;
        self.mounts.iter().any(changed) || self.descriptors.iter().flatten().any(|file| is_tree(file.as_fd()))
    }
}

/// Rules for system calls. Answers are those of seccomp(2)'s filters: an action, and its data in the lower half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeccompProfile {
    /// The answer for calls that no rule speaks of.
    pub default: u32,
    /// The answer for calls with numbers above this one: the profile's author did not know them.
    pub newer: Option<(u32, u32)>,
    /// The rules; of those for one call the first that applies counts.
    pub rules: Vec<SeccompRule>,
}

/// A rule for one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeccompRule {
    /// The call's number on x86-64.
    pub number: u32,
    /// What must all hold, six at most; a rule without conditions goes before others for the same call.
    pub conditions: Vec<SeccompCondition>,
    /// The answer.
    pub answer: u32,
}

/// What a rule wants of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeccompCondition {
    /// Which argument, 0 to 5.
    pub argument: u8,
    /// How it must be.
    pub test: SeccompTest,
}

/// How an argument must be, as a number without sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeccompTest {
    /// This.
    Equal(u64),
    /// Not this.
    NotEqual(u64),
    /// Below this.
    Less(u64),
    /// Not above this.
    LessOrEqual(u64),
    /// Above this.
    Greater(u64),
    /// Not below this.
    GreaterOrEqual(u64),
    /// Its bits under the first are the second.
    Masked(u64, u64),
}

/// A node of a character device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSpec {
    /// Where, as a guest path.
    pub path: String,
    /// Which device.
    pub major: u32,
    /// Which device.
    pub minor: u32,
    /// Its permissions.
    pub permissions: u16,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// What the processes of a sandbox may use together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of memory: of processes, files in memory and cached files. Beyond, cached files are given up, then
    /// processes are killed. The host must allow for more, since Amber's own memory does not count.
    pub memory: Option<u64>,
    /// The most tasks at once; one more is refused with `EAGAIN`.
    pub tasks: Option<u64>,
    /// The share of processor time, which the host enforces; guests only see it.
    pub cpu: Option<CpuQuota>,
}

/// A share of processor time: so many microseconds in each period, over all processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuQuota {
    /// Microseconds of processor time …
    pub quota: u64,
    /// … in so many microseconds.
    pub period: u64,
}

/// Which system calls `--strace` prints, and where.
pub struct TraceFilter {
    /// Names of calls; empty for all.
    pub names: Vec<String>,
    /// Where the lines go.
    pub sink: Box<dyn std::io::Write + Send>,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSpec {
    /// Where, as a guest path; made if it is not there.
    pub target: String,
    /// What.
    pub source: MountSource,
    /// No writing through this mount.
    pub read_only: bool,
    /// No set-user-ID on execution.
    pub no_suid: bool,
    /// No device nodes.
    pub no_dev: bool,
    /// No execution.
    pub no_exec: bool,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSource {
    /// A host directory (or, for a bind mount of a file, a file).
    Host(PathBuf),
    /// A host directory that is only read, under an in-memory layer that takes all changes.
    Overlay(PathBuf),
    /// A file system in memory, with its mount(8) options such as `size=64m,mode=1777`.
    Tmpfs(String),
    /// The same, with a copy of what is in the directory beneath.
    TmpfsCopy(String),
    /// `proc`.
    Proc,
    /// `sysfs`.
    Sys,
    /// A `tmpfs` with the standard device nodes and links.
    Dev,
    /// `devpts`, with its options.
    DevPts(String),
    /// `mqueue`.
    Mqueue,
    /// `cgroup2`: the sandbox's own group.
    Cgroup,
}

/// A user and group number as in the OCI specification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserSpec {
    /// User number.
    pub uid: u32,
    /// Group number.
    pub gid: u32,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
}

/// The capability sets with which a program is executed; those it then has follow from execve(2).
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "the fields carry the names of capabilities(7)")]
pub struct CapabilitySpec {
    pub bounding: CapabilitySet,
    pub effective: CapabilitySet,
    pub inheritable: CapabilitySet,
    pub permitted: CapabilitySet,
    pub ambient: CapabilitySet,
}

/// A process that is started from outside, as in the OCI specification's `process`.
#[derive(Clone, Debug)]
pub struct ProcessSpec {
    /// The program, if it is another than the first of `args`.
    pub program: Option<OsString>,
    /// The program and its arguments; a program without a slash is searched in the `PATH` of `env`.
    pub args: Vec<OsString>,
    /// `NAME=VALUE` each.
    pub env: Vec<OsString>,
    /// Absolute guest path.
    pub cwd: PathBuf,
    /// Whom it runs as.
    pub user: UserSpec,
    /// The mask for new files.
    pub umask: u32,
    /// The capabilities it is executed with.
    pub capabilities: CapabilitySpec,
    /// Resource limits: RLIMIT_ number, soft, hard (`u64::MAX` is infinity). The others are Linux's defaults.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// Executing gains no privileges.
    pub no_new_privs: bool,
    /// Signals for which it has no handler do not touch it, as those of a container's first process; SIGKILL and SIGSTOP
    /// reach it from outside only.
    pub protected: bool,
    /// How willingly it is killed when memory runs out, from -1000 to 1000 (`oom_score_adj`).
    pub oom_score_adj: i32,
    /// The process gets a new terminal of this size (rows, columns) as 0, 1, 2 and controlling terminal.
    pub terminal: Option<(u16, u16)>,
}

/// How a process ended; with the first one, the sandbox ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// By exit(2), with this status.
    Exited(u8),
    /// By this signal.
    Signaled(i32),
}

/// Why a sandbox did not start. Each prints as one line that names the thing.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The program is not in the root file system (a shell's status 127).
    #[error("{program}: {reason}")]
    NotFound {
        /// What was asked for.
        program: String,
        /// What was not found, and where it was looked for.
        reason: String,
    },
    /// The program is there but cannot be executed (a shell's status 126).
    #[error("{program}: {reason}")]
    NotExecutable {
        /// What was asked for.
        program: String,
        /// Why not: permission, another machine's binary, a missing interpreter, a malformed file.
        reason: String,
    },
    /// A mount could not be made.
    #[error("mounting {target}: {reason}")]
    Mount {
        /// The guest path.
        target: String,
        /// Why not.
        reason: String,
    },
    /// Something else in the configuration cannot be done.
    #[error("{0}")]
    Config(String),
    /// The host failed.
    #[error(transparent)]
    Host(#[from] amber_platform::PlatformError),
}
