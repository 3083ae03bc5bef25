//! Limits and annotations of a bundle as properties of a unit.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::LinuxResources;
use zvariant::Value;

use super::{Property, text};
use crate::oci::cgroup::{DEFAULT_PERIOD, convert, with_own_memory};

/// systemd's value for no limit.
const INFINITY: u64 = u64::MAX;

/// The prefix of annotations that are properties.
const PREFIX: &str = "org.systemd.property.";

/// The first version with periods of CPU time.
const WITH_PERIODS: u32 = 242;

/// The first version with sets of CPUs.
const WITH_PROCESSORS: u32 = 244;

/// The properties for `linux.resources`, without limits that are only set in the files of the group.
///
/// # Errors
/// A limit is invalid.
pub(crate) fn limits(resources: &LinuxResources, unified: bool, version: u32) -> Result<Vec<Property>> {
    let mut all = Limits { properties: Vec::new(), version };
    let (limit, reservation, swap) = resources.memory().as_ref().map_or((0, 0, 0), |memory| {
        let said = |number: Option<i64>| number.unwrap_or(0);
        (said(memory.limit()), said(memory.reservation()), said(memory.swap()))
    });
    if limit != 0 {
        all.add(if unified { "MemoryMax" } else { "MemoryLimit" }, number(with_own_memory(limit)));
    }
    if unified {
        if reservation != 0 {
            all.add("MemoryLow", number(reservation));
        }
        if let Some(swap) = convert::swap(limit, swap)? {
            all.add("MemorySwapMax", number(swap));
        }
    }
    if let Some(cpu) = resources.cpu() {
        if let Some(shares) = cpu.shares().filter(|&shares| shares != 0) {
            if unified {
                all.add("CPUWeight", convert::weight(shares));
            } else {
                all.add("CPUShares", shares);
            }
        }
        all.quota(cpu.quota().unwrap_or(0), cpu.period().unwrap_or(0));
        if unified {
            all.set_of("AllowedCPUs", cpu.cpus().as_deref())?;
            all.set_of("AllowedMemoryNodes", cpu.mems().as_deref())?;
        }
    }
    let weight = resources.block_io().as_ref().and_then(|block| block.weight()).filter(|&weight| weight != 0);
    if let (false, Some(weight)) = (unified, weight) {
        all.add("BlockIOWeight", u64::from(weight));
    }
    if resources.pids().as_ref().is_some_and(|pids| pids.limit() != 0) {
        // The sandbox limits tasks itself: a guest task is not one task of the host. Without this property, systemd
        // would set a limit of its own.
        all.add("TasksMax", INFINITY);
    }
    if unified {
        for (file, value) in resources.unified().iter().flatten().collect::<BTreeMap<_, _>>() {
            all.file(file, value.trim()).with_context(|| format!("`unified`: {file} {value:?}"))?;
        }
    }
    Ok(all.properties)
}

struct Limits {
    properties: Vec<Property>,
    version: u32,
}

