//! Descriptors that refer to a process or a thread.

use std::any::Any;
use std::sync::Arc;

use amber_abi::open::OpenFlags;
use amber_abi::poll::PollEvents;

use crate::task::Task;
use crate::vfs::{File, FileDescription, Inode};
use crate::wait::WaitQueue;

/// A pidfd: readable once its process is a zombie or, for a thread's, the thread has ended.
pub(crate) struct PidFd {
    task: Arc<Task>,
    pid: i32,
    thread: bool,
}

impl PidFd {
    /// A description for a task's process or, with `thread`, for the thread alone.
    pub(crate) fn describe(task: Arc<Task>, thread: bool, nonblocking: bool) -> Arc<FileDescription> {
        let pid = task.tid();
        let mut flags = OpenFlags::O_RDWR;
        flags.set(OpenFlags::O_NONBLOCK, nonblocking);
        let vfs = task.kernel().vfs.clone();
        FileDescription::new(&vfs, Arc::new(PidFd { task, pid, thread }), None, flags)
    }

    /// The task, which may have ended.
    pub(crate) fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// The ID with which it was opened.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it refers to the thread alone.
    pub(crate) fn is_thread(&self) -> bool {
        self.thread
    }

    fn has_ended(&self) -> bool {
        if self.thread { self.task.has_ended() } else { self.task.group().task_count() == 0 }
    }

    /// Whether it was waited for, so that only the descriptor refers to it.
    pub(crate) fn is_gone(&self) -> bool {
        if self.thread {
            let table = self.task.kernel().processes.lock();
            table.task(self.task.tid()).is_none_or(|t| !Arc::ptr_eq(t, &self.task))
        } else {
            Self::is_reaped(&self.task)
        }
    }

    /// Whether the process of a task was waited for.
    pub(crate) fn is_reaped(task: &Task) -> bool {
        // Looked up anew, since another thread that executes a program becomes the leader.
        let group = task.group();
        task.kernel().processes.lock().process(group.pid()).is_none_or(|p| !Arc::ptr_eq(&p.group, group))
    }
}

impl File for PidFd {
    fn inode(&self) -> Arc<dyn Inode> {
        self.task.kernel().vfs.anonymous.inode()
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn poll(&self) -> PollEvents {
        let mut events = PollEvents::empty();
        events.set(PollEvents::POLLIN | PollEvents::POLLRDNORM, self.has_ended());
        events.set(PollEvents::POLLHUP, self.has_ended() && self.is_gone());
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(self.task.group().ended())
    }

    fn fdinfo(&self) -> String {
        let pid = if self.is_gone() { -1 } else { self.pid };
        format!("Pid:\t{pid}\nNSpid:\t{pid}\n")
    }

    fn link_text(&self) -> Option<String> {
        Some("anon_inode:[pidfd]".to_owned())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
