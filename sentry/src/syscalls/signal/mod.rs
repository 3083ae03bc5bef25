//! Signals.

pub(crate) mod action;
pub(crate) mod mask;
pub(crate) mod restart;
pub(crate) mod send;
