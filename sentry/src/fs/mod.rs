//! Files: inodes, names, mounts, descriptions, and the file systems.

pub mod anon;
pub mod epoll;
pub mod eventfd;
mod fd_table;
mod file;
mod inode;
pub mod pipe;

pub use fd_table::{FdTable, ReservedFd};
pub use file::{CHANGEABLE, File, FileDescription};
pub use inode::{DirectoryEntry, DirectorySink, FileSystem, Inode, Metadata, NewInode, SetAttributes, SetTime};

/// A place in the tree of mounts: a name on a mount.
#[derive(Clone)]
pub struct Path {}
