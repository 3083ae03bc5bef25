//! Compiles guest programs, keeping each until its source, its flags or the shared header change.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use crate::guest::Guest;

const FLAGS: &[&str] = &["-O1", "-g", "-Wall", "-Werror", "-pthread", "-std=gnu11"];
/// Warnings about just the arguments these programs are about: bad pointers, lengths and results not looked at.
const EXPECTED: &[&str] = &[
    "-Wno-array-bounds",
    "-Wno-deprecated-declarations",
    "-Wno-format-truncation",
    "-Wno-nonnull",
    "-Wno-stringop-overflow",
    "-Wno-stringop-overread",
    "-Wno-unused-result",
];

/// Compiles `guest` into `directory` unless the program there is up to date, and returns the program.
pub fn guest(guest: &Guest, directory: &Path) -> Result<PathBuf> {
    let mut flags: Vec<&str> = [FLAGS, EXPECTED].concat();
    flags.push(if guest.dynamic { "-pie" } else { "-static" });
    flags.extend(guest.cflags.iter().map(String::as_str));
    program(&guest.source, &directory.join(&guest.family).join(&guest.name), &flags)
}

/// Compiles the C file `source` to `output` with `flags` unless that was done before.
pub fn program(source: &Path, output: &Path, flags: &[&str]) -> Result<PathBuf> {
    // Native and guest runs of one test want the same program at the same time.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let stamp = output.with_extension("stamp");
    let key = format!("{:016x}", key(source, flags)?);
    if output.exists() && fs::read_to_string(&stamp).is_ok_and(|old| old == key) {
        return Ok(output.to_owned());
    }
    fs::create_dir_all(output.parent().context("a program needs a directory")?)?;
    let new = output.with_extension(format!("new-{}", std::process::id()));
    // Libraries among the flags must follow the source to be searched.
    let compiler = Command::new("gcc").arg("-o").arg(&new).arg(source).args(flags).output();
    let compiler = compiler.context("cannot run gcc, which the guest programs are compiled with")?;
    if !compiler.status.success() {
        bail!("{} does not compile:\n{}", source.display(), String::from_utf8_lossy(&compiler.stderr));
    }
    fs::rename(&new, output)?;
    fs::write(&stamp, key)?;
    Ok(output.to_owned())
}

fn key(source: &Path, flags: &[&str]) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    fs::read(source)?.hash(&mut hasher);
    let headers = source.ancestors().skip(1).take(2).filter_map(|directory| fs::read_dir(directory).ok());
    let mut headers: Vec<PathBuf> = headers
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension() == Some("h".as_ref()))
        .collect();
    headers.sort();
    for header in headers {
        fs::read(header)?.hash(&mut hasher);
    }
    flags.hash(&mut hasher);
    Ok(hasher.finish())
}
