//! The control group of a container with its state: place, systemd unit, and limits.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::CgroupPlace;
use crate::oci::systemd::{self, Manager, Scope};

/// The control group of a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ControlGroup {
    /// Its directories.
    pub place: CgroupPlace,
    /// Its systemd unit, if there is one.
    scope: Option<Scope>,
    /// Its limits.
    resources: LinuxResources,
}

impl ControlGroup {
    /// Makes a group without processes; none on a host without control groups.
    ///
    /// # Errors
    /// The host does not permit it, the group has processes, or a limit is refused.
    pub(crate) fn make(path: Option<&Path>, id: &str, resources: &LinuxResources) -> Result<Option<ControlGroup>> {
        let Some(place) = CgroupPlace::find(path, id)? else { return Ok(None) };
        place.make()?;
        // Processes in the group would be killed with the container.
        ensure!(place.processes().is_empty(), "container's cgroup is not empty");
        if let Err(error) = place.limit(resources) {
            // The error of the limit takes precedence over one of the removal.
            let _ = place.remove();
            return Err(error);
        }
        Ok(Some(ControlGroup { place, scope: None, resources: resources.clone() }))
    }

    /// Makes systemd create a unit around a process. The group is passed to `keep` before anything else can fail.
    ///
    /// # Errors
    /// There is no systemd, or it refuses the unit, or a limit is refused.
    pub(crate) fn start(
        scope: Scope,
        pid: i32,
        id: &str,
        annotations: &BTreeMap<String, String>,
        resources: &LinuxResources,
        keep: impl FnOnce(ControlGroup) -> Result<()>,
    ) -> Result<()> {
        let extra = systemd::of_annotations(annotations)?;
        let mut manager = Manager::connect(scope.user)?;
        let path = Path::new("/").join(manager.control_group()?.trim_start_matches('/')).join(scope.path());
        let place = CgroupPlace::find(Some(&path), id)?.context("the host has no control groups")?;
        let unified = matches!(place, CgroupPlace::V2(_));
        if scope.user && !unified {
            bail!("cannot use rootless systemd cgroups manager on cgroup v1");
        }
        let io_accounting = if unified { "IOAccounting" } else { "BlockIOAccounting" };
        let pid_of_unit = u32::try_from(pid).context("the sandbox's process")?;
        let mut properties = scope.properties(id, pid_of_unit, io_accounting);
        properties.extend(extra);
        properties.extend(systemd::limits(resources, unified, manager.version)?);
        manager.start(&scope.name, &properties)?;
        keep(ControlGroup { place: place.clone(), scope: Some(scope), resources: resources.clone() })?;
        // systemd does not create all hierarchies of version 1, and sets only some of the limits.
        place.make()?;
        place.limit(resources)?;
        place.add(pid).with_context(|| format!("putting process {pid} in"))
    }

    /// The present limits merged with changes.
    ///
    /// # Errors
    /// The limits cannot be converted to JSON.
    pub(crate) fn with(&self, changes: &LinuxResources) -> Result<LinuxResources> {
        merged(&self.resources, changes)
    }

    /// Changes the limits that `changes` sets.
    ///
    /// # Errors
    /// A limit is refused; systemd keeps those set before.
    pub(crate) fn update(&mut self, changes: &LinuxResources) -> Result<()> {
        let merged = self.with(changes)?;
        if let Some(scope) = &self.scope {
            let mut manager = Manager::connect(scope.user)?;
            let unified = matches!(self.place, CgroupPlace::V2(_));
            manager.set(&scope.name, &systemd::limits(&merged, unified, manager.version)?)?;
        }
        self.place.limit(&merged)?;
        self.resources = merged;
        Ok(())
    }

    /// Kills the remaining processes and removes the group.
    ///
    /// # Errors
    /// A process does not end.
    pub(crate) fn remove(&self) -> Result<()> {
        if let Some(scope) = &self.scope {
            self.place.kill();
            // If the manager is unreachable, it notices the end when the group is empty.
            if let Err(error) = Manager::connect(scope.user).and_then(|mut manager| manager.stop(&scope.name)) {
                log::warn!("{error:#}");
            }
        }
        self.place.remove()
    }
}

/// The old limits with the new ones over them. Zeros and empty lists are not set.
fn merged(old: &LinuxResources, new: &LinuxResources) -> Result<LinuxResources> {
    let value = |resources: &LinuxResources| -> Result<Value> {
        serde_json::to_vec(resources).and_then(|text| serde_json::from_slice(&text)).context("the limits")
    };
    let (mut all, new) = (value(old)?, value(new)?);
    // Raw files are set only once, or they would undo later changes of the same limits.
    if let Value::Object(all) = &mut all {
        all.remove("unified");
    }
    overlay(&mut all, &new);
    // For these, zero is a value.
    if let (Some(Value::Object(all)), Some(new)) = (all.get_mut("cpu"), new.get("cpu")) {
        for name in ["burst", "idle"] {
            if let Some(value) = new.get(name).filter(|value| value.is_number()) {
                all.insert(name.into(), value.clone());
            }
        }
    }
    let said = |name: &str| new.pointer(name).and_then(Value::as_i64).unwrap_or(0);
    // Unlimited memory would contradict a limit of memory plus swap.
    if said("/memory/limit") == -1
        && said("/memory/swap") == 0
        && let Some(swap) = all.pointer_mut("/memory/swap")
    {
        *swap = (-1).into();
    }
    serde_json::from_value(all).context("the limits")
}

fn overlay(old: &mut Value, new: &Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, value) in new {
                overlay(old.entry(name).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (old, Value::Number(number)) if number.as_f64() == Some(0.0) && !old.is_null() => {}
        (old, Value::String(text)) if text.is_empty() && !old.is_null() => {}
        (old, Value::Array(list)) if list.is_empty() && !old.is_null() => {}
        (old, new) => *old = new.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn merge(old: Value, new: Value, wanted: Value) {
        let resources = |value: Value| serde_json::from_value::<LinuxResources>(value).unwrap();
        let merged = merged(&resources(old), &resources(new)).unwrap();
        assert_eq!(merged, resources(wanted));
    }

    #[test]
    fn what_is_not_spoken_of_stays() {
        merge(
            json!({"cpu": {"quota": 5, "period": 9, "cpus": "0"}, "memory": {"limit": 1}}),
            json!({"cpu": {"period": 7, "quota": 0, "cpus": ""}, "pids": {"limit": 3}}),
            json!({"cpu": {"quota": 5, "period": 7, "cpus": "0"}, "memory": {"limit": 1}, "pids": {"limit": 3}}),
        );
        merge(
            json!({"unified": {"a.b": "1", "a.c": "1"}}),
            json!({"unified": {"a.c": "2"}}),
            json!({"unified": {"a.c": "2"}}),
        );
    }

    #[test]
    fn a_zero_may_be_a_value() {
        merge(
            json!({"cpu": {"burst": 5, "idle": 1}}),
            json!({"cpu": {"burst": 0, "idle": 0}}),
            json!({"cpu": {"burst": 0, "idle": 0}}),
        );
    }

    #[test]
    fn no_limit_of_memory_is_none_of_swap() {
        merge(
            json!({"memory": {"limit": 5, "swap": 9}}),
            json!({"memory": {"limit": -1}}),
            json!({"memory": {"limit": -1, "swap": -1}}),
        );
        merge(json!({}), json!({"memory": {"limit": -1}}), json!({"memory": {"limit": -1}}));
    }
}
