//! What Amber's own process has from its caller and gives on to the guest.

use std::io::{IsTerminal, stdin, stdout};

use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};

use crate::spec::Rlimit;

/// The caller's circumstances.
pub struct Caller {
    /// Every resource limit.
    pub rlimits: Vec<Rlimit>,
    /// File mode creation mask.
    pub umask: u32,
    /// Whether standard input and output are the terminal at whose foreground the caller runs us.
    pub at_terminal: bool,
}

const RESOURCES: [Resource; 16] = [
    Resource::RLIMIT_CPU,
    Resource::RLIMIT_FSIZE,
    Resource::RLIMIT_DATA,
    Resource::RLIMIT_STACK,
    Resource::RLIMIT_CORE,
    Resource::RLIMIT_RSS,
    Resource::RLIMIT_NPROC,
    Resource::RLIMIT_NOFILE,
    Resource::RLIMIT_MEMLOCK,
    Resource::RLIMIT_AS,
    Resource::RLIMIT_LOCKS,
    Resource::RLIMIT_SIGPENDING,
    Resource::RLIMIT_MSGQUEUE,
    Resource::RLIMIT_NICE,
    Resource::RLIMIT_RTPRIO,
    Resource::RLIMIT_RTTIME,
];

impl Caller {
    /// Takes over the caller's circumstances and makes Amber's own process fit to serve: no file mode is masked (the
    /// guest's mask is the sentry's business) and as many files can be open as the host allows.
    ///
    /// # Errors
    /// The host does not tell its limits.
    pub fn take_over() -> nix::Result<Caller> {
        let mut rlimits = Vec::with_capacity(RESOURCES.len());
        for resource in RESOURCES {
            let (soft, hard) = getrlimit(resource)?;
            rlimits.push(Rlimit { resource: resource as u32, soft, hard });
        }
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        if soft < hard
            && let Err(errno) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
        {
            log::info!("the limit of open files stays at {soft} of {hard}: {errno}");
        }
        let umask = umask(Mode::empty()).bits();
        Ok(Caller { rlimits, umask, at_terminal: at_terminal() })
    }
}

fn at_terminal() -> bool {
    let foreground = || -> Result<bool, Errno> { Ok(nix::unistd::tcgetpgrp(stdin())? == nix::unistd::getpgrp()) };
    stdin().is_terminal()
        && stdout().is_terminal()
        && nix::sys::stat::fstat(stdin()).map(|stat| stat.st_rdev)
            == nix::sys::stat::fstat(stdout()).map(|stat| stat.st_rdev)
        && foreground() == Ok(true)
}

const _: () = assert!(RLIM_INFINITY == u64::MAX, "no limit is the same number for host and guest");
