//! A bundle's limits and devices in the sentry's form.

use amber_abi::stat::Device;
use amber_sentry::boot::{CpuQuota, DeviceSpec, Limits};
use amber_sentry::fs::dev;
use anyhow::{Context, Result, bail};
use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType, LinuxResources};

/// The period of processor time where only a quota is given, in microseconds.
const PERIOD: u64 = 100_000;

/// What `linux.resources` says of the limits that hold inside; what it does not speak of stays as in `old`. Zero means
/// nothing said, a negative number no limit.
pub fn limits(resources: &LinuxResources, old: Limits) -> Limits {
    let number = |said: Option<i64>, old: Option<u64>| match said {
        None | Some(0) => old,
        Some(said) => u64::try_from(said).ok(),
    };
    let memory = resources.memory().as_ref().and_then(|memory| memory.limit());
    let cpu = resources.cpu().as_ref();
    let period = cpu.and_then(|cpu| cpu.period()).filter(|&period| period > 0);
    let period = period.or(old.cpu.map(|cpu| cpu.period)).unwrap_or(PERIOD);
    let quota = number(cpu.and_then(|cpu| cpu.quota()), old.cpu.map(|cpu| cpu.quota));
    Limits {
        memory: number(memory, old.memory),
        tasks: number(resources.pids().as_ref().map(|pids| pids.limit()), old.tasks),
        cpu: quota.map(|quota| CpuQuota { quota, period }),
    }
}

/// The nodes of `linux.devices`.
///
/// # Errors
/// Names a device that nobody serves in a guest. A privileged container, to which all of the host's are given, does
/// without those.
pub fn devices(linux: &Linux) -> Result<Vec<DeviceSpec>> {
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
    if !character || !dev::serves(Device::new(major, minor)) {
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

/// Whether every device may be used.
fn gives_all(linux: &Linux) -> bool {
    let rules = linux.resources().as_ref().and_then(|resources| resources.devices().as_ref());
    rules.into_iter().flatten().any(|rule| {
        let any = rule.major().is_none() && rule.minor().is_none();
        let rights = rule.access().as_deref().unwrap_or("rwm");
        rule.allow() && any && matches!(rule.typ(), None | Some(LinuxDeviceType::A)) && rights.contains('r')
    })
}
