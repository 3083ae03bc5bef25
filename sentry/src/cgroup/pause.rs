//! Pausing: a paused guest runs no code until it is resumed, as under the freezer of cgroups(7). Clocks and timers
//! continue; events of the meantime are handled afterwards.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::kernel::Kernel;
use crate::task::{Activity, TaskContext};
use crate::wait::WaitQueue;

/// Interval and time limit of the wait until all tasks have stopped.
const GLANCE: Duration = Duration::from_micros(200);
const TIMEOUT: Duration = Duration::from_secs(2);

/// Whether the guest is paused.
#[derive(Default)]
pub(crate) struct Pause {
    paused: AtomicBool,
    resumed: WaitQueue,
}

impl Pause {
    /// Whether the guest is paused.
    pub(crate) fn is_on(&self) -> bool {
        self.paused.load(Ordering::SeqCst)
    }

    /// Waits while the guest is paused. Called by each task before it runs guest code. A killed task continues.
    #[inline]
    pub(crate) fn wait_while_frozen(&self, ctx: &TaskContext) {
        if self.is_on() {
            // A task killed meanwhile runs no guest code either.
            let _ = ctx.wait_killable(&self.resumed, || (!self.is_on()).then_some(()));
        }
    }

    /// Pauses the guest; returns when all tasks have stopped.
    pub(crate) fn begin(&self, kernel: &Kernel) {
        self.paused.store(true, Ordering::SeqCst);
        let since = Instant::now();
        // Tasks about to run guest code stop as well; tasks that are not in the table yet check for a pause first.
        kernel.processes.lock().tasks().for_each(|task| task.interrupt());
        loop {
            let running: Vec<_> = {
                let table = kernel.processes.lock();
                table.tasks().filter(|task| task.activity() == Activity::Guest && !task.has_ended()).cloned().collect()
            };
            running.iter().for_each(|task| task.interrupt());
            if running.is_empty() || since.elapsed() > TIMEOUT || !self.is_on() {
                return;
            }
            std::thread::park_timeout(GLANCE);
        }
    }

    /// Resumes the guest.
    pub(crate) fn end(&self) {
        self.paused.store(false, Ordering::SeqCst);
        self.resumed.notify_all();
    }
}
