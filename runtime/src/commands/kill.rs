//! `amber kill`: sends a signal to the sandbox's process, which forwards it to the guest's first process.

use amber_abi::Signal;
use amber_host::channel::Channel;
use amber_host::process::ProcessHandle;
use anyhow::{Context, Result, anyhow, bail};

use crate::cli::KillArgs;
use crate::oci::control::{Request, order};
use crate::oci::state::Status;
use crate::oci::{Runtime, proxy};

/// SIGKILL, which cannot be forwarded.
const KILL: i32 = 9;

/// Sends the signal.
///
/// # Errors
/// There is no such signal, or the container has ended.
pub(super) fn command(runtime: &Runtime, args: &KillArgs) -> Result<()> {
    let (container, state) = runtime.store.load(&args.id)?;
    let number = number(&args.signal).ok_or_else(|| anyhow!("unknown signal {:?}", args.signal))?;
    if !state.is_alive() {
        if args.all && state.current() == Status::Stopped {
            return Ok(());
        }
        bail!("container not running");
    }
    // SIGKILL ends the sandbox with all of its processes. Any other signal for all processes has to be sent by the
    // sandbox.
    if args.all && number != KILL && state.current() != Status::Created {
        let channel = Channel::new(container.connect().context("connecting to the sandbox")?);
        return order(&channel, &Request::Signal(number));
    }
    if number == KILL
        && let Ok(registry) = container.proxies()
    {
        proxy::end_all(&registry);
    }
    let gone = || anyhow!("container not running");
    let handle = ProcessHandle::open(state.pid).map_err(|_| gone())?;
    if !state.is_alive() {
        return Err(gone());
    }
    handle.signal(number).map_err(|error| match error.raw_os_error() {
        Some(nix::libc::ESRCH) => gone(),
        _ => anyhow!("sending signal {number}: {error}"),
    })?;
    if number == KILL
        && let Some(group) = &state.cgroup
        && state.paused
    {
        // A frozen process does not end.
        group.place.freeze(false)?;
    }
    Ok(())
}

/// A signal by number, or by name with or without `SIG`.
fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let named =
        |number: &i32| Signal::from_raw(*number).is_some_and(|signal| signal.to_string() == format!("SIG{name}"));
    (1..=31).find(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, wanted) in [
            ("9", Some(9)),
            ("KILL", Some(9)),
            ("SIGTERM", Some(15)),
            ("sigusr1", Some(10)),
            ("0", None),
            ("FOO", None),
        ] {
            assert_eq!(number(text), wanted, "{text}");
        }
    }
}
