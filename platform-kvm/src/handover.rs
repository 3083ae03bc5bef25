//! Hand-over of calls at the mailbox instead of by exits, on hosts where `syscall` stays in ring 3.
//!
//! An exit costs as much there as a hundred calls. So while a thread calls often, a second host thread, the runner,
//! runs its vCPU, and the thread itself polls the mailbox. The guest writes its call there and spins for the result,
//! for some 50 microseconds. Any exit ends the runner's turn; the thread then handles the exit as if it had run the
//! vCPU itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use amber_platform::Registers;

use crate::mailbox::Mailbox;
use crate::runner::{Runner, Stay, may_wait};

/// Longest time a sleeping runner takes to start if there is a host CPU for it.
const WAKING: Duration = Duration::from_micros(500);
/// Number of polls of the mailbox between two looks at the clock.
const LOOKS: u32 = 32;

/// A period in which a runner runs the context's vCPU.
pub struct Handover {
    /// The runner thread.
    pub runner: Arc<Runner>,
    /// The mailbox of the address space.
    pub mailbox: Arc<Mailbox>,
    /// Set while the guest waits for a result.
    pub waiting: Option<Waiting>,
}

/// A guest that waits at the mailbox.
pub struct Waiting {
    /// The run that it belongs to.
    pub stay: Arc<Stay>,
    /// The registers of its call.
    pub call: Registers,
}

impl Handover {
    /// Waits for a call or for an exit.
    pub fn wait(&self, stay: &Stay) -> Attended {
        let mut started = Instant::now();
        while !stay.has_begun() && started.elapsed() < WAKING {
            std::hint::spin_loop();
        }
        started = Instant::now();
        for i in 1u32.. {
            if self.mailbox.has_call() && stay.take_call() {
                return Attended::Call;
            }
            if stay.is_over() {
                return Attended::Left { late: false };
            }
            std::hint::spin_loop();
            if i.is_multiple_of(LOOKS) && !may_wait(started) {
                break;
            }
        }
        self.mailbox.turn_away();
        stay.sleep();
        Attended::Left { late: true }
    }
}

impl Waiting {
    /// Whether only the result of the call has changed in these registers.
    pub fn fits(&self, r: &Registers) -> bool {
        let Registers { rax, rcx, r11, orig_rax, .. } = self.call;
        Registers { rax, rcx, r11, orig_rax, ..*r } == self.call
    }
}

/// Why polling the mailbox ended.
pub enum Attended {
    /// There is a call.
    Call,
    /// The guest exited.
    Left {
        /// Whether it did so after polling had stopped for lack of calls.
        late: bool,
    },
}
