//! The virtual file system: inodes, dentries, mounts, open files and their operations, independent of the file system.

pub mod access;
pub mod acl;
pub mod anon;
mod attribute_locks;
pub mod attributes;
mod caller;
mod context;
mod dentry;
pub mod epoll;
mod fd_table;
mod file;
mod inode;
pub mod inotify;
pub mod locks;
mod mount;
pub mod mount_context;
mod mount_namespace;
pub mod mounting;
pub mod namei;
pub mod notify;
pub mod open;
pub mod program;
pub mod propagation;
pub mod sigio;
mod state;
pub mod text_busy;
mod tree_changes;
pub mod types;
pub mod walk;

use amber_abi::time::Timespec;

pub use caller::Caller;
pub use context::FsContext;
pub use dentry::Dentry;
pub use fd_table::{FdTable, ReservedFd};
pub use file::{CHANGEABLE, File, FileDescription, OwnPosition};
pub use inode::{DirectoryEntry, DirectorySink, FileSystem, Inode, Metadata, NewInode, SetAttributes, SetTime};
pub use mount::{Mount, MountOptions, Path, Propagation, SuperBlock, Writer};
pub use mount_namespace::MountNamespace;
pub use state::Vfs;

/// The current time, for time stamps.
pub fn now() -> Timespec {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timespec { tv_sec: since.as_secs() as i64, tv_nsec: i64::from(since.subsec_nanos()) }
}
