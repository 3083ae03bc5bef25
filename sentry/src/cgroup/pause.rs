//! Standing still: a paused guest runs none of its code until it is resumed, as under the freezer of cgroups(7). Clocks and
//! timers go on; what came meanwhile is met afterwards.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::kernel::Kernel;
use crate::task::{Activity, TaskContext};
use crate::wait::WaitQueue;

/// How often it is looked whether all stand still, and for how long at most.
const GLANCE: Duration = Duration::from_micros(200);
const TIMEOUT: Duration = Duration::from_secs(2);

/// Whether guest code may run.
#[derive(Default)]
pub struct Pause {
    paused: AtomicBool,
    resumed: WaitQueue,
}

impl Pause {
    /// Whether the guest is paused.
    pub fn is_on(&self) -> bool {
        self.paused.load(Ordering::SeqCst)
    }

    /// Called by each task before it runs guest code: waits while the guest is paused. A killed task goes on.
    #[inline]
    pub(crate) fn wait_while_frozen(&self, ctx: &TaskContext) {
        if self.is_on() {
            // Killed meanwhile: it does not come to run either.
            let _ = ctx.wait_killable(&self.resumed, || (!self.is_on()).then_some(()));
        }
    }

    /// Pauses the guest; returns when all stand still.
    pub(crate) fn begin(&self, kernel: &Kernel) {
        self.paused.store(true, Ordering::SeqCst);
        let since = Instant::now();
        // Who is about to run does not any more; who is not in the table yet meets the pause first.
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

    /// Lets the guest go on.
    pub(crate) fn end(&self) {
        self.paused.store(false, Ordering::SeqCst);
        self.resumed.notify_all();
    }
}
