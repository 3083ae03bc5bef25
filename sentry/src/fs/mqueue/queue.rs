//! A message queue: messages by priority, waiting receivers, and the registration for notification.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use amber_abi::Signal;
use amber_abi::errno::Errno;
use amber_abi::poll::PollEvents;
use amber_abi::siginfo::{SI_MESGQ, SigInfo};

use super::Size;
use crate::signal::OutgoingSignal;
use crate::sync::{Mutex, Rank};
use crate::task::ThreadGroup;
use crate::wait::{READABLE, WRITABLE, WaitQueue};

/// The registration of a process for notification of a message in the empty queue (mq_notify(3)).
#[derive(Clone)]
pub(crate) struct Registration {
    /// The process.
    pub group: Weak<ThreadGroup>,
    /// The signal with its value; none for a registration without notification (`SIGEV_NONE`).
    pub signal: Option<(Signal, u64)>,
    /// The [program](ThreadGroup::programs) that registered; a program executed later gets no signal.
    pub program: u64,
}

#[derive(Default)]
struct State {
    messages: BTreeMap<Reverse<u32>, VecDeque<Vec<u8>>>,
    count: u64,
    bytes: u64,
    receivers: usize,
    registration: Option<Registration>,
}

impl State {
    /// The registration, unless its process has ended.
    fn live_registration(&mut self) -> Option<(Arc<ThreadGroup>, Registration)> {
        let group = self.registration.as_ref()?.group.upgrade().filter(|group| group.task_count() > 0);
        match group {
            Some(group) => Some((group, self.registration.clone()?)),
            None => {
                self.registration = None;
                None
            }
        }
    }
}

/// A queue.
pub(crate) struct Queue {
    size: Size,
    state: Mutex<State>,
    changed: WaitQueue,
}

impl Queue {
    /// Makes an empty queue.
    pub(super) fn new(size: Size) -> Arc<Self> {
        // The registered process's state is read under this lock.
        Arc::new(Queue { size, state: Mutex::new(Rank::Terminal, State::default()), changed: WaitQueue::new() })
    }

    /// The capacity.
    pub(crate) fn size(&self) -> Size {
        self.size
    }

    /// The number of messages.
    pub(crate) fn count(&self) -> u64 {
        self.state.lock().count
    }

    /// The queue notified when messages are added or removed.
    pub(crate) fn changed(&self) -> &WaitQueue {
        &self.changed
    }

    /// Adds a message. If it is the first one and no receiver waits, notifies the registered process. `sender` is the
    /// PID and user ID in the signal.
    ///
    /// # Errors
    /// Returns the message if the queue is full.
    pub(crate) fn send(&self, message: Vec<u8>, priority: u32, sender: (i32, u32)) -> Result<(), Vec<u8>> {
        let told = {
            let mut state = self.state.lock();
            if state.count >= self.size.messages {
                return Err(message);
            }
            state.count += 1;
            state.bytes += message.len() as u64;
            state.messages.entry(Reverse(priority)).or_default().push_back(message);
            let first = state.count == 1 && state.receivers == 0;
            let told = if first { state.live_registration() } else { None };
            if told.is_some() {
                state.registration = None;
            }
            told
        };
        if let Some((group, Registration { signal: Some((signal, value)), program, .. })) = told {
            let (pid, uid) = sender;
            let info = SigInfo::queue(signal, SI_MESGQ, pid, uid, value);
            // If its queue of signals is full, the signal is lost, as on Linux.
            let _ = group.send(OutgoingSignal::new(signal, info).for_program(program));
        }
        self.changed.notify(READABLE);
        Ok(())
    }

    /// Removes the oldest message of the highest priority.
    pub(crate) fn receive(&self) -> Option<(Vec<u8>, u32)> {
        let found = {
            let mut state = self.state.lock();
            let mut entry = state.messages.first_entry()?;
            let Reverse(priority) = *entry.key();
            let message = entry.get_mut().pop_front();
            if entry.get().is_empty() {
                entry.remove();
            }
            let message = message?;
            state.count -= 1;
            state.bytes -= message.len() as u64;
            (message, priority)
        };
        self.changed.notify(WRITABLE);
        Some(found)
    }

    /// Counts a waiting receiver, until the result is dropped.
    pub(crate) fn begin_waiting(&self) -> Waiting<'_> {
        self.state.lock().receivers += 1;
        Waiting(self)
    }

    /// Registers a process for notification.
    ///
    /// # Errors
    /// `EBUSY` if a process is registered.
    pub(crate) fn register(&self, registration: Registration) -> Result<(), Errno> {
        let mut state = self.state.lock();
        if state.live_registration().is_some() {
            return Err(Errno::EBUSY.here());
        }
        state.registration = Some(registration);
        Ok(())
    }

    /// Removes a process's registration, if it has one.
    pub(crate) fn unregister(&self, group: &Arc<ThreadGroup>) {
        let mut state = self.state.lock();
        if state.registration.as_ref().is_some_and(|r| std::ptr::eq(r.group.as_ptr(), Arc::as_ptr(group))) {
            state.registration = None;
        }
    }

    /// The operations that would not block.
    pub(crate) fn poll(&self) -> PollEvents {
        let count = self.count();
        let mut events = PollEvents::empty();
        events.set(READABLE, count > 0);
        events.set(WRITABLE, count < self.size.messages);
        events
    }

    /// The text of the queue's file.
    pub(crate) fn text(&self) -> String {
        let mut state = self.state.lock();
        let (notify, signal, pid) = match state.live_registration() {
            Some((group, Registration { signal: Some((signal, _)), .. })) => (0, signal.raw(), group.pid()),
            Some((group, _)) => (1, 0, group.pid()),
            None => (0, 0, 0),
        };
        format!("QSIZE:{:<10} NOTIFY:{notify:<5} SIGNO:{signal:<5} NOTIFY_PID:{pid:<6}\n", state.bytes)
    }
}

/// A waiting receiver.
pub(crate) struct Waiting<'a>(&'a Queue);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state.lock().receivers -= 1;
    }
}
