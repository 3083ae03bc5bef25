//! System calls: the table, the dispatch, and the handlers by family.

pub(crate) mod args;
mod dispatch;
pub(crate) mod fs;
pub(crate) mod ipc;
pub(crate) mod mm;
pub(crate) mod net;
mod published;
pub(crate) mod signal;
mod table;
pub(crate) mod task;
pub(crate) mod time;
mod trace;

pub use dispatch::{CallState, Entry, Parameter, entries};
pub(crate) use dispatch::{CallTable, dispatch};
pub(crate) use published::set_constant_results;
pub(crate) use trace::Tracer;
