//! What `/proc` shows of the network.

mod counters;
mod files;
mod foreign_parameters;

pub use files::NetFiles;
pub(crate) use foreign_parameters::{find, list, of};
