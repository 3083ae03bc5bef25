//! What a sandbox shall be: the form into which `do` and `run` bring their input, before anything is started.

use std::ffi::OsString;
use std::path::PathBuf;

/// A whole sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxSpec {
    /// The guest's node name.
    pub hostname: String,
    /// What is mounted where, in order; the root is first.
    pub mounts: Vec<MountSpec>,
    /// The first process.
    pub process: ProcessSpec,
    /// Paths that look empty to the guest.
    pub masked_paths: Vec<PathBuf>,
    /// Paths the guest cannot change.
    pub readonly_paths: Vec<PathBuf>,
    /// Values for `/proc/sys`, by dotted name.
    pub sysctls: Vec<(String, String)>,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSpec {
    /// Absolute path in the guest.
    pub destination: PathBuf,
    /// The file system.
    pub kind: MountKind,
    /// How it is mounted.
    pub flags: MountFlags,
}

/// A file system and what it needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// A directory or file of the host.
    Host(PathBuf),
    /// A host directory that stays as it is, below a layer in memory that takes all changes.
    Overlay(PathBuf),
    /// Files in memory.
    Tmpfs(TmpfsOptions),
    /// Files in memory, with the standard device nodes in place: what is mounted on `/dev`.
    Devices(TmpfsOptions),
    /// The process file system.
    Proc,
    /// The kernel's objects.
    Sysfs,
    /// Pseudo terminals.
    Devpts(DevptsOptions),
    /// POSIX message queues.
    Mqueue,
}

/// Options of a tmpfs; `None` stands for Linux's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TmpfsOptions {
    /// Most bytes of file contents.
    pub size: Option<TmpfsSize>,
    /// Most inodes.
    pub inodes: Option<u64>,
    /// Permission bits of the root directory.
    pub mode: Option<u32>,
    /// Owner of the root directory.
    pub uid: Option<u32>,
    /// Group of the root directory.
    pub gid: Option<u32>,
}

/// A limit on the contents of a tmpfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TmpfsSize {
    /// So many bytes; 0 means no limit.
    Bytes(u64),
    /// So many hundredths of the guest's memory.
    Percent(u64),
}

/// Options of a devpts; `None` stands for Linux's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DevptsOptions {
    /// Owner of new terminals; else the process that opens them.
    pub uid: Option<u32>,
    /// Group of new terminals; else that of the process that opens them.
    pub gid: Option<u32>,
    /// Permission bits of new terminals.
    pub mode: Option<u32>,
    /// Permission bits of `/dev/pts/ptmx`.
    pub ptmx_mode: Option<u32>,
}

/// How a file system is mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountFlags {
    /// Nothing can be changed.
    pub read_only: bool,
    /// Set-user-ID and file capabilities are ignored.
    pub nosuid: bool,
    /// Device nodes cannot be opened.
    pub nodev: bool,
    /// Programs cannot be executed.
    pub noexec: bool,
    /// Access times are not kept at all.
    pub noatime: bool,
    /// Access times of directories are not kept.
    pub nodiratime: bool,
    /// Access times are kept always, not only where they tell something new.
    pub strictatime: bool,
}

/// The first process of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSpec {
    /// The program, looked up in the guest's `PATH` if it has no slash, and its arguments.
    pub args: Vec<OsString>,
    /// Environment entries, `NAME=VALUE`.
    pub env: Vec<OsString>,
    /// Absolute working directory in the guest.
    pub cwd: PathBuf,
    /// User, group and additional groups.
    pub user: Credentials,
    /// Capability sets.
    pub capabilities: CapabilitySets,
    /// Resource limits that differ from the kernel's defaults.
    pub rlimits: Vec<Rlimit>,
    /// Whether `execve` may not add privileges.
    pub no_new_privs: bool,
    /// File mode creation mask.
    pub umask: u32,
    /// Whether a terminal of the guest is its controlling terminal and its standard input and output.
    pub terminal: bool,
}

/// Who a process is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User ID.
    pub uid: u32,
    /// Group ID.
    pub gid: u32,
    /// Further groups.
    pub additional_gids: Vec<u32>,
}

/// Capability sets, each with bit *n* for the capability with number *n*.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilitySets {
    /// What can be gained by `execve` at all.
    pub bounding: u64,
    /// What permission checks see.
    pub effective: u64,
    /// What is kept over an `execve` of a file that allows it.
    pub inheritable: u64,
    /// What can be made effective.
    pub permitted: u64,
    /// What is kept over any unprivileged `execve`.
    pub ambient: u64,
}

impl CapabilitySets {
    /// Every capability of Linux 6.12: numbers 0 to 40.
    pub const ALL: u64 = (1 << 41) - 1;

    /// The sets of a process of that user that was born with nothing taken away.
    pub fn for_user(uid: u32) -> Self {
        let held = if uid == 0 { Self::ALL } else { 0 };
        CapabilitySets { bounding: Self::ALL, effective: held, permitted: held, inheritable: 0, ambient: 0 }
    }
}

/// A resource limit. `u64::MAX` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// The number of the resource (`RLIMIT_*`).
    pub resource: u32,
    /// What is enforced.
    pub soft: u64,
    /// How far the soft limit can be raised.
    pub hard: u64,
}
