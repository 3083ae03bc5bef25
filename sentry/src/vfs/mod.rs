//! The virtual file system: inodes, dentries, mounts, open files and their operations, independent of the file system.

pub(crate) mod access;
pub(crate) mod acl;
pub(crate) mod anon;
mod attribute_locks;
pub(crate) mod attributes;
mod caller;
mod context;
mod dentry;
pub(crate) mod epoll;
mod fd_table;
mod file;
mod inode;
pub(crate) mod inotify;
pub(crate) mod locks;
mod mount;
pub(crate) mod mount_context;
mod mount_namespace;
pub(crate) mod mounting;
pub(crate) mod namei;
pub(crate) mod notify;
pub(crate) mod open;
pub(crate) mod program;
pub(crate) mod propagation;
pub(crate) mod sigio;
mod state;
pub(crate) mod text_busy;
mod tree_changes;
pub(crate) mod types;
pub(crate) mod walk;

use amber_abi::time::Timespec;

pub(crate) use caller::Caller;
pub(crate) use context::FsContext;
pub(crate) use dentry::Dentry;
pub(crate) use fd_table::FdTable;
pub(crate) use file::{File, FileDescription, OwnPosition};
pub(crate) use inode::{DirectoryEntry, DirectorySink, FileSystem, Inode, Metadata, NewInode, SetAttributes, SetTime};
pub(crate) use mount::{Mount, MountOptions, Path, Propagation, SuperBlock, Writer};
pub(crate) use mount_namespace::MountNamespace;
pub(crate) use state::Vfs;

/// The current time, for time stamps.
pub(crate) fn now() -> Timespec {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timespec { tv_sec: since.as_secs() as i64, tv_nsec: i64::from(since.subsec_nanos()) }
}
