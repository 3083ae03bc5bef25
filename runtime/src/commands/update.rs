//! `amber update`: changes the limits of a container.

use std::fs::File;
use std::io::{Read, stdin};

use amber_host::channel::Channel;
use anyhow::{Context, Result, bail};
use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};

use crate::cli::UpdateArgs;
use crate::oci::Runtime;
use crate::oci::cgroup::DEFAULT_PERIOD;
use crate::oci::control::{LimitRequest, Request, order};
use crate::oci::state::Status;
use crate::resources;

/// Changes the given limits.
///
/// # Errors
/// The container is not running, or a limit is refused.
pub(super) fn command(runtime: &Runtime, args: &UpdateArgs) -> Result<()> {
    let locked = runtime.store.open(&args.id)?.lock()?;
    let mut state = locked.state()?;
    if !matches!(state.current(), Status::Running | Status::Created | Status::Paused) {
        bail!("container not running");
    }
    let schema =
        args.l3_cache_schema.as_ref().map(|_| "l3 cache").or(args.mem_bw_schema.as_ref().map(|_| "memory bandwidth"));
    if let Some(schema) = schema {
        bail!("Intel RDT: {schema} schema is not enabled");
    }
    let changes = changes(args)?;
    let new = resources::resource_limits(&changes)?;
    // Only one of quota and period may be given; the other keeps its value.
    let all = match &state.cgroup {
        Some(group) if new.quota.is_some() || new.period.is_some() => {
            resources::resource_limits(&group.with(&changes)?)?
        }
        _ => new,
    };
    let cpu = all.quota.filter(|_| new.quota.is_some() || new.period.is_some());
    let cpu = cpu.map(|quota| (limit(quota), all.period.unwrap_or(DEFAULT_PERIOD)));
    let limits = LimitRequest { memory: new.memory.map(limit), tasks: new.tasks.map(limit), cpu };
    let enforced_inside = limits.memory.is_some() || limits.tasks.is_some();
    // A frozen sandbox does not answer. The host enforces the quota; the guest learns of it at a later change.
    let frozen = state.paused && state.cgroup.is_some();
    if frozen && enforced_inside {
        bail!("cannot change limits of memory and tasks while the container is paused");
    }
    if !frozen && (enforced_inside || limits.cpu.is_some()) {
        let channel = Channel::new(locked.connect().context("connecting to the sandbox")?);
        order(&channel, &Request::Limit(limits))?;
    }
    if let Some(group) = &mut state.cgroup {
        group.update(&changes)?;
        locked.save(&state)?;
    }
    Ok(())
}

fn limit(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

fn changes(args: &UpdateArgs) -> Result<LinuxResources> {
    if let Some(path) = &args.resources {
        let mut text = String::new();
        if path.as_os_str() == "-" {
            stdin().read_to_string(&mut text).context("standard input")?;
        } else {
            File::open(path)
                .and_then(|mut file| file.read_to_string(&mut text))
                .with_context(|| path.display().to_string())?;
        }
        return serde_json::from_str(&text).context("the resources");
    }
    let bytes = |flag: &str, text: &Option<String>| -> Result<Value> {
        let Some(text) = text else { return Ok(Value::Null) };
        let value = parse_bytes(text).with_context(|| format!("invalid value for {flag}: {text:?}"))?;
        Ok(value.into())
    };
    let all = json!({
        "memory": {
            "limit": bytes("memory", &args.memory)?,
            "reservation": bytes("memory-reservation", &args.memory_reservation)?,
            "swap": bytes("memory-swap", &args.memory_swap)?,
        },
        "cpu": {
            "shares": args.cpu_share,
            "quota": args.cpu_quota,
            "period": args.cpu_period,
            "burst": args.cpu_burst,
            "idle": args.cpu_idle,
            "realtimeRuntime": args.cpu_rt_runtime,
            "realtimePeriod": args.cpu_rt_period,
            "cpus": args.cpuset_cpus,
            "mems": args.cpuset_mems,
        },
        "blockIO": {"weight": args.blkio_weight},
        "pids": args.pids_limit.map(|limit| json!({"limit": limit})),
    });
    serde_json::from_value(all).context("the limits")
}

/// Parses a number of bytes, with or without a unit such as `m` or `GiB`.
fn parse_bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let text = text.trim().to_ascii_lowercase();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..)?.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    digits.trim().parse::<i64>().ok().filter(|&number| number >= 0)?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        for (text, wanted) in [
            ("-1", Some(-1)),
            ("4096", Some(4096)),
            ("512m", Some(512 << 20)),
            ("1GiB", Some(1 << 30)),
            ("2kb", Some(2048)),
            ("-5", None),
            ("x", None),
            ("9999999999p", None),
        ] {
            assert_eq!(parse_bytes(text), wanted, "{text}");
        }
    }
}
