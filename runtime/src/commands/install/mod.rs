//! `amber install` and `amber uninstall`: registers Amber with Docker, Podman and containerd.

mod containerd;
mod docker;
mod podman;

use std::env;
use std::fs;
use std::io::{self, BufRead, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cli::{Engine, InstallArgs};

/// The name of the runtime in every engine.
const NAME: &str = "amber";

/// The configuration of an engine.
struct Target {
    /// Name of the engine.
    name: &'static str,
    /// The configuration file, relative to the root.
    file: &'static str,
    /// Paths, relative to the root; any of them shows that the engine is installed.
    signs: &'static [&'static str],
    /// Adds the runtime, by its path, to a configuration. `None` is a missing file.
    add: fn(Option<&str>, &str) -> Result<String>,
    /// Removes the runtime. `None` means that the file can be removed.
    remove: fn(&str) -> Result<Option<String>>,
    /// How to make the engine read its configuration again.
    hint: &'static str,
}

const TARGETS: [(Engine, Target); 3] = [
    (
        Engine::Docker,
        Target {
            name: "Docker",
            file: "etc/docker/daemon.json",
            signs: &["etc/docker", "usr/bin/dockerd", "usr/sbin/dockerd", "usr/local/bin/dockerd"],
            add: docker::add,
            remove: docker::remove,
            hint: "systemctl reload docker; docker run --runtime=amber …",
        },
    ),
    (
        Engine::Podman,
        Target {
            name: "Podman",
            file: "etc/containers/containers.conf.d/50-amber.conf",
            signs: &["etc/containers", "usr/bin/podman", "usr/local/bin/podman"],
            add: podman::add,
            remove: podman::remove,
            hint: "podman --runtime amber run …",
        },
    ),
    (
        Engine::Containerd,
        Target {
            name: "containerd",
            file: "etc/containerd/config.toml",
            signs: &["etc/containerd", "usr/bin/containerd", "usr/local/bin/containerd"],
            add: containerd::add,
            remove: containerd::remove,
            hint: "systemctl restart containerd; a RuntimeClass with `handler: amber` in Kubernetes",
        },
    ),
];

/// A change of a configuration file.
struct Change<'a> {
    target: &'a Target,
    path: PathBuf,
    before: Option<String>,
    after: Option<String>,
}

/// Adds Amber to the engines.
///
/// # Errors
/// A configuration is invalid or cannot be written.
pub(super) fn install(args: &InstallArgs) -> Result<u8> {
    let program = env::current_exe().context("the path of this program")?;
    let program = program.to_str().context("the path of this program is not UTF-8")?;
    let change = |target: &Target, text: Option<&str>| (target.add)(text, program).map(Some);
    let changes = changes(args, &change)?;
    if changes.is_empty() {
        return say("Nothing to do: Amber is installed already, or there is no engine here.\n");
    }
    if !confirmed(args, &changes)? {
        return Ok(0);
    }
    for change in &changes {
        let backup = backup(&change.path);
        if let Some(before) = change.before.as_ref().filter(|_| !backup.exists()) {
            fs::write(&backup, before).with_context(|| backup.display().to_string())?;
        }
        write(&change.path, change.after.as_deref())?;
        say(&format!("{}: {}\n", change.target.name, change.target.hint))?;
    }
    Ok(0)
}

/// Removes Amber from the engines. A configuration that was not changed otherwise is restored byte for byte.
///
/// # Errors
/// As for [`install`].
pub(super) fn uninstall(args: &InstallArgs) -> Result<u8> {
    let change = |target: &Target, text: Option<&str>| match text {
        Some(text) => (target.remove)(text),
        None => Ok(None),
    };
    let mut changes = changes(args, &change)?;
    for change in &mut changes {
        // Restore the backup if it says the same.
        let Ok(old) = fs::read_to_string(backup(&change.path)) else { continue };
        let trimmed = |text: Option<&str>| text.map(|text| text.trim_end().to_owned());
        let was = (change.target.remove)(&old)?;
        let same =
            trimmed(was.as_deref()) == trimmed(change.after.as_deref()) || docker::same(&old, change.after.as_deref());
        if same {
            change.after = Some(old);
        }
    }
    if changes.is_empty() {
        return say("Nothing to do: Amber is not installed.\n");
    }
    if !confirmed(args, &changes)? {
        return Ok(0);
    }
    for change in &changes {
        write(&change.path, change.after.as_deref())?;
        match fs::remove_file(backup(&change.path)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| backup(&change.path).display().to_string());
            }
            _ => {}
        }
    }
    Ok(0)
}

type Edit<'a> = &'a dyn Fn(&Target, Option<&str>) -> Result<Option<String>>;

fn changes(args: &InstallArgs, edit: Edit<'_>) -> Result<Vec<Change<'static>>> {
    let mut changes = Vec::new();
    for (engine, target) in &TARGETS {
        let there = target.signs.iter().any(|sign| args.prefix.join(sign).exists());
        if !(args.engines.contains(engine) || args.engines.is_empty() && there) {
            continue;
        }
        let path = args.prefix.join(target.file);
        let before = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            text => Some(text.with_context(|| path.display().to_string())?),
        };
        let after = edit(target, before.as_deref()).with_context(|| path.display().to_string())?;
        if before != after {
            changes.push(Change { target, path, before, after });
        }
    }
    Ok(changes)
}

/// Shows the changes and asks for confirmation.
fn confirmed(args: &InstallArgs, changes: &[Change<'_>]) -> Result<bool> {
    for change in changes {
        say(&format!("{}: {}\n{}", change.target.name, change.path.display(), difference(change)))?;
    }
    if args.dry_run {
        return Ok(false);
    }
    if args.yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() {
        bail!("nothing was changed; --yes does it without a question");
    }
    say("Write this? [y/N] ")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("standard input")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// The changed lines of a file, between the common ones at its beginning and end.
fn difference(change: &Change<'_>) -> String {
    let lines = |text: &Option<String>| text.as_deref().unwrap_or_default().lines().map(str::to_owned).collect();
    let (old, new): (Vec<String>, Vec<String>) = (lines(&change.before), lines(&change.after));
    let front = old.iter().zip(&new).take_while(|(one, other)| one == other).count();
    let room = old.len().min(new.len()) - front;
    let back = old.iter().rev().zip(new.iter().rev()).take(room).take_while(|(one, other)| one == other).count();
    let mut text = String::new();
    let marked = [("-", old.get(front..old.len() - back)), ("+", new.get(front..new.len() - back))];
    for (mark, lines) in marked {
        for line in lines.unwrap_or_default() {
            text.push_str(&format!("  {mark} {line}\n"));
        }
    }
    text
}

fn backup(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".before-amber");
    path.with_file_name(name)
}

/// Writes a file atomically, or removes it, with its directory if that becomes empty.
fn write(path: &Path, text: Option<&str>) -> Result<()> {
    let shown = || path.display().to_string();
    let directory = path.parent().unwrap_or(path);
    let Some(text) = text else {
        fs::remove_file(path).with_context(shown)?;
        // The directory was made for the file; it stays if it has other files.
        let _ = fs::remove_dir(directory);
        return Ok(());
    };
    fs::create_dir_all(directory).with_context(shown)?;
    crate::oci::write_whole(path, text)
}

fn say(text: &str) -> Result<u8> {
    let done = crate::print(text)?;
    io::stdout().flush().context("standard output")?;
    Ok(done)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
