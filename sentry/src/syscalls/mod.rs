//! System calls: the table, the way from a trap to a handler, and the handlers by family.

pub mod args;
mod dispatch;
pub mod fs;
pub mod mm;
pub mod net;
pub mod signal;
mod table;
pub mod task;
pub mod time;

pub use dispatch::{Entry, Handler, Parameter, dispatch, entries, entry};
