//! `startContainer` hooks: programs of the container itself, which run in it before its first process.

use std::io::pipe;
use std::thread;

use amber_abi::Signal;
use amber_sentry::config::{ExitStatus, ProcessSpec};
use amber_sentry::sandbox::Sandbox;
use anyhow::{Context, Result, ensure};
use oci_spec::runtime::{Hook, Spec};
use serde_json::{Map, Value};

use super::hook_streams::{Outcome, Streams, Until};
use super::hooks::{conclude, deadline, run_all};
use super::state::Status;
use crate::bundle::process_spec;

/// The hooks and their context.
pub(super) struct StartHooks {
    hooks: Vec<Hook>,
    /// Their standard input.
    state: String,
    /// The first process, whose rights, limits and working directory they have.
    process: Option<ProcessSpec>,
}

impl StartHooks {
    /// The hooks of a bundle, with this state of the container.
    ///
    /// # Errors
    /// A hook's path is relative, or the process is invalid.
    pub(super) fn of(spec: &Spec, state: &str) -> Result<StartHooks> {
        let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.start_container().clone()).unwrap_or_default();
        let mut shown: Map<String, Value> = serde_json::from_str(state).context("the state")?;
        // Hooks run in the container, where the first process has this ID.
        shown.insert("status".into(), Status::Created.name().into());
        shown.insert("pid".into(), 1.into());
        for hook in &hooks {
            ensure!(hook.path().is_absolute(), "`hooks.startContainer`: {} is no absolute path", hook.path().display());
        }
        let process = spec.process().as_ref().filter(|_| !hooks.is_empty());
        let process = process.map(|process| process_spec(process, Some((0, 0)))).transpose()?;
        Ok(StartHooks { hooks, state: Value::Object(shown).to_string(), process })
    }

    /// Runs the hooks in order.
    ///
    /// # Errors
    /// A hook failed; later ones did not run.
    pub(super) fn run(&self, sandbox: &Sandbox) -> Result<()> {
        let Some(process) = &self.process else { return Ok(()) };
        run_all(&self.hooks.iter().collect::<Vec<_>>(), false, |hook| self.run_one(sandbox, process, hook))
    }

    fn run_one(&self, sandbox: &Sandbox, process: &ProcessSpec, hook: &Hook) -> Result<()> {
        let program = hook.path().as_os_str().to_owned();
        let args: Vec<_> = hook.args().iter().flatten().map(Into::into).collect();
        let spec = ProcessSpec {
            args: if args.is_empty() { vec![program.clone()] } else { args },
            program: Some(program),
            env: hook.env().iter().flatten().filter(|entry| entry.contains('=')).map(Into::into).collect(),
            terminal: None,
            protected: false,
            ..process.clone()
        };
        let (input, state) = pipe().context("a pipe")?;
        let ((out, printed), (err, complained)) = (pipe().context("a pipe")?, pipe().context("a pipe")?);
        let mut streams =
            Streams::new(&self.state, state.into(), [out.into(), err.into()]).context("a hook's streams")?;
        let descriptors = [input.into(), printed.into(), complained.into()].map(Some);
        let until = Until { deadline: deadline(hook), signals: None };
        let running = sandbox.exec(&spec, descriptors.into()).context("error running hook")?;
        let (end, outcome) = thread::scope(|scope| {
            let served = scope.spawn(|| streams.serve(None, until));
            let end = running.wait_until(until.deadline);
            (end, served.join().unwrap_or(Ok(Outcome::Over)))
        });
        let outcome = if end.is_some() { outcome.context("waiting for a hook")? } else { Outcome::Late };
        if outcome != Outcome::Over {
            running.signal(Signal::SIGKILL);
        }
        let failure = end.and_then(|status| match status {
            ExitStatus::Exited(0) => None,
            ExitStatus::Exited(code) => Some(format!("exit status {code}")),
            ExitStatus::Signaled(signal) => Some(format!("signal: {signal}")),
        });
        conclude(hook, outcome, failure, &streams)
    }
}
