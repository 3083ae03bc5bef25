//! Sending of signals to tasks and processes.

use std::sync::Arc;

use amber_abi::capability::Capability;
use amber_abi::siginfo::SI_USER;
use amber_abi::signal::{DefaultAction, SIG_DFL};
use amber_abi::task::{Resource, WaitStatus};
use amber_abi::{Errno, SigInfo, Signal, SignalSet};

use crate::credentials::Credentials;
use crate::signal::SignalSource;
use crate::task::{GroupState, StopNotice, Task, ThreadGroup};
use crate::users::Counted;

/// A signal to be sent.
#[derive(Clone)]
pub(crate) struct OutgoingSignal {
    signal: Signal,
    info: SigInfo,
    source: Option<Arc<dyn SignalSource>>,
    forced: bool,
    program: Option<u64>,
}

impl OutgoingSignal {
    /// A signal with its information.
    pub(crate) fn new(signal: Signal, info: SigInfo) -> Self {
        OutgoingSignal { signal, info, source: None, forced: false, program: None }
    }

    /// A signal from the kernel without further information.
    pub(crate) fn kernel(signal: Signal) -> Self {
        Self::new(signal, SigInfo::kernel(signal))
    }

    /// A signal with at most one pending instance; a second one is not queued.
    pub(crate) fn from_source(signal: Signal, info: SigInfo, source: Arc<dyn SignalSource>) -> Self {
        OutgoingSignal { signal, info, source: Some(source), forced: false, program: None }
    }

    /// Marks the signal as sent from outside the sandbox: SIGKILL and SIGSTOP then reach a protected first process too.
    pub(crate) fn forced(mut self) -> Self {
        self.forced = true;
        self
    }

    /// Restricts the signal to the process's present [program](ThreadGroup::programs), which requested it.
    pub(crate) fn for_program(mut self, program: u64) -> Self {
        self.program = Some(program);
        self
    }
}

/// Processes whose [`signal_queued`](ThreadGroup::signal_queued) or [`children_changed`](ThreadGroup::children_changed)
/// queues are to be notified once all locks are released.
#[derive(Default)]
#[must_use = "run it after releasing the locks"]
pub(crate) struct Wakes {
    signalled: Vec<Arc<ThreadGroup>>,
    children: Vec<Arc<ThreadGroup>>,
}

impl Wakes {
    /// Adds a change of a child of `parent`.
    pub(crate) fn child_changed(&mut self, parent: &Arc<ThreadGroup>) {
        self.children.push(parent.clone());
    }

    /// Notifies the queues; no lock may be held.
    pub(crate) fn run(self) {
        self.signalled.iter().for_each(|g| g.signal_queued().notify_all());
        self.children.iter().for_each(|g| g.children_changed().notify_all());
    }
}

impl ThreadGroup {
    /// Sends a signal to the process; any task that does not block it may take it.
    ///
    /// # Errors
    /// `EAGAIN` if the signal must be queued and the receiver's RLIMIT_SIGPENDING is used up.
    pub(crate) fn send(self: &Arc<Self>, outgoing: OutgoingSignal) -> Result<(), Errno> {
        let mut wakes = Wakes::default();
        let result = self.send_later(outgoing, &mut wakes);
        wakes.run();
        result
    }

    /// Like [`send`](Self::send), for a caller that holds the process table's lock and runs `wakes` later.
    pub(crate) fn send_later(self: &Arc<Self>, outgoing: OutgoingSignal, wakes: &mut Wakes) -> Result<(), Errno> {
        queue(self, &mut self.state(), None, outgoing, wakes)
    }

    /// Removes the pending instance of a source.
    pub(crate) fn forget_source(&self, source: &Arc<dyn SignalSource>) {
        let mut state = self.state();
        state.pending.remove_source(source);
        state.tasks.iter().for_each(|t| t.signals().pending.remove_source(source));
    }

    /// Whether an instance of a source is pending for the process or one of its tasks.
    pub(crate) fn has_source(&self, source: &Arc<dyn SignalSource>) -> bool {
        let state = self.state();
        state.pending.has_source(source) || state.tasks.iter().any(|t| t.signals().pending.has_source(source))
    }
}

