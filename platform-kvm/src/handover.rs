//! Handing calls over at the mailbox instead of leaving the machine with them, on hosts whose `syscall` stays in ring 3.
//!
//! There an exit costs as much as a hundred calls. So while a thread calls often, a second host thread, the runner, runs its
//! processor, and the thread's own one watches the mailbox: the guest writes its call there and waits in the guest, for
//! some 50 microseconds, until it is answered. Any exit ends that stay; then all is as if the thread ran the processor itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use amber_platform::Registers;

use crate::mailbox::Mailbox;
use crate::runner::{Runner, Stay, may_wait};

/// A runner that slept has begun within this time, if there is a host processor for it.
const WAKING: Duration = Duration::from_micros(500);
/// After so many looks at the mailbox there is one at the clock.
const LOOKS: u32 = 32;

/// A stretch in which another thread runs the context's processor.
pub struct Handover {
    /// The thread.
    pub runner: Arc<Runner>,
    /// Where the calls come.
    pub mailbox: Arc<Mailbox>,
    /// While the guest waits there for a result.
    pub waiting: Option<Waiting>,
}

/// A guest that waits at the mailbox, and the registers of its call.
pub struct Waiting {
    /// What to tell it by.
    pub stay: Arc<Stay>,
    /// Its registers.
    pub call: Registers,
}

impl Handover {
    /// Waits for a call, or until the guest leaves the machine.
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
    /// Whether a result is all that the guest needs to go on with these registers.
    pub fn fits(&self, r: &Registers) -> bool {
        let Registers { rax, rcx, r11, orig_rax, .. } = self.call;
        Registers { rax, rcx, r11, orig_rax, ..*r } == self.call
    }
}

/// How a thread that attends to the mailbox is done.
pub enum Attended {
    /// There is a call.
    Call,
    /// The guest left the machine; after so long that nobody expected a call any more, or not.
    Left {
        /// See above.
        late: bool,
    },
}
