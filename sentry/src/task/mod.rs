//! Tasks and thread groups.

mod context;
mod credentials;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use amber_platform::Interrupter;

use crate::fs::FdTable;
use crate::kernel::Kernel;
use crate::mm::MemoryManager;
use crate::sync::{Mutex, Rank};
use crate::wait::Parker;

pub use context::TaskContext;
pub use credentials::Credentials;

/// A guest thread.
pub struct Task {
    kernel: Arc<Kernel>,
    tid: AtomicI32,
    group: Arc<ThreadGroup>,
    memory: Mutex<Arc<MemoryManager>>,
    files: Mutex<Arc<FdTable>>,
    credentials: Mutex<Arc<Credentials>>,
    parker: Arc<Parker>,
    interrupter: Arc<dyn Interrupter>,
    /// Something waits for the task on its way back to the guest: a signal, a stop, its end.
    attention: AtomicBool,
}

/// A guest process: tasks that share signal handlers and a PID.
pub struct ThreadGroup {
    pid: i32,
}

impl ThreadGroup {
    /// The process's number.
    pub fn pid(&self) -> i32 {
        self.pid
    }
}

impl Task {
    /// The kernel it lives in.
    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// The thread's number.
    pub fn tid(&self) -> i32 {
        self.tid.load(Ordering::Relaxed)
    }

    /// The process it belongs to.
    pub fn group(&self) -> &Arc<ThreadGroup> {
        &self.group
    }

    /// Its memory.
    pub fn mm(&self) -> Arc<MemoryManager> {
        self.memory.lock().clone()
    }

    /// Its descriptors.
    pub fn files(&self) -> Arc<FdTable> {
        self.files.lock().clone()
    }

    /// Who it acts as.
    pub fn credentials(&self) -> Arc<Credentials> {
        self.credentials.lock().clone()
    }

    /// Where its host thread sleeps.
    pub fn parker(&self) -> &Arc<Parker> {
        &self.parker
    }

    /// Whether a wait must end early: a signal that is not blocked, a stop or the task's end is pending.
    pub fn is_interrupted(&self) -> bool {
        self.attention.load(Ordering::SeqCst)
    }

    /// Makes the task look at what is pending, wherever it is: in the guest, in a wait, or in a handler.
    pub fn request_attention(&self) {
        self.attention.store(true, Ordering::SeqCst);
        self.parker.unpark();
        self.interrupter.interrupt();
    }
}

impl Task {
    /// Makes a task without a thread yet.
    pub fn new(
        kernel: Arc<Kernel>,
        group: Arc<ThreadGroup>,
        tid: i32,
        memory: Arc<MemoryManager>,
        files: Arc<FdTable>,
        credentials: Arc<Credentials>,
        interrupter: Arc<dyn Interrupter>,
    ) -> Arc<Self> {
        Arc::new(Task {
            kernel,
            tid: AtomicI32::new(tid),
            group,
            memory: Mutex::new(Rank::Task, memory),
            files: Mutex::new(Rank::Task, files),
            credentials: Mutex::new(Rank::Task, credentials),
            parker: Arc::new(Parker::default()),
            interrupter,
            attention: AtomicBool::new(false),
        })
    }
}
