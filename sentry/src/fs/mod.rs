//! The file systems, and the kinds of files that lie in none.

pub mod boot;
mod copy;
pub mod dev;
pub mod devpts;
pub mod eventfd;
pub mod host_stream;
mod host_terminal;
pub mod hostfs;
pub mod hostkernel;
pub mod inherited;
pub mod mqueue;
pub mod overlay;
pub mod pipe;
pub mod proc;
pub mod pseudo;
pub mod signalfd;
pub mod sys;
pub mod timerfd;
pub mod tmpfs;
