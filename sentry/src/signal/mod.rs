//! Signals: queues, actions, sending, delivery, stops.

mod action;
mod deliver;
mod frame;
pub(crate) mod io;
mod pending;
mod send;
mod stop;

pub(crate) use action::SignalActions;
pub(crate) use deliver::{Outcome, deliver_pending, dumps_core, force_fault};

pub(crate) use frame::{restore_frame, set_alt_stack};
pub(crate) use pending::{PendingSignals, SignalSource};
pub(crate) use send::retarget_pending;
pub(crate) use send::{OutgoingSignal, Wakes, may_signal};
pub(crate) use stop::notify_parent_of_stop;
