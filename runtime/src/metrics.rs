//! The file of `--metrics`.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use amber_platform::Platform;
use anyhow::{Context, Result};

use crate::cli::GlobalArgs;

/// The file for the metrics of a sandbox.
pub(crate) struct Metrics {
    path: PathBuf,
    file: File,
}

impl Metrics {
    /// Opens and truncates the file of `--metrics`, if given.
    pub(crate) fn open(args: &GlobalArgs) -> Result<Option<Metrics>> {
        let Some(path) = &args.metrics else { return Ok(None) };
        let file = File::create(path).with_context(|| format!("--metrics {}", path.display()))?;
        Ok(Some(Metrics { path: path.clone(), file }))
    }

    /// Writes the platform's counters. Errors are only logged, since the guest has ended and its status counts.
    pub(crate) fn write(mut self, platform: &dyn Platform) {
        let mut text = String::new();
        for (name, value) in platform.counters() {
            let _ = writeln!(text, "{name} {value}");
        }
        if let Err(error) = self.file.write_all(text.as_bytes()) {
            log::error!("--metrics {}: {error}", self.path.display());
        }
    }
}