impl Limits {
    fn add<T: Into<Value<'static>>>(&mut self, name: &str, value: T) {
        self.properties.push((name.to_owned(), value.into()));
    }

    /// Sets a quota in microseconds per `period`; a negative quota is none.
    fn quota(&mut self, quota: i64, period: u64) {
        if period != 0 && self.version >= WITH_PERIODS {
            self.add("CPUQuotaPeriodUSec", period);
        }
        if quota == 0 && period == 0 {
            return;
        }
        let period = if period == 0 { DEFAULT_PERIOD } else { period };
        let per_second = u64::try_from(quota).ok().filter(|&quota| quota > 0);
        // systemd only supports whole percents. Rounded up, so that the group's own file can have the exact limit.
        let per_second = per_second.map_or(INFINITY, |quota| {
            (quota.saturating_mul(1_000_000) / period).div_ceil(10_000).saturating_mul(10_000)
        });
        self.add("CPUQuotaPerSecUSec", per_second);
    }

    fn set_of(&mut self, name: &str, list: Option<&str>) -> Result<()> {
        let Some(list) = list.filter(|list| !list.is_empty() && self.version >= WITH_PROCESSORS) else { return Ok(()) };
        let bits = bits(list).with_context(|| format!("{name}: {list:?} is no list of numbers"))?;
        self.add(name, bits);
        Ok(())
    }

    /// Sets the property for a file of the group, if there is one.
    fn file(&mut self, file: &str, value: &str) -> Result<()> {
        let bytes = |own: bool| -> Result<u64> {
            if value == "max" {
                return Ok(INFINITY);
            }
            let bytes: i64 = value.parse().context("neither a number nor `max`")?;
            Ok(number(if own { with_own_memory(bytes) } else { bytes }))
        };
        match file {
            "cpu.max" => {
                let (quota, period) = value.split_once(' ').unwrap_or((value, "0"));
                let quota = if quota == "max" { -1 } else { quota.parse().context("no quota")? };
                self.quota(quota, period.trim().parse().context("no period")?);
            }
            "cpu.weight" => self.add("CPUWeight", value.parse::<u64>().context("no number")?),
            "cpuset.cpus" => self.set_of("AllowedCPUs", Some(value))?,
            "cpuset.mems" => self.set_of("AllowedMemoryNodes", Some(value))?,
            "memory.max" => self.add("MemoryMax", bytes(true)?),
            "memory.high" => self.add("MemoryHigh", bytes(true)?),
            "memory.low" => self.add("MemoryLow", bytes(false)?),
            "memory.min" => self.add("MemoryMin", bytes(false)?),
            "memory.swap.max" => self.add("MemorySwapMax", bytes(false)?),
            "pids.max" => self.add("TasksMax", INFINITY),
            _ => log::debug!("`unified`: {file} is no property of a systemd unit"),
        }
        Ok(())
    }
}

fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(INFINITY)
}

/// A set of numbers such as `0-2,4` as a bit mask, the lowest byte first.
fn bits(list: &str) -> Option<Vec<u8>> {
    let mut bits = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        for number in first.parse::<u16>().ok()?..=last.parse::<u16>().ok()? {
            let byte = usize::from(number / 8);
            if bits.len() <= byte {
                bits.resize(byte + 1, 0);
            }
            *bits.get_mut(byte)? |= 1_u8 << (number % 8);
        }
    }
    (!bits.is_empty()).then_some(bits)
}

/// The properties in annotations such as `org.systemd.property.TimeoutStopSec`.
///
/// # Errors
/// A name or a value is malformed.
pub(crate) fn of_annotations(annotations: &BTreeMap<String, String>) -> Result<Vec<Property>> {
    let mut all = Vec::new();
    for (key, value) in annotations {
        let Some(name) = key.strip_prefix(PREFIX).filter(|name| !name.is_empty()) else { continue };
        ensure!(
            name.len() >= 3 && name.bytes().all(|byte| byte.is_ascii_alphabetic()),
            "annotation {key}: {name:?} is no name of a property"
        );
        let parsed = text::parse(value).with_context(|| format!("annotation {key}={value}: value parse error"))?;
        // Unit files have seconds where the bus has microseconds.
        let seconds = name.strip_suffix("Sec").filter(|stem| stem.ends_with(|c: char| c.is_ascii_lowercase()));
        all.push(match seconds {
            Some(stem) => {
                let value = microseconds(&parsed).with_context(|| format!("annotation {key}={value}"))?;
                (format!("{stem}USec"), value.into())
            }
            None => (name.to_owned(), parsed),
        });
    }
    Ok(all)
}

