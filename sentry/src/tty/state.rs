//! The terminals of a kernel.

use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use super::Console;

/// Terminals given to the sandbox from outside. Those that guests make are in their devpts.
pub(crate) struct Terminals {
    /// The sandbox's own terminal, if it has one.
    pub console: OnceLock<Arc<Console>>,
    /// The host's terminal, if it is the first session's controlling terminal in place of a console.
    pub host: Option<OwnedFd>,
}

impl Terminals {
    /// No console is set yet.
    pub(crate) fn new(host: Option<OwnedFd>) -> Self {
        Terminals { console: OnceLock::new(), host }
    }
}
