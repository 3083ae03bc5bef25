//! A bundle's limits and devices in the sentry's form.

use amber_abi::stat::Device;
use amber_sentry::config::{CpuQuota, DeviceSpec, Limits};
use amber_sentry::sandbox::has_device;
use anyhow::{Context, Result, bail};
use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType, LinuxResources};

use crate::oci::DEFAULT_PERIOD;

/// The limits that the sentry enforces, from `linux.resources`. What it does not set, or sets to 0, stays as in `old`;
/// negative numbers remove a limit.
///
/// # Errors
/// `unified` has an invalid limit.
pub(crate) fn limits(resources: &LinuxResources, old: Limits) -> Result<Limits> {
    let new = resource_limits(resources)?;
    let number = |new: Option<i64>, old: Option<u64>| new.map_or(old, |new| u64::try_from(new).ok());
    let period = new.period.or(old.cpu.map(|cpu| cpu.period)).unwrap_or(DEFAULT_PERIOD);
    let quota = number(new.quota, old.cpu.map(|cpu| cpu.quota));
    Ok(Limits {
        memory: number(new.memory, old.memory),
        tasks: number(new.tasks, old.tasks),
        cpu: quota.map(|quota| CpuQuota { quota, period }),
    })
}

/// The limits in `linux.resources` that the sentry enforces; `None` if not set. Negative numbers are no limit.
#[derive(Clone, Copy)]
pub(crate) struct ResourceLimits {
    /// Memory in bytes.
    pub memory: Option<i64>,
    /// Number of tasks.
    pub tasks: Option<i64>,
    /// CPU time per period in microseconds.
    pub quota: Option<i64>,
    /// The period in microseconds.
    pub period: Option<u64>,
}

/// Extracts the limits, from the settings of either control group version.
///
/// # Errors
/// `unified` has an invalid limit.
pub(crate) fn resource_limits(resources: &LinuxResources) -> Result<ResourceLimits> {
    let cpu = resources.cpu().as_ref();
    let mut limits = ResourceLimits {
        memory: resources.memory().as_ref().and_then(|memory| memory.limit()).filter(|&limit| limit != 0),
        tasks: resources.pids().as_ref().map(|pids| pids.limit()).filter(|&limit| limit != 0),
        quota: cpu.and_then(|cpu| cpu.quota()).filter(|&quota| quota != 0),
        period: cpu.and_then(|cpu| cpu.period()).filter(|&period| period > 0),
    };
    for (file, value) in resources.unified().iter().flatten() {
        let shown = || format!("`unified`: {file} {value:?}");
        let number = |text: &str| match text {
            "max" => Ok(-1),
            text => text.parse::<i64>().with_context(shown),
        };
        match file.as_str() {
            "memory.max" => limits.memory = Some(number(value.trim())?),
            "pids.max" => limits.tasks = Some(number(value.trim())?),
            "cpu.max" => {
                let mut words = value.split_whitespace();
                limits.quota = Some(number(words.next().with_context(shown)?)?);
                if let Some(period) = words.next() {
                    limits.period = Some(period.parse().with_context(shown)?);
                }
            }
            _ => {}
        }
    }
    Ok(limits)
}

/// The nodes of `linux.devices`.
///
/// # Errors
/// Names a device that Amber does not have. For a privileged container, which is given all devices of the host, these
/// are left out.
pub(crate) fn devices(linux: &Linux) -> Result<Vec<DeviceSpec>> {
    let mut nodes = Vec::new();
    for device in linux.devices().iter().flatten() {
        let path = device.path().to_str().context("`linux.devices`: a path is not UTF-8")?;
        let Some(spec) = node(path, device)? else {
            if !gives_all(linux) {
                let (major, minor) = (device.major(), device.minor());
                bail!(
                    "`linux.devices` {path} ({} {major}:{minor}): Amber has no such device; there are null, zero, full, \
                     random, urandom, tty, console and ptmx",
                    device.typ().as_str()
                );
            }
            log::info!("`linux.devices` {path} is left out: there is no such device");
            continue;
        };
        nodes.push(spec);
    }
    Ok(nodes)
}

fn node(path: &str, device: &LinuxDevice) -> Result<Option<DeviceSpec>> {
    let number = |number: i64| u32::try_from(number).with_context(|| format!("`linux.devices` {path}: {number}"));
    let (major, minor) = (number(device.major())?, number(device.minor())?);
    let character = matches!(device.typ(), LinuxDeviceType::C | LinuxDeviceType::U);
    if !character || !has_device(Device::new(major, minor)) {
        return Ok(None);
    }
    Ok(Some(DeviceSpec {
        path: path.to_owned(),
        major,
        minor,
        permissions: (device.file_mode().unwrap_or(0o666) & 0o7777) as u16,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    }))
}

/// Whether every device is allowed.
fn gives_all(linux: &Linux) -> bool {
    let rules = linux.resources().as_ref().and_then(|resources| resources.devices().as_ref());
    rules.into_iter().flatten().any(|rule| {
        let any = rule.major().is_none() && rule.minor().is_none();
        let rights = rule.access().as_deref().unwrap_or("rwm");
        rule.allow() && any && matches!(rule.typ(), None | Some(LinuxDeviceType::A)) && rights.contains('r')
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn limits_come_from_either_version() {
        let of = |value: serde_json::Value| limits(&serde_json::from_value(value).unwrap(), Limits::default());
        let plain =
            of(json!({"memory": {"limit": 5}, "pids": {"limit": 7}, "cpu": {"quota": 9, "period": 10}})).unwrap();
        let unified =
            of(json!({"unified": {"memory.max": "5", "pids.max": "7", "cpu.max": "9 10", "x.y": "z"}})).unwrap();
        for limits in [plain, unified] {
            assert_eq!((limits.memory, limits.tasks), (Some(5), Some(7)));
            assert!(limits.cpu.is_some_and(|cpu| (cpu.quota, cpu.period) == (9, 10)));
        }
        let none = of(json!({"memory": {"limit": 5}, "unified": {"memory.max": "max", "pids.max": "max"}})).unwrap();
        assert_eq!((none.memory, none.tasks), (None, None));
        assert!(of(json!({"unified": {"memory.max": "much"}})).is_err());
    }
}
