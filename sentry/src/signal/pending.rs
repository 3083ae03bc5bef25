//! Queues of pending signals.

use std::collections::BTreeMap;
use std::sync::Arc;

use amber_abi::{SigInfo, Signal, SignalSet};

use crate::users::UserCharge;

/// A repeated sender of one signal that has at most one pending instance: a POSIX timer.
pub(crate) trait SignalSource: Send + Sync {
    /// Called when the pending instance is taken, to complete its information (a timer's overrun count). Signal locks
    /// are held; the function must not take ranked locks below [`Timers`](crate::sync::Rank::Timers).
    fn taken(&self, info: &mut SigInfo);
}

struct Queued {
    signal: Signal,
    info: SigInfo,
    source: Option<Arc<dyn SignalSource>>,
    /// The charge for RLIMIT_SIGPENDING.
    _charge: Option<UserCharge>,
}

/// The pending signals of a task or of a thread group.
#[derive(Default)]
pub(crate) struct PendingSignals {
    set: SignalSet,
    /// By signal and order of arrival.
    queue: BTreeMap<(u8, u64), Queued>,
    /// The keys of the instances of sources, by the address of the source.
    sources: BTreeMap<usize, (u8, u64)>,
    last: u64,
}

fn address(source: &Arc<dyn SignalSource>) -> usize {
    Arc::as_ptr(source).cast::<()>().addr()
}

impl PendingSignals {
    /// The set of pending signals.
    pub(crate) fn set(&self) -> SignalSet {
        self.set
    }

    /// Approximate heap use in bytes.
    pub(crate) fn kept_bytes(&self) -> u64 {
        (self.queue.len() * size_of::<((u8, u64), Queued)>()) as u64
    }

    /// Queues a signal with its information.
    pub(crate) fn push(
        &mut self,
        signal: Signal,
        info: SigInfo,
        source: Option<Arc<dyn SignalSource>>,
        charge: Option<UserCharge>,
    ) {
        self.set.insert(signal);
        self.last += 1;
        let place = (signal.raw() as u8, self.last);
        if let Some(source) = &source {
            self.sources.insert(address(source), place);
        }
        self.queue.insert(place, Queued { signal, info, source, _charge: charge });
    }

    /// Marks a signal as pending without its information, which then shows no sender.
    pub(crate) fn mark(&mut self, signal: Signal) {
        self.set.insert(signal);
    }

    /// Whether an instance of this source is pending.
    pub(crate) fn has_source(&self, source: &Arc<dyn SignalSource>) -> bool {
        self.sources.contains_key(&address(source))
    }

    /// Removes the pending instance of a source.
    pub(crate) fn remove_source(&mut self, source: &Arc<dyn SignalSource>) {
        let Some(place) = self.sources.remove(&address(source)) else { return };
        if let Some(removed) = self.queue.remove(&place) {
            self.forget_unless_queued(removed.signal);
        }
    }

    /// Removes all instances of the signals in `set`.
    pub(crate) fn discard(&mut self, set: SignalSet) {
        if !self.set.intersects(set) {
            return;
        }
        self.set = self.set.difference(set);
        self.queue.retain(|_, q| !set.contains(q.signal));
        self.sources.retain(|_, place| self.queue.contains_key(place));
    }

    /// Takes the next signal of `set`: synchronous ones first, then by number and order of arrival.
    pub(crate) fn take(&mut self, set: SignalSet) -> Option<SigInfo> {
        let ready = self.set.intersection(set);
        let signal = ready.intersection(SignalSet::SYNCHRONOUS).first().or(ready.first())?;
        Some(self.take_one(signal))
    }

    /// Takes a pending signal that was raised by an instruction of this task, not sent to it.
    pub(crate) fn take_synchronous(&mut self, set: SignalSet) -> Option<SigInfo> {
        let set = set.intersection(SignalSet::SYNCHRONOUS);
        let waiting = |signal: Signal| self.of(signal).find(|(_, q)| q.info.si_code > 0);
        let ((_, _), raised) = set.iter().filter_map(waiting).min_by_key(|((_, order), _)| *order)?;
        Some(self.take_one(raised.signal))
    }

    /// The pending instances of a signal.
    fn of(&self, signal: Signal) -> impl Iterator<Item = (&(u8, u64), &Queued)> {
        let number = signal.raw() as u8;
        self.queue.range((number, 0)..=(number, u64::MAX))
    }

    fn take_one(&mut self, signal: Signal) -> SigInfo {
        let Some(place) = self.of(signal).next().map(|(place, _)| *place) else {
            self.set.remove(signal);
            return SigInfo::kill(signal, amber_abi::siginfo::SI_USER, 0, 0);
        };
        let taken = self.queue.remove(&place);
        if let Some(source) = taken.as_ref().and_then(|taken| taken.source.as_ref()) {
            self.sources.remove(&address(source));
        }
        self.forget_unless_queued(signal);
        taken.map_or_else(SigInfo::default, |mut taken| {
            if let Some(source) = &taken.source {
                source.taken(&mut taken.info);
            }
            taken.info
        })
    }

    fn forget_unless_queued(&mut self, signal: Signal) {
        if self.of(signal).next().is_none() {
            self.set.remove(signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use amber_abi::siginfo::{SEGV_MAPERR, SI_QUEUE, SI_USER};

    fn push(pending: &mut PendingSignals, info: SigInfo) {
        let signal = Signal::from_raw(info.si_signo).unwrap();
        pending.push(signal, info, None, None);
    }

    #[test]
    fn signals_come_by_number_and_real_time_ones_in_order() {
        let mut pending = PendingSignals::default();
        for value in 1..=2 {
            push(&mut pending, SigInfo::queue(Signal::SIGRTMIN, SI_QUEUE, 1, 0, value));
        }
        push(&mut pending, SigInfo::kill(Signal::SIGUSR1, SI_USER, 1, 0));
        push(&mut pending, SigInfo::fault(Signal::SIGSEGV, SEGV_MAPERR, 5));
        let taken: Vec<_> = std::iter::from_fn(|| pending.take(SignalSet::ALL)).map(|i| i.si_signo).collect();
        assert_eq!(taken, [11, 10, 32, 32]);
        assert!(pending.set().is_empty());
    }

    #[test]
    fn a_blocked_signal_stays() {
        let mut pending = PendingSignals::default();
        pending.mark(Signal::SIGTERM);
        assert!(pending.take(SignalSet::of(&[Signal::SIGINT])).is_none());
        assert_eq!(pending.take(SignalSet::ALL).map(|i| i.si_signo), Some(15));
    }
}
