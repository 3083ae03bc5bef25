//! The control group of a container: creation, limits, statistics, freezer and removal, through the host's cgroup file
//! system.
//!
//! With `--systemd-cgroup`, systemd makes and removes the group as a unit (see [`super::systemd`]); limits are set here
//! in that case too.
//!
//! Own code: the maintained libraries (`libcgroups`, `cgroups-rs`) depend on a second nix, a parser of all of /proc or
//! an asynchronous runtime, and require device rules, which have no use for a guest without access to host devices.

pub(crate) mod convert;
mod group;
mod stats;
mod v1;
mod v2;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxRdma, LinuxResources};
use serde::{Deserialize, Serialize};

use crate::mountinfo;
pub(crate) use group::ControlGroup;

/// The usual mount point of cgroups.
const MOUNTED: &str = "/sys/fs/cgroup";

/// Memory of the sandbox itself beyond that of the guest, in bytes. The guest's limit is enforced inside, by killing a
/// guest process; the host's limit is a second line of defence.
const OWN_MEMORY: i64 = 64 << 20;

/// The period of CPU time if only a quota is set, in microseconds.
pub(crate) const DEFAULT_PERIOD: u64 = 100_000;

/// The directories of a control group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CgroupPlace {
    /// The directory in each hierarchy, by the hierarchy's name in `/proc/self/cgroup`.
    V1(BTreeMap<String, PathBuf>),
    /// The directory in the only hierarchy.
    V2(PathBuf),
}

impl CgroupPlace {
    /// Determines the directories of the group for the container `id`, which need not exist; none on a host without
    /// cgroups.
    ///
    /// # Errors
    /// The host's mounts cannot be read.
    pub(crate) fn find(path: Option<&Path>, id: &str) -> Result<Option<CgroupPlace>> {
        // A path with a leading slash is relative to the root of the hierarchies, any other to this process's group.
        let (absolute, relative) = match path {
            Some(path) if !path.as_os_str().is_empty() => (path.is_absolute(), clean(path)),
            _ => (false, PathBuf::from(id)),
        };
        let own = fs::read_to_string("/proc/self/cgroup").context("/proc/self/cgroup")?;
        if statfs(MOUNTED).is_ok_and(|it| it.filesystem_type() == CGROUP2_SUPER_MAGIC) {
            return Ok(Some(CgroupPlace::V2(v2::place(&own, absolute, &relative))));
        }
        let places = v1::places(&mountinfo::own()?, &own, absolute, &relative);
        Ok((!places.is_empty()).then_some(CgroupPlace::V1(places)))
    }

    /// Creates the group.
    ///
    /// # Errors
    /// The host does not permit it.
    pub(crate) fn make(&self) -> io::Result<()> {
        match self {
            CgroupPlace::V1(places) => v1::make(places),
            CgroupPlace::V2(place) => v2::make(place),
        }
    }

    /// Sets limits.
    ///
    /// # Errors
    /// The host refuses a limit; the message names the file.
    pub(crate) fn limit(&self, resources: &LinuxResources) -> Result<()> {
        match self {
            CgroupPlace::V1(places) => v1::limit(places, resources),
            CgroupPlace::V2(place) => v2::limit(place, resources),
        }
    }

    /// Puts a process into the group.
    ///
    /// # Errors
    /// The host does not permit it.
    pub(crate) fn add(&self, pid: i32) -> io::Result<()> {
        self.directories().try_for_each(|place| write(&place.join("cgroup.procs"), &pid.to_string()))
    }

    /// Freezes or thaws the group and waits until this is done. Returns false if the host has no freezer.
    ///
    /// # Errors
    /// The group no longer exists, or does not freeze in time.
    pub(crate) fn freeze(&self, frozen: bool) -> Result<bool> {
        match self {
            CgroupPlace::V1(places) => v1::freeze(places, frozen),
            CgroupPlace::V2(place) => v2::freeze(place, frozen),
        }
    }

