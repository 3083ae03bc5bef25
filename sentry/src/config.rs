//! The configuration of a sandbox, which the runtime passes to [`Sandbox::boot`](crate::sandbox::Sandbox::boot).

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use amber_abi::capability::CapabilitySet;
use amber_host::trees::{HostTrees, is_tree};

use crate::id_map::IdMaps;
use crate::profile::KernelProfile;

/// The configuration of a sandbox.
pub struct SandboxConfig {
    /// The Linux release that the guest sees.
    pub profile: KernelProfile,
    /// The host name.
    pub hostname: String,
    /// The NIS domain, if any.
    pub domainname: Option<String>,
    /// The mounts, in order; the first is the root.
    pub mounts: Vec<MountSpec>,
    /// Host trees opened in advance. Others are looked up by path when they are mounted.
    pub trees: HostTrees,
    /// Guest paths to hide behind empty, unreadable files or directories (`linux.maskedPaths`).
    pub masked_paths: Vec<String>,
    /// Guest paths to make read-only (`linux.readonlyPaths`).
    pub readonly_paths: Vec<String>,
    /// Kernel parameters to set, such as `net.core.somaxconn` → `512`.
    pub sysctls: Vec<(String, String)>,
    /// The network of AF_INET and AF_INET6.
    pub network: NetworkKind,
    /// The user and group IDs that the guest has.
    pub id_maps: IdMaps,
    /// The first process.
    pub process: ProcessSpec,
    /// Whether to create its working directory, if missing, also in a read-only root.
    pub make_cwd: bool,
    /// The initial descriptors of the first process.
    pub descriptors: Descriptors,
    /// The host's terminal, as the controlling terminal of the first session if the guest gets no console.
    pub controlling_terminal: Option<OwnedFd>,
    /// The system calls that the guest may make, in addition to its own filters.
    pub seccomp: Option<SeccompProfile>,
    /// Device nodes in addition to the standard ones.
    pub devices: Vec<DeviceSpec>,
    /// The limits of the sandbox.
    pub limits: Limits,
    /// The system calls to trace, if any.
    pub trace: Option<TraceFilter>,
}

/// The network of the sandbox's AF_INET and AF_INET6 sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkKind {
    /// A loopback interface inside the sandbox.
    #[default]
    Loopback,
    /// The network namespace of Amber's own process: the sockets are sockets of the host.
    Host,
    /// The same, if that namespace is the sandbox's own: the guest has a container's rights there.
    Namespace,
}

/// Host descriptors to give to the guest under their index in the list. For missing ones of 0, 1 and 2 the guest gets
/// its console, if it has one. A directory must be a [tree](amber_host::trees::is_tree), since the guest can name
/// everything in it.
pub type Descriptors = Vec<Option<OwnedFd>>;

impl SandboxConfig {
    /// An empty sandbox for this process, on the newest Linux, without limits.
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
            id_maps: IdMaps::default(),
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

    /// Whether the guest can write to host files.
    pub fn changes_host_files(&self) -> bool {
        let changed = |mount: &MountSpec| matches!(mount.source, MountSource::Host(_)) && !mount.read_only;
        self.mounts.iter().any(changed) || self.descriptors.iter().flatten().any(|file| is_tree(file.as_fd()))
    }
}

/// Rules for system calls. Answers are return values of seccomp(2) filters: an action, with its data in the lower half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeccompProfile {
    /// The answer for calls without a rule.
    pub default: u32,
    /// A number, and the answer for calls above it: calls newer than the profile.
    pub newer: Option<(u32, u32)>,
    /// The rules; among those for a call, the first whose conditions hold applies.
    pub rules: Vec<SeccompRule>,
}

/// A rule for one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeccompRule {
    /// The number of the call on x86-64.
    pub number: u32,
    /// Conditions that must all hold, at most six. A rule without conditions precedes others for the same call.
    pub conditions: Vec<SeccompCondition>,
    /// The answer.
    pub answer: u32,
}

/// A condition on an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeccompCondition {
    /// The index of the argument, 0 to 5.
    pub argument: u8,
    /// The test.
    pub test: SeccompTest,
}

/// A test of an argument as an unsigned number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeccompTest {
    /// Equal.
    Equal(u64),
    /// Not equal.
    NotEqual(u64),
    /// Less.
    Less(u64),
    /// Less or equal.
    LessOrEqual(u64),
    /// Greater.
    Greater(u64),
    /// Greater or equal.
    GreaterOrEqual(u64),
    /// The argument, masked by the first value, equals the second.
    Masked(u64, u64),
}

/// A node of a character device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSpec {
    /// The guest path.
    pub path: String,
    /// The major number.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
    /// The permission bits.
    pub permissions: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// The limits of all processes of a sandbox together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory in bytes: of processes, files in memory and cached files. Beyond it, cached files are evicted, then
    /// processes are killed. The host's limit must be higher, since Amber's own memory is not included.
    pub memory: Option<u64>,
    /// Number of tasks; another one is refused with `EAGAIN`.
    pub tasks: Option<u64>,
    /// The CPU quota. The host enforces it; the guest only sees it.
    pub cpu: Option<CpuQuota>,
}

