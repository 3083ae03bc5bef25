//! The actions of a process for signals: see sigaction(2).

use amber_abi::signal::{DefaultAction, SIG_DFL, SIG_IGN, SaFlags, SigAction};
use amber_abi::{Signal, SignalSet};

use crate::sync::{Mutex, Rank};

/// The actions for all signals, shared by tasks made with `CLONE_SIGHAND`.
pub(crate) struct SignalActions {
    actions: Mutex<[SigAction; Signal::COUNT]>,
}

impl Default for SignalActions {
    fn default() -> Self {
        SignalActions { actions: Mutex::new(Rank::Task, [SigAction::default(); Signal::COUNT]) }
    }
}

impl SignalActions {
    #[expect(clippy::indexing_slicing, reason = "the table has an action for each signal")]
    fn with<T>(&self, signal: Signal, work: impl FnOnce(&mut SigAction) -> T) -> T {
        work(&mut self.actions.lock()[signal.index()])
    }

    /// The action for a signal.
    pub(crate) fn get(&self, signal: Signal) -> SigAction {
        self.with(signal, |action| *action)
    }

    /// Sets the action for a signal and returns the old one.
    pub(crate) fn replace(&self, signal: Signal, action: SigAction) -> SigAction {
        self.with(signal, |old| std::mem::replace(old, action))
    }

    /// Resets the action for a signal to the default (`SA_RESETHAND`).
    pub(crate) fn reset_handler(&self, signal: Signal) {
        self.with(signal, |action| action.sa_handler = SIG_DFL);
    }

    /// A copy for a child that does not share the actions.
    pub(crate) fn duplicate(&self) -> SignalActions {
        SignalActions { actions: Mutex::new(Rank::Task, *self.actions.lock()) }
    }

    /// The actions of a new program, or of a child made with `CLONE_CLEAR_SIGHAND`: ignored signals stay ignored, all
    /// others have the default.
    pub(crate) fn for_new_program(&self) -> SignalActions {
        let old = *self.actions.lock();
        let actions = old.map(|a| {
            let sa_handler = if a.sa_handler == SIG_IGN { SIG_IGN } else { SIG_DFL };
            SigAction { sa_handler, ..SigAction::default() }
        });
        SignalActions { actions: Mutex::new(Rank::Task, actions) }
    }

    /// Whether a signal has no effect: it is ignored, explicitly or by default.
    pub(crate) fn is_ignored(&self, signal: Signal) -> bool {
        match self.get(signal).sa_handler {
            SIG_IGN => true,
            SIG_DFL => matches!(signal.default_action(), DefaultAction::Ignore | DefaultAction::Continue),
            _ => false,
        }
    }

    /// The explicitly ignored signals and those with a handler, as in `/proc/PID/status`.
    pub(crate) fn ignored_and_caught(&self) -> (SignalSet, SignalSet) {
        let actions = self.actions.lock();
        let all = || Signal::all().zip(actions.iter());
        let with = |test: fn(u64) -> bool| all().filter(|(_, a)| test(a.sa_handler)).map(|(s, _)| s).collect();
        (with(|h| h == SIG_IGN), with(|h| h != SIG_IGN && h != SIG_DFL))
    }

    /// Whether children do not become zombies: SIGCHLD is ignored or has `SA_NOCLDWAIT`.
    pub(crate) fn discards_children(&self) -> bool {
        let action = self.get(Signal::SIGCHLD);
        action.sa_handler == SIG_IGN || action.flags().contains(SaFlags::SA_NOCLDWAIT)
    }
}
