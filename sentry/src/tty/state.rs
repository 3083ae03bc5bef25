//! What a kernel has once of terminals.

use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use super::Console;

/// The terminals that a sandbox is given from outside; those that guests make are in their devpts.
pub struct Terminals {
    /// The sandbox's own terminal, if it has one.
    pub console: OnceLock<Arc<Console>>,
    /// The host's terminal, where it controls the first session in the place of a console.
    pub host: Option<OwnedFd>,
}

impl Terminals {
    /// Without a console yet.
    pub fn new(host: Option<OwnedFd>) -> Self {
        Terminals { console: OnceLock::new(), host }
    }
}