impl Task {
    /// Sends a signal to this task.
    ///
    /// # Errors
    /// `EAGAIN` if the signal must be queued and RLIMIT_SIGPENDING is used up.
    pub(crate) fn send(self: &Arc<Self>, outgoing: OutgoingSignal) -> Result<(), Errno> {
        let mut wakes = Wakes::default();
        let result = queue(self.group(), &mut self.group().state(), Some(self), outgoing, &mut wakes);
        wakes.run();
        result
    }

    /// The signals pending for this task or its process.
    pub(crate) fn pending_signals(&self) -> SignalSet {
        let state = self.group().state();
        state.pending.set().union(self.signals().pending.set())
    }

    /// Takes a pending signal of `wanted`, for signalfd and sigtimedwait(2).
    pub(crate) fn take_signal(&self, wanted: SignalSet) -> Option<SigInfo> {
        let mut state = self.group().state();
        let own = self.signals().pending.take(wanted);
        own.or_else(|| state.pending.take(wanted))
    }

    /// Unblocks the signals of `set` for a wait, until [`end_signal_wait`](Self::end_signal_wait). Returns the mask.
    pub(crate) fn begin_signal_wait(&self, set: SignalSet) -> SignalSet {
        let state = self.group().state();
        let blocked = {
            let mut own = self.signals();
            own.waited_for = own.blocked;
            own.blocked = own.blocked.difference(set);
            own.waited_for
        };
        self.update_work_pending(&state);
        blocked
    }

    /// Restores the mask after [`begin_signal_wait`](Self::begin_signal_wait), and takes a pending signal of `set`.
    pub(crate) fn end_signal_wait(&self, set: SignalSet, blocked: SignalSet) -> Option<SigInfo> {
        let mut state = self.group().state();
        let own = {
            let mut own = self.signals();
            own.blocked = blocked;
            own.waited_for = SignalSet::EMPTY;
            own.pending.take(set)
        };
        let taken = own.or_else(|| state.pending.take(set));
        self.update_work_pending(&state);
        taken
    }

    /// Sends the calling task a signal caused by its call, such as SIGSEGV, SIGPIPE or SIGXFSZ.
    pub(crate) fn send_kernel(self: &Arc<Self>, signal: Signal) {
        // The kernel's own signals never fail for lack of queue space.
        let _ = self.send(OutgoingSignal::kernel(signal));
    }
}

/// Whether `sender` may signal a task with the credentials `target` (kill(2)). The caller handles SIGCONT within a
/// session.
pub(crate) fn may_signal(sender: &Credentials, target: &Credentials) -> bool {
    sender.euid == target.suid
        || sender.euid == target.uid
        || sender.uid == target.suid
        || sender.uid == target.uid
        || sender.has(Capability::CAP_KILL)
}

/// Queues a signal for a task, or for the process if `to` is none, and wakes a task that takes it.
fn queue(
    group: &Arc<ThreadGroup>,
    state: &mut GroupState,
    to: Option<&Arc<Task>>,
    outgoing: OutgoingSignal,
    wakes: &mut Wakes,
) -> Result<(), Errno> {
    let OutgoingSignal { signal, info, source, forced, program } = outgoing;
    if program.is_some_and(|program| program != group.programs()) {
        return Ok(());
    }
    let Some(target) = to.or(state.tasks.first()).cloned() else {
        return Ok(());
    };
    if !prepare(state, &target, signal, forced) {
        return Ok(());
    }
    if let Some(source) = &source
        && (state.pending.has_source(source) || target.signals().pending.has_source(source))
    {
        return Ok(());
    }
    let waiting = if to.is_some() { target.signals().pending.set() } else { state.pending.set() };
    if !signal.is_realtime() && waiting.contains(signal) {
        return Ok(());
    }
    let user = target.kernel().users.get(target.credentials().uid);
    let limit = group.limits().soft(Resource::RLIMIT_SIGPENDING);
    let unlimited = source.is_some() || (!signal.is_realtime() && info.si_code >= 0);
    let charge = if unlimited {
        Some(user.charge(Counted::Signals))
    } else {
        let charge = user.try_charge(Counted::Signals, limit);
        if charge.is_none() && signal.is_realtime() && info.si_code != SI_USER {
            return Err(Errno::EAGAIN.here());
        }
        charge
    };
    let mut own = target.signals();
    let pending = if to.is_some() { &mut own.pending } else { &mut state.pending };
    match charge {
        Some(charge) => pending.push(signal, info, source, Some(charge)),
        None => pending.mark(signal),
    }
    drop(own);
    wakes.signalled.push(group.clone());
    complete(state, to, &target, signal);
    Ok(())
}

