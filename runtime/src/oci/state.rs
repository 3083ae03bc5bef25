//! The state of a container, which is stored between commands.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use oci_spec::runtime::Hooks;
use serde::{Deserialize, Serialize};

use super::cgroup::ControlGroup;

/// The version of the specification that Amber follows.
pub(crate) const OCI_VERSION: &str = "1.0.2";

/// The status of a container, in the order of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// `create` is in progress.
    Creating,
    /// Created, but not started.
    Created,
    /// The first process runs.
    Running,
    /// The processes are suspended.
    Paused,
    /// It has ended.
    Stopped,
}

impl Status {
    /// The name in the OCI specification.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// The contents of `state.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    /// The version in the bundle.
    pub oci_version: String,
    /// The container's name.
    pub id: String,
    /// The sandbox's process ID; 0 before it exists.
    pub pid: i32,
    /// The start time of that process in clock ticks since the host's boot, which distinguishes it from a later one
    /// with the same ID.
    pub process_start: u64,
    /// The last status that a command has set. Never `Paused`, which `paused` records.
    pub status: Status,
    /// Whether it is suspended.
    pub paused: bool,
    /// The directory with config.json.
    pub bundle: PathBuf,
    /// The directory that is the guest's root.
    pub rootfs: PathBuf,
    /// The time of its creation.
    pub created: String,
    /// The user ID of its creator.
    pub owner: u32,
    /// The annotations of the bundle.
    pub annotations: BTreeMap<String, String>,
    /// Its control group.
    pub cgroup: Option<ControlGroup>,
    /// Hooks before and after the start, and after the end.
    pub hooks: Option<Hooks>,
}

/// A container's state as `state`, `list` and hooks show it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Shown<'a> {
    oci_version: &'a str,
    id: &'a str,
    pid: i32,
    status: Status,
    bundle: &'a Path,
    rootfs: &'a Path,
    created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    owner: &'a str,
}

impl State {
    /// The current time, in the format of `created`.
    pub(crate) fn now() -> String {
        humantime::format_rfc3339_nanos(SystemTime::now()).to_string()
    }

    /// Stores the sandbox's process.
    pub(crate) fn set_process(&mut self, pid: i32) {
        self.pid = pid;
        self.process_start = process_start(pid).unwrap_or(0);
    }

    /// The present status: a container whose process has ended is stopped.
    pub(crate) fn current(&self) -> Status {
        match self.status {
            Status::Creating if self.pid == 0 => Status::Creating,
            _ if self.is_alive() && self.paused => Status::Paused,
            status if self.is_alive() => status,
            _ => Status::Stopped,
        }
    }

    /// Whether the sandbox's process is running.
    pub(crate) fn is_alive(&self) -> bool {
        self.pid > 0 && process_start(self.pid) == Some(self.process_start)
    }

    /// The state to show. A stopped container has no process.
    pub(crate) fn shown<'a>(&'a self, status: Status, owner: &'a str) -> Shown<'a> {
        Shown {
            oci_version: &self.oci_version,
            id: &self.id,
            pid: if status == Status::Stopped { 0 } else { self.pid },
            status,
            bundle: &self.bundle,
            rootfs: &self.rootfs,
            created: &self.created,
            annotations: &self.annotations,
            owner,
        }
    }
}

/// The start time of a process, unless it has ended.
fn process_start(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    // The 22nd field of the file.
    let start = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_others() {
        let own = std::process::id() as i32;
        assert!(process_start(own).is_some());
        assert_eq!(process_start(i32::MAX), None);
    }
}