    /// The statistics of the group, in the format of `runc events`.
    pub(crate) fn stats(&self) -> serde_json::Value {
        match self {
            CgroupPlace::V1(places) => stats::of_v1(places),
            CgroupPlace::V2(place) => stats::of_v2(place),
        }
    }

    /// The processes in the group.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let mut all: Vec<i32> = self.directories().flat_map(|place| numbers(&place.join("cgroup.procs"))).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Sends SIGKILL to all processes in the group; they end asynchronously.
    pub(crate) fn kill(&self) {
        // A frozen process does not end. Without a freezer there are none.
        let _ = self.freeze(false);
        for pid in self.processes() {
            // The process may have ended already.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// Kills the remaining processes and removes the group.
    ///
    /// # Errors
    /// A process does not end.
    pub(crate) fn remove(&self) -> Result<()> {
        let limit = Instant::now() + Duration::from_secs(5);
        for place in self.directories() {
            while let Err(error) = remove_tree(place) {
                let shown = || format!("removing the cgroup {}", place.display());
                if error.raw_os_error() != Some(Errno::EBUSY as i32) || Instant::now() > limit {
                    return Err(error).with_context(shown);
                }
                self.kill();
                thread::sleep(Duration::from_millis(2));
            }
        }
        Ok(())
    }

    fn directories(&self) -> Box<dyn Iterator<Item = &PathBuf> + '_> {
        match self {
            CgroupPlace::V1(places) => Box::new(places.values()),
            CgroupPlace::V2(place) => Box::new(std::iter::once(place)),
        }
    }
}

/// Whether an error is one that ordinary users get without a delegated group.
pub(crate) fn is_forbidden(error: &anyhow::Error) -> bool {
    let kind = |error: &io::Error| matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem);
    error.downcast_ref::<io::Error>().is_some_and(kind)
}

/// A path without `..` and other special components.
fn clean(path: &Path) -> PathBuf {
    path.components().filter(|component| matches!(component, Component::Normal(_))).collect()
}

/// The memory limit of the host's group for a limit of the guest, with the memory of the sandbox itself added.
pub(crate) fn with_own_memory(limit: i64) -> i64 {
    if limit > 0 { limit.saturating_add(OWN_MEMORY) } else { limit }
}

/// The file of RDMA limits, in both versions.
const RDMA: &str = "rdma.max";

/// Its lines, in order of device names.
fn rdma(resources: &LinuxResources) -> Vec<String> {
    let devices: BTreeMap<_, _> = resources.rdma().iter().flatten().collect();
    let line = |(device, limits): (&String, &LinuxRdma)| {
        let handles = limits.hca_handles().map(|count| format!(" hca_handle={count}"));
        let objects = limits.hca_objects().map(|count| format!(" hca_object={count}"));
        format!("{device}{}{}", handles.unwrap_or_default(), objects.unwrap_or_default())
    };
    devices.into_iter().map(line).collect()
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::File::options().write(true).open(path)?.write_all(text.as_bytes())
}

fn write_named(path: &Path, text: &str) -> Result<()> {
    write(path, text).with_context(|| format!("failed to write {text:?} to {}", path.display()))
}

/// Removes a group with the groups below, which programs of the guest may have made. A missing group is not an error.
fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {}
        result => return result,
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

fn numbers<T: std::str::FromStr>(path: &Path) -> Vec<T> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_out() {
        assert_eq!(clean(Path::new("/../../a/./b/..")), Path::new("a/b"));
    }

    #[test]
    fn a_group_is_made_used_and_removed() {
        let name = format!("amber-test-{}", std::process::id());
        let Ok(Some(place)) = CgroupPlace::find(Some(Path::new(&name)), "id") else { return };
        // Ordinary users have no groups.
        if place.make().is_err() {
            return;
        }
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        place.add(child.id() as i32).unwrap();
        assert!(place.processes().contains(&(child.id() as i32)));
        place.freeze(true).unwrap();
        assert!(place.stats().is_object());
        place.remove().unwrap();
        child.wait().unwrap();
        assert!(place.directories().all(|directory| !directory.exists()));
    }
}