/// The immediate effects of a signal, such as SIGCONT's. Returns whether the signal is to be queued.
fn prepare(state: &mut GroupState, target: &Arc<Task>, signal: Signal, forced: bool) -> bool {
    if state.ending.is_some() {
        return false;
    }
    if SignalSet::STOPS.contains(signal) {
        state.discard(SignalSet::of(&[Signal::SIGCONT]));
    } else if signal == Signal::SIGCONT {
        state.discard(SignalSet::STOPS);
        state.continues = state.continues.wrapping_add(1);
        if let Some(stop) = state.stop.take() {
            state.stop_report = None;
            state.continue_report = stop.complete;
            // An incomplete stop is reported too: the parent sees the stop, then the continuation.
            state.parent_notice =
                Some(if stop.complete { StopNotice::Continued } else { StopNotice::Stopped(stop.signal) });
            state.tasks.iter().for_each(|t| t.set_work_pending());
        }
    }
    let kept = {
        let signals = target.signals();
        signals.blocked.union(signals.waited_for)
    };
    if state.protected && state.actions.get(signal).sa_handler == SIG_DFL {
        return forced && SignalSet::UNBLOCKABLE.contains(signal);
    }
    // A blocked signal is kept even if it is ignored: the action may change before it is unblocked.
    kept.contains(signal) || !state.actions.is_ignored(signal)
}

impl GroupState {
    /// Removes all pending instances of these signals.
    pub(crate) fn discard(&mut self, set: SignalSet) {
        self.pending.discard(set);
        self.tasks.iter().for_each(|t| t.signals().pending.discard(set));
    }
}

/// Selects a task to take a queued signal, and wakes it. A fatal signal begins the end of the group.
fn complete(state: &mut GroupState, to: Option<&Arc<Task>>, target: &Arc<Task>, signal: Signal) {
    let can_take = |task: &Arc<Task>| {
        let signals = task.signals();
        let able = signal == Signal::SIGKILL || !signals.stopped;
        !signals.blocked.contains(signal) && !signals.ended && able
    };
    let taker = if can_take(target) {
        Some(target)
    } else if to.is_none() {
        let idle = state.tasks.iter().find(|t| can_take(t) && !t.is_interrupted());
        idle.or_else(|| state.tasks.iter().find(|t| can_take(t)))
    } else {
        None
    };
    let Some(taker) = taker.cloned() else { return };
    let deadly = state.actions.get(signal).sa_handler == SIG_DFL
        && signal.default_action() == DefaultAction::Terminate
        && !taker.signals().waited_for.contains(signal);
    if deadly {
        state.begin_end(WaitStatus::Signaled(signal, false));
    } else {
        taker.set_work_pending();
    }
}

/// After a task has blocked more signals, wakes another member for those that are pending for the process.
pub(crate) fn retarget_pending(state: &mut GroupState, from: &Arc<Task>, newly_blocked: SignalSet) {
    for signal in state.pending.set().intersection(newly_blocked).iter() {
        let able = |t: &&Arc<Task>| {
            let signals = t.signals();
            !signals.blocked.contains(signal) && !signals.ended && !signals.stopped
        };
        let other = state.tasks.iter().filter(|t| !Arc::ptr_eq(t, from)).find(able);
        if let Some(other) = other {
            other.set_work_pending();
        }
    }
}
