//! Signals.

pub mod action;
pub mod mask;
pub mod restart;
pub mod send;