/// A CPU quota over all CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuQuota {
    /// CPU time per period in microseconds.
    pub quota: u64,
    /// The period in microseconds.
    pub period: u64,
}

/// The system calls that `--strace` prints, and the destination.
pub struct TraceFilter {
    /// Names of calls; empty for all.
    pub names: Vec<String>,
    /// The destination.
    pub sink: Box<dyn std::io::Write + Send>,
}

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSpec {
    /// The mount point, as a guest path; created if missing.
    pub target: String,
    /// The file system.
    pub source: MountSource,
    /// `MS_RDONLY`.
    pub read_only: bool,
    /// `MS_NOSUID`.
    pub no_suid: bool,
    /// `MS_NODEV`.
    pub no_dev: bool,
    /// `MS_NOEXEC`.
    pub no_exec: bool,
}

impl MountSpec {
    /// A mount without restrictions.
    pub fn new(target: &str, source: MountSource) -> MountSpec {
        MountSpec { target: target.into(), source, read_only: false, no_suid: false, no_dev: false, no_exec: false }
    }
}

/// The kind of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSource {
    /// A host directory, or a file for a bind mount of a file.
    Host(PathBuf),
    /// A host directory, read-only, under a layer in memory that takes all changes.
    Overlay(PathBuf),
    /// A file system in memory, with its mount(8) options such as `size=64m,mode=1777`.
    Tmpfs(String),
    /// The same, with a copy of the directory beneath.
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

/// User and group IDs as in the OCI specification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserSpec {
    /// User ID.
    pub uid: u32,
    /// Group ID.
    pub gid: u32,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
}

/// The capability sets with which a program is executed. The sets that it then has follow from execve(2).
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "the fields carry the names of capabilities(7)")]
pub struct CapabilitySpec {
    pub bounding: CapabilitySet,
    pub effective: CapabilitySet,
    pub inheritable: CapabilitySet,
    pub permitted: CapabilitySet,
    pub ambient: CapabilitySet,
}

/// A process started from outside, as `process` in the OCI specification.
#[derive(Clone, Debug)]
pub struct ProcessSpec {
    /// The program, if it differs from the first of `args`.
    pub program: Option<OsString>,
    /// The arguments. The first is the program, which is searched in the `PATH` of `env` unless it has a slash.
    pub args: Vec<OsString>,
    /// `NAME=VALUE` each.
    pub env: Vec<OsString>,
    /// Absolute guest path.
    pub cwd: PathBuf,
    /// Its user and groups.
    pub user: UserSpec,
    /// The file mode creation mask.
    pub umask: u32,
    /// The capability sets with which it is executed.
    pub capabilities: CapabilitySpec,
    /// Resource limits: RLIMIT_ number, soft, hard (`u64::MAX` is infinity). The others are Linux's defaults.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// Whether execve(2) grants no privileges.
    pub no_new_privs: bool,
    /// Signals without a handler are ignored, as for a container's first process; SIGKILL and SIGSTOP take effect only
    /// from outside.
    pub protected: bool,
    /// The adjustment for the OOM killer, from -1000 to 1000 (`oom_score_adj`).
    pub oom_score_adj: i32,
    /// A new terminal of this size (rows, columns) for descriptors 0, 1, 2 and as the controlling terminal.
    pub terminal: Option<(u16, u16)>,
}

impl ProcessSpec {
    /// A process of root with all capabilities, in `/` and with an empty environment.
    pub fn of_root(args: Vec<OsString>) -> ProcessSpec {
        let all = CapabilitySet::ALL;
        ProcessSpec {
            program: None,
            args,
            env: Vec::new(),
            cwd: "/".into(),
            user: UserSpec::default(),
            umask: 0o22,
            capabilities: CapabilitySpec { bounding: all, effective: all, permitted: all, ..CapabilitySpec::default() },
            rlimits: Vec::new(),
            no_new_privs: false,
            protected: false,
            oom_score_adj: 0,
            terminal: None,
        }
    }
}

/// The end of a process; the end of the first one is that of the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// By exit(2), with this status.
    Exited(u8),
    /// By this signal.
    Signaled(i32),
}

/// Why a sandbox did not start. The message is one line that names the object.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The program is not in the root file system (a shell's status 127).
    #[error("{program}: {reason}")]
    NotFound {
        /// The name of the program.
        program: String,
        /// What is missing, and where it was searched.
        reason: String,
    },
    /// The program is there but cannot be executed (a shell's status 126).
    #[error("{program}: {reason}")]
    NotExecutable {
        /// The name of the program.
        program: String,
        /// The reason: permission, another machine's binary, a missing interpreter, a malformed file.
        reason: String,
    },
    /// A mount could not be made.
    #[error("mounting {target}: {reason}")]
    Mount {
        /// The guest path.
        target: String,
        /// The reason.
        reason: String,
    },
    /// Another error of the configuration.
    #[error("{0}")]
    Config(String),
    /// The host failed.
    #[error(transparent)]
    Host(#[from] amber_platform::PlatformError),
}
