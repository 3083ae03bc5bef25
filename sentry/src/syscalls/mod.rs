//! System calls: the table, the dispatch, and the handlers by family.

pub mod args;
mod dispatch;
pub mod fs;
pub mod ipc;
pub mod mm;
pub mod net;
mod published;
pub mod signal;
mod table;
pub mod task;
pub mod time;
mod trace;

pub use dispatch::{CallState, CallTable, Entry, Handler, Parameter, dispatch, entries};
pub(crate) use published::set_constant_results;
pub use trace::Tracer;
