//! Calls on files and file systems.

pub mod anonymous;
pub mod attributes;
pub mod buffers;
pub mod content;
pub mod descriptor;
pub mod directory;
pub mod epoll;
pub mod eventfd;
pub mod fcntl;
pub mod inotify;
pub mod ioctl;
pub mod memfd;
pub mod mount;
pub mod mqueue;
pub mod names;
pub mod open;
pub mod pipe;
pub mod poll;
pub mod rw;
pub mod select;
pub mod signalfd;
pub mod splice;
pub mod stat;
pub mod support;
pub mod timerfd;
pub mod xattr;
