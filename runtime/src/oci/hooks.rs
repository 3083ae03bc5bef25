//! Hooks: programs of the host that run at certain points of a container's life, with its state on standard input.
//! Programs of the container itself are run by [`start_hooks`](super::start_hooks).

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use amber_host::process::ProcessHandle;
use amber_host::signals::SignalWatch;
use anyhow::{Context, Result, bail};
use oci_spec::runtime::{Hook, Hooks};

use super::hook_streams::{Outcome, Streams, Until};
use super::state::{State, Status};

/// The points at which hooks run on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    /// While the container is created: `prestart`, then `createRuntime`.
    Create,
    /// Likewise, in the container's namespaces: `createContainer`.
    CreateInside,
    /// After the start: `poststart`.
    Started,
    /// After the end: `poststop`.
    Stopped,
}

/// The hooks of a point, in order.
fn of(hooks: &Hooks, time: Time) -> Vec<&Hook> {
    let lists = match time {
        Time::Create => [hooks.prestart(), hooks.create_runtime()],
        Time::CreateInside => [hooks.create_container(), &None],
        Time::Started => [hooks.poststart(), &None],
        Time::Stopped => [hooks.poststop(), &None],
    };
    lists.into_iter().flatten().flatten().collect()
}

/// Runs the hooks of a point. A signal of `signals` interrupts them.
///
/// # Errors
/// A hook failed, or a signal came; later hooks did not run. All `poststop` hooks run in any case.
pub(crate) fn run(state: &State, status: Status, time: Time, signals: Option<&SignalWatch>) -> Result<()> {
    let Some(hooks) = &state.hooks else { return Ok(()) };
    let hooks = of(hooks, time);
    if hooks.is_empty() {
        return Ok(());
    }
    let state = text(state, status)?;
    run_all(&hooks, time == Time::Stopped, |hook| run_one(hook, &state, signals))
}

/// The state as hooks read it.
///
/// # Errors
/// The state cannot be written as JSON.
pub(crate) fn text(state: &State, status: Status) -> Result<String> {
    let mut shown = serde_json::to_value(state.shown(status, "")).context("the state")?;
    if let Some(object) = shown.as_object_mut() {
        for key in ["rootfs", "created", "owner"] {
            object.remove(key);
        }
    }
    Ok(shown.to_string())
}

/// Runs the hooks of the container's namespaces, in which this process must be.
///
/// # Errors
/// As for [`run`].
pub(crate) fn run_inside(hooks: Option<&Hooks>, state: &str) -> Result<()> {
    let hooks = hooks.map(|hooks| of(hooks, Time::CreateInside)).unwrap_or_default();
    run_all(&hooks, false, |hook| run_one(hook, state, None))
}

/// Runs hooks in order. With `regardless`, continues after a failure.
///
/// # Errors
/// The first failure, with the number of the hook.
pub(crate) fn run_all(hooks: &[&Hook], regardless: bool, run: impl Fn(&Hook) -> Result<()>) -> Result<()> {
    for (index, hook) in hooks.iter().enumerate() {
        match run(hook).with_context(|| format!("error running hook #{index}")) {
            Err(error) if regardless => log::warn!("{error:#}"),
            result => result?,
        }
    }
    Ok(())
}

fn run_one(hook: &Hook, state: &str, signals: Option<&SignalWatch>) -> Result<()> {
    let path = hook.path();
    let mut arguments = hook.args().iter().flatten();
    let mut command = Command::new(path);
    command.arg0(arguments.next().map_or(path.as_os_str(), |name| name.as_ref())).args(arguments);
    command.env_clear();
    for entry in hook.env().iter().flatten() {
        if let Some((name, value)) = entry.split_once('=') {
            command.env(name, value);
        }
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let until = Until { deadline: deadline(hook), signals };
    let mut child = command.spawn().with_context(|| format!("error running hook: {}", path.display()))?;
    let input = child.stdin.take().context("a pipe")?;
    let (out, err) = (child.stdout.take().context("a pipe")?, child.stderr.take().context("a pipe")?);
    let handle = ProcessHandle::open(child.id() as i32).context("a hook's process")?;
    let mut streams = Streams::new(state, input.into(), [out.into(), err.into()]).context("a hook's streams")?;
    let outcome = streams.serve(Some(&handle), until).context("waiting for a hook")?;
    if outcome != Outcome::Over {
        // It may have ended already.
        let _ = child.kill();
    }
    let status = child.wait().context("waiting for a hook")?;
    let how = |status: ExitStatus| match status.code() {
        Some(0) => None,
        Some(code) => Some(format!("exit status {code}")),
        None => Some(status.to_string()),
    };
    conclude(hook, outcome, how(status), &streams)
}

/// The deadline of a hook that starts now.
pub(crate) fn deadline(hook: &Hook) -> Option<Instant> {
    limit(hook).and_then(|limit| Instant::now().checked_add(limit))
}

/// The time limit of a hook.
fn limit(hook: &Hook) -> Option<Duration> {
    let seconds = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).filter(|&seconds| seconds > 0);
    seconds.map(Duration::from_secs)
}

/// Checks the outcome of a hook: it must have ended in time, and `failure` must be `None`.
///
/// # Errors
/// How the hook ended, with its output.
pub(crate) fn conclude(hook: &Hook, outcome: Outcome, failure: Option<String>, streams: &Streams<'_>) -> Result<()> {
    match (outcome, failure) {
        (Outcome::Late, _) => {
            let limit = limit(hook).unwrap_or_default();
            bail!("error running hook: hook ran past specified timeout of {}s", limit.as_secs())
        }
        (Outcome::Interrupted, _) => bail!("error running hook: a signal ended the wait for it"),
        (Outcome::Over, Some(how)) => {
            let [out, err] = streams.printed();
            bail!("error running hook: {how}, stdout: {}, stderr: {}", out.trim_end(), err.trim_end())
        }
        (Outcome::Over, None) => Ok(()),
    }
}
