//! The file systems, and the kinds of files that lie in none.

pub mod copy;
pub mod dev;
pub mod eventfd;
pub mod host_stream;
pub mod hostfs;
pub mod hostkernel;
pub mod mqueue;
pub mod overlay;
pub mod pipe;
pub mod proc;
pub mod pseudo;
pub mod signalfd;
pub mod special;
pub mod sys;
pub mod timerfd;
pub mod tmpfs;
