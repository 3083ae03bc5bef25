//! What a process does with each signal.

use amber_abi::signal::{DefaultAction, SIG_DFL, SIG_IGN, SaFlags, SigAction};
use amber_abi::{Signal, SignalSet};

use crate::sync::{Mutex, Rank};

/// The actions of all signals; shared by tasks made with `CLONE_SIGHAND`.
pub struct SignalActions {
    actions: Mutex<[SigAction; Signal::COUNT]>,
}

impl Default for SignalActions {
    fn default() -> Self {
        SignalActions { actions: Mutex::new(Rank::Task, [SigAction::default(); Signal::COUNT]) }
    }
}

impl SignalActions {
    /// The action of a signal.
    pub fn get(&self, signal: Signal) -> SigAction {
        self.actions.lock()[signal.index()]
    }

    /// Sets the action of a signal and returns the old one.
    pub fn replace(&self, signal: Signal, action: SigAction) -> SigAction {
        std::mem::replace(&mut self.actions.lock()[signal.index()], action)
    }

    /// Sets the handler of a signal back to the default before the handler runs (`SA_RESETHAND`).
    pub fn reset_handler(&self, signal: Signal) {
        self.actions.lock()[signal.index()].sa_handler = SIG_DFL;
    }

    /// A copy for a child that does not share them.
    pub fn duplicate(&self) -> SignalActions {
        SignalActions { actions: Mutex::new(Rank::Task, *self.actions.lock()) }
    }

    /// The actions of a program just executed, or of a child made with `CLONE_CLEAR_SIGHAND`: what was ignored stays so,
    /// all else is the default.
    pub fn for_new_program(&self) -> SignalActions {
        let old = *self.actions.lock();
        let actions = old.map(|a| {
            let sa_handler = if a.sa_handler == SIG_IGN { SIG_IGN } else { SIG_DFL };
            SigAction { sa_handler, ..SigAction::default() }
        });
        SignalActions { actions: Mutex::new(Rank::Task, actions) }
    }

    /// Whether a signal would have no effect: it is ignored, or nothing is its default.
    pub fn is_ignored(&self, signal: Signal) -> bool {
        match self.get(signal).sa_handler {
            SIG_IGN => true,
            SIG_DFL => matches!(signal.default_action(), DefaultAction::Ignore | DefaultAction::Continue),
            _ => false,
        }
    }

    /// The signals that are ignored by request, and those that have a handler, as `/proc/PID/status` shows them.
    pub fn ignored_and_caught(&self) -> (SignalSet, SignalSet) {
        let actions = self.actions.lock();
        let with = |test: fn(u64) -> bool| Signal::all().filter(|s| test(actions[s.index()].sa_handler)).collect();
        (with(|h| h == SIG_IGN), with(|h| h != SIG_IGN && h != SIG_DFL))
    }

    /// Whether ended children leave nothing to wait for: SIGCHLD is ignored or has `SA_NOCLDWAIT`.
    pub fn discards_children(&self) -> bool {
        let action = self.get(Signal::SIGCHLD);
        action.sa_handler == SIG_IGN || action.flags().contains(SaFlags::SA_NOCLDWAIT)
    }
}
