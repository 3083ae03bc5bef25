//! What the tests share. Each part is made when the first test needs it; one that cannot be made fails those tests.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, anyhow, bail};
use libtest_mimic::{Completion, Failed};

use crate::amber::Amber;
use crate::known::KnownFailures;
use crate::native::Native;

/// The shared parts.
pub struct Setup {
    /// The directory of this crate.
    pub sources: PathBuf,
    /// Where compiled programs are kept.
    pub built: PathBuf,
    /// What does not pass yet.
    pub known: KnownFailures,
    native: Shared<Native>,
    amber: Shared<Amber>,
    tree: Shared<PathBuf>,
    services: Shared<PathBuf>,
}

/// A value made at most once, by whoever comes first; the others wait for it, and get the same error.
type Shared<T> = OnceLock<Result<T, String>>;

impl Setup {
    /// Nothing made yet but the list of known failures.
    pub fn new(sources: PathBuf, built: PathBuf) -> Result<Arc<Setup>> {
        let known = KnownFailures::read(&sources.join("expected-failures.txt"))?;
        let (native, amber) = (OnceLock::new(), OnceLock::new());
        let (tree, services) = (OnceLock::new(), OnceLock::new());
        Ok(Arc::new(Setup { sources, built, known, native, amber, tree, services }))
    }

    /// The launcher of native runs, or why it cannot be had.
    pub fn native(&self) -> Result<&Native> {
        get(&self.native, || Native::prepare(&self.sources.join("harness/native.c"), &self.built))
    }

    /// The `amber` program.
    pub fn amber(&self) -> Result<&Amber> {
        get(&self.amber, Amber::prepare)
    }

    /// The Debian tree, built if it is not there yet, which takes minutes.
    pub fn tree(&self) -> Result<&Path> {
        Ok(get(&self.tree, || self.build_tree(&[]))?)
    }

    /// The Debian tree with servers and interpreters, that containers are made of; built like the other.
    pub fn services(&self) -> Result<&Path> {
        Ok(get(&self.services, || self.build_tree(&["services"]))?)
    }

    fn build_tree(&self, which: &[&str]) -> Result<PathBuf> {
        let output = Command::new(self.sources.join("rootfs/build")).args(which).output();
        let output = output.context("cannot run rootfs/build")?;
        if !output.status.success() {
            bail!("no Debian tree: {}", String::from_utf8_lossy(&output.stderr).trim_end());
        }
        Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))
    }

    /// Turns the failed parts of the test `name` into its result, given what is known to fail.
    ///
    /// The part `""` stands for the whole. `report` says what happened, for a failure nobody expected.
    pub fn judge(&self, name: &str, failed: &BTreeSet<String>, report: impl Display) -> Result<Completion, Failed> {
        let known = self.known.of(name);
        if failed.iter().any(|part| !known.contains_key(part)) {
            return Err(report.to_string().into());
        }
        let passing: Vec<&str> = known.keys().filter(|part| !failed.contains(*part)).map(String::as_str).collect();
        if !passing.is_empty() {
            let parts = passing.join(", ");
            return Err(format!("passes now, take it out of expected-failures.txt: {name} {parts}").into());
        }
        if known.is_empty() {
            return Ok(Completion::Completed);
        }
        let reasons: BTreeSet<&str> = known.values().map(String::as_str).collect();
        let reasons: Vec<&str> = reasons.into_iter().collect();
        Ok(Completion::ignored_with(format!("known failure: {}", reasons.join("; "))))
    }
}

fn get<T>(shared: &Shared<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    shared.get_or_init(|| make().map_err(|error| format!("{error:#}"))).as_ref().map_err(|error| anyhow!("{error}"))
}