fn microseconds(value: &Value<'_>) -> Result<u64> {
    const EACH: u64 = 1_000_000;
    let whole = |seconds: i64| u64::try_from(seconds).ok();
    let seconds = match *value {
        Value::U8(it) => Some(it.into()),
        Value::U16(it) => Some(it.into()),
        Value::U32(it) => Some(it.into()),
        Value::U64(it) => Some(it),
        Value::I16(it) => whole(it.into()),
        Value::I32(it) => whole(it.into()),
        Value::I64(it) => whole(it),
        Value::F64(it) if (0.0..1e12).contains(&it) => return Ok((it * EACH as f64) as u64),
        _ => bail!("not a number of seconds"),
    };
    seconds.and_then(|seconds| seconds.checked_mul(EACH)).context("not a number of seconds")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn properties(resources: serde_json::Value, unified: bool) -> Vec<(String, String)> {
        let resources = serde_json::from_value(resources).unwrap();
        let all = limits(&resources, unified, 252).unwrap();
        all.into_iter().map(|(name, value)| (name, value.to_string())).collect()
    }

    fn equal(found: &[(String, String)], wanted: &[(&str, &str)]) {
        let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn limits_have_names_of_either_version() {
        let all = json!({
            "memory": {"limit": 1 << 20, "swap": 3 << 20, "reservation": 5},
            "cpu": {"shares": 1024, "quota": 50_500, "period": 200_000, "cpus": "0-2,9", "mems": "0"},
            "pids": {"limit": 7},
            "blockIO": {"weight": 500},
        });
        equal(
            &properties(all.clone(), false),
            &[
                ("MemoryLimit", "uint64 68157440"),
                ("CPUShares", "uint64 1024"),
                ("CPUQuotaPeriodUSec", "uint64 200000"),
                ("CPUQuotaPerSecUSec", "uint64 260000"),
                ("BlockIOWeight", "uint64 500"),
                ("TasksMax", "uint64 18446744073709551615"),
            ],
        );
        equal(
            &properties(all, true),
            &[
                ("MemoryMax", "uint64 68157440"),
                ("MemoryLow", "uint64 5"),
                ("MemorySwapMax", "uint64 2097152"),
                ("CPUWeight", "uint64 39"),
                ("CPUQuotaPeriodUSec", "uint64 200000"),
                ("CPUQuotaPerSecUSec", "uint64 260000"),
                ("AllowedCPUs", "[byte 0x07, 0x02]"),
                ("AllowedMemoryNodes", "[byte 0x01]"),
                ("TasksMax", "uint64 18446744073709551615"),
            ],
        );
    }

    #[test]
    fn files_are_properties_too() {
        let all = json!({"unified": {
            "cpu.max": "max 50000", "memory.high": "1048576", "memory.min": "max", "hugetlb.2MB.max": "0",
        }});
        equal(
            &properties(all.clone(), true),
            &[
                ("CPUQuotaPeriodUSec", "uint64 50000"),
                ("CPUQuotaPerSecUSec", "uint64 18446744073709551615"),
                ("MemoryHigh", "uint64 68157440"),
                ("MemoryMin", "uint64 18446744073709551615"),
            ],
        );
        assert!(properties(all, false).is_empty());
        let wrong = serde_json::from_value(json!({"unified": {"memory.max": "much"}})).unwrap();
        assert!(limits(&wrong, true, 252).is_err());
    }

    #[test]
    fn an_old_systemd_is_asked_for_less() {
        let some = serde_json::from_value(json!({"cpu": {"quota": 1000, "period": 10_000, "cpus": "0"}})).unwrap();
        let names: Vec<_> = limits(&some, true, 241).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["CPUQuotaPerSecUSec"]);
    }

    #[test]
    fn annotations_are_properties() {
        let of = |name: &str, value: &str| {
            let annotations =
                [(format!("org.systemd.property.{name}"), value.to_owned()), ("other".into(), "x".into())];
            of_annotations(&annotations.into()).map(|all| (all[0].0.clone(), all[0].1.to_string()))
        };
        let wanted = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(of("TimeoutStopSec", "uint64 7").unwrap(), wanted("TimeoutStopUSec", "uint64 7000000"));
        assert_eq!(of("TimeoutStopSec", "1.5").unwrap(), wanted("TimeoutStopUSec", "uint64 1500000"));
        assert_eq!(of("CollectMode", "'inactive'").unwrap(), wanted("CollectMode", "\"inactive\""));
        for (name, value) in [("ab", "1"), ("A1b", "1"), ("After", "x"), ("TimeoutStopSec", "'x'"), ("XSec", "-5")] {
            let result = of(name, value);
            assert!(result.is_err() || name == "XSec", "{name} {value}: {result:?}");
        }
    }
}
