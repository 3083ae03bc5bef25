//! Files: inodes, names, mounts, descriptions, and the file systems.

pub mod access;
pub mod anon;
pub mod attributes;
pub mod boot;
pub mod change;
mod context;
mod copy;
pub(crate) mod dentry;
pub mod dev;
pub mod devpts;
pub mod epoll;
pub mod eventfd;
mod fd_table;
mod file;
pub mod host_stream;
mod host_terminal;
pub mod hostfs;
pub mod hostkernel;
pub mod inherited;
mod inode;
pub mod inotify;
pub mod locks;
mod mount;
pub mod mount_context;
pub mod mounting;
pub mod mqueue;
pub mod notify;
pub mod open;
pub mod overlay;
pub mod pipe;
pub mod proc;
pub mod program;
pub mod propagation;
pub mod pseudo;
pub mod sigio;
pub mod signalfd;
pub mod special;
pub mod sys;
pub mod text_busy;
pub mod timerfd;
pub mod tmpfs;
pub mod types;
pub mod walk;

use std::sync::atomic::{AtomicU32, Ordering};

use amber_abi::stat::Device;
use amber_abi::time::Timespec;

pub use context::FsContext;
pub use dentry::Dentry;
pub use fd_table::{FdTable, ReservedFd};
pub use file::{CHANGEABLE, File, FileDescription, OwnPosition, open_files};
pub use inode::{DirectoryEntry, DirectorySink, FileSystem, Inode, Metadata, NewInode, SetAttributes, SetTime};
pub use mount::{Mount, MountNamespace, MountOptions, Path, Propagation, SuperBlock, Writer};

/// A device number for a file system that is on no device: major 0, a fresh minor.
pub fn anonymous_device() -> Device {
    static NEXT: AtomicU32 = AtomicU32::new(20);
    Device::new(0, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The time stamp of what happens now.
pub fn now() -> Timespec {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timespec { tv_sec: since.as_secs() as i64, tv_nsec: i64::from(since.subsec_nanos()) }
}
