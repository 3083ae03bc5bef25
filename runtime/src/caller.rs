//! What Amber inherits from its caller and passes on to the guest.

use std::io::{IsTerminal, stdin, stdout};

use amber_host::terminal::window_size;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, fstat, umask};
use nix::unistd::{getpgrp, tcgetpgrp};

/// The inherited state.
pub(crate) struct Caller {
    /// Every resource limit: number, soft limit, hard limit.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// The file mode creation mask.
    pub umask: u32,
    /// Rows and columns of the terminal, if standard input and output are the same terminal and Amber is in its
    /// foreground.
    pub terminal: Option<(u16, u16)>,
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
    /// Reads the inherited state and prepares Amber's own process: clears the umask, as the sentry applies the guest's,
    /// and raises the limit of open files as far as the host allows.
    ///
    /// # Errors
    /// The host's limits cannot be read.
    pub(crate) fn take_over() -> nix::Result<Caller> {
        let mut rlimits = Vec::with_capacity(RESOURCES.len());
        for resource in RESOURCES {
            let (soft, hard) = getrlimit(resource)?;
            rlimits.push((resource as u32, soft, hard));
        }
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        // One process opens the files of all guests. Its limit is raised above the caller's where the host permits.
        let most = std::fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|text| text.trim().parse().ok());
        let most = most.unwrap_or(hard).max(hard);
        if setrlimit(Resource::RLIMIT_NOFILE, most, most).is_err()
            && soft < hard
            && let Err(errno) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
        {
            log::info!("the limit of open files stays at {soft} of {hard}: {errno}");
        }
        let umask = umask(Mode::empty()).bits();
        Ok(Caller { rlimits, umask, terminal: terminal() })
    }
}

/// Rows and columns of the terminal, if standard input and output are the same terminal and Amber is in its foreground.
pub(crate) fn terminal() -> Option<(u16, u16)> {
    let same = fstat(stdin()).ok()?.st_rdev == fstat(stdout()).ok()?.st_rdev;
    let size = window_size(stdout()).ok()?;
    let foreground = stdin().is_terminal() && tcgetpgrp(stdin()).ok()? == getpgrp();
    (same && foreground).then_some((size.rows, size.columns))
}

const _: () = assert!(RLIM_INFINITY == u64::MAX, "no limit is the same number for host and guest");
