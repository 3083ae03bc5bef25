//! Descriptors of the caller that a process in a container inherits beside its standard streams.

use std::env;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use amber_host::channel::MAX_FILES;
use amber_host::process::inherited;
use amber_host::trees::is_directory;
use anyhow::{Context, Result, ensure};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use oci_spec::runtime::Process;

use crate::confine;

/// The first descriptor after the standard streams.
const FIRST: u16 = 3;
/// The most that fit into one message to the sandbox, with the files that it needs itself.
const MOST: usize = MAX_FILES - 8;

/// Consecutive descriptors from 3 on.
pub(crate) struct PreservedFds {
    files: Vec<OwnedFd>,
    activated: u16,
}

impl PreservedFds {
    /// Takes the caller's descriptors: with `with_activation` those of socket activation (see sd_listen_fds(3)), then
    /// `wanted` more. Must be called before the caller's descriptors are made close-on-exec.
    ///
    /// # Errors
    /// A descriptor is not open, or would give access to more than itself.
    pub(crate) fn take(wanted: u16, with_activation: bool) -> Result<PreservedFds> {
        let activated = if with_activation { activated() } else { 0 };
        let count = usize::from(wanted) + usize::from(activated);
        ensure!(count <= MOST, "--preserve-fds {wanted}: there can be {MOST} descriptors at most");
        let mut files = Vec::new();
        for index in 0..count as u16 {
            let number = FIRST + index;
            let file = inherited(number.into()).with_context(|| match index.checked_sub(activated) {
                Some(index) => format!("unable to stat preserved-fd {index} (of {wanted})"),
                None => format!("LISTEN_FDS={activated}: descriptor {number}"),
            })?;
            files.push(prepare(file).with_context(|| format!("descriptor {number}"))?);
        }
        Ok(PreservedFds { files, activated })
    }

    /// Sets the environment variables of socket activation.
    pub(crate) fn tell(&self, process: &mut Process) {
        if self.activated == 0 {
            return;
        }
        let mut env = process.env().clone().unwrap_or_default();
        env.retain(|entry| !["LISTEN_FDS=", "LISTEN_PID="].iter().any(|name| entry.starts_with(name)));
        env.extend([format!("LISTEN_FDS={}", self.activated), "LISTEN_PID=1".to_owned()]);
        process.set_env(Some(env));
    }

    /// The descriptors in order.
    pub(crate) fn files(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.files.iter().map(AsFd::as_fd)
    }
}

/// Number of descriptors that socket activation passed to this process; 0 if they are for another.
fn activated() -> u16 {
    let number = |name: &str| env::var(name).ok()?.parse::<u32>().ok();
    match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(process), Some(count)) if process == std::process::id() => u16::try_from(count).unwrap_or(u16::MAX),
        _ => 0,
    }
}

/// Makes sure that a descriptor gives access to nothing but its own file.
fn prepare(file: OwnedFd) -> Result<OwnedFd> {
    if is_directory(&file)? {
        return confine::tree(&file).context("is a directory, which can only be passed on with the right to mount");
    }
    let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL).context("its flags")?);
    ensure!(!flags.contains(OFlag::O_PATH), "stands for a place (O_PATH), which is not offered");
    Ok(file)
}
