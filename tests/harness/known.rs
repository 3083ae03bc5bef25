//! The honest list of what does not pass yet: `expected-failures.txt`.
//!
//! A line is `TEST  reason`, where TEST is the name of a test, or of one part of it (`ptrace::files::open::tmpfile`).
//! A listed test that passes is a failure of the list: take the line out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// The known failures: of each test that has some, its failing parts with their reasons.
///
/// The part `""` stands for the whole test.
#[derive(Debug, Default)]
pub struct KnownFailures(BTreeMap<String, BTreeMap<String, String>>);

impl KnownFailures {
    /// Reads the list; lines that are empty or begin with `#` say nothing.
    pub fn read(path: &Path) -> Result<KnownFailures> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut known = KnownFailures::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let Some((name, reason)) = line.split_once(char::is_whitespace) else {
                bail!("{}: {line:?} gives no reason", path.display());
            };
            let mut parts = name.splitn(4, "::");
            let test: Vec<&str> = parts.by_ref().take(3).collect();
            let part = parts.next().unwrap_or("");
            known.0.entry(test.join("::")).or_default().insert(part.to_owned(), reason.trim().to_owned());
        }
        Ok(known)
    }

    /// The known failures of the test `name`, part → reason; empty for one that must pass.
    pub fn of(&self, name: &str) -> BTreeMap<String, String> {
        self.0.get(name).cloned().unwrap_or_default()
    }

    /// The tests listed that are none of `names`: misspelt or gone.
    pub fn unknown<'a>(&'a self, names: &'a [&str]) -> impl Iterator<Item = &'a str> {
        self.0.keys().map(String::as_str).filter(|listed| !names.contains(listed))
    }
}
