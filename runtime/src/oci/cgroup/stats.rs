//! Statistics of a group in the format of `runc events`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::numbers;

/// The length of a clock tick in nanoseconds, in which version 1 counts user and system time.
const TICK: u64 = 10_000_000;

/// Statistics of a group of version 1.
pub(super) fn of_v1(places: &BTreeMap<String, PathBuf>) -> Value {
    let file = |controller: &str, name: &str| places.get(controller).map(|place| place.join(name)).unwrap_or_default();
    let one = |controller: &str, name: &str| numbers::<u64>(&file(controller, name)).first().copied().unwrap_or(0);
    let table = |controller: &str, name: &str| table(&file(controller, name));
    let memory = |kind: &str| {
        let mut data = Map::new();
        let names = [("limit", "limit_in_bytes"), ("usage", "usage_in_bytes"), ("max", "max_usage_in_bytes")];
        for (name, file) in names {
            let value = one("memory", &format!("memory.{kind}{file}"));
            if value != 0 {
                data.insert(name.into(), value.into());
            }
        }
        data.insert("failcnt".into(), one("memory", &format!("memory.{kind}failcnt")).into());
        Value::Object(data)
    };
    let ticks = table("cpuacct", "cpuacct.stat");
    let share = |name: &str| ticks.get(name).copied().unwrap_or(0).saturating_mul(TICK);
    let all_cpus: Vec<(u64, u64)> = fs::read_to_string(file("cpuacct", "cpuacct.usage_all"))
        .unwrap_or_default()
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1).map_while(|word| word.parse().ok());
            Some((words.next()?, words.next()?))
        })
        .collect();
    let throttling = table("cpu", "cpu.stat");
    let throttling =
        [("periods", "nr_periods"), ("throttledPeriods", "nr_throttled"), ("throttledTime", "throttled_time")]
            .into_iter()
            .filter_map(|(name, key)| {
                Some((name.to_owned(), Value::from(*throttling.get(key).filter(|&&it| it != 0)?)))
            });
    json!({
        "cpu": {
            "usage": {
                "total": one("cpuacct", "cpuacct.usage"),
                "percpu": numbers::<u64>(&file("cpuacct", "cpuacct.usage_percpu")),
                "percpu_kernel": all_cpus.iter().map(|cpu| cpu.1).collect::<Vec<_>>(),
                "percpu_user": all_cpus.iter().map(|cpu| cpu.0).collect::<Vec<_>>(),
                "kernel": share("system"),
                "user": share("user"),
            },
            "throttling": throttling.collect::<Map<_, _>>(),
        },
        "cpuset": {
            "cpus": list(&file("cpuset", "cpuset.cpus")),
            "cpu_exclusive": one("cpuset", "cpuset.cpu_exclusive"),
            "mems": list(&file("cpuset", "cpuset.mems")),
            "mem_hardwall": one("cpuset", "cpuset.mem_hardwall"),
            "mem_exclusive": one("cpuset", "cpuset.mem_exclusive"),
            "memory_migrate": one("cpuset", "cpuset.memory_migrate"),
            "memory_spread_page": one("cpuset", "cpuset.memory_spread_page"),
            "memory_spread_slab": one("cpuset", "cpuset.memory_spread_slab"),
            "memory_pressure": one("cpuset", "cpuset.memory_pressure"),
            "sched_load_balance": one("cpuset", "cpuset.sched_load_balance"),
            "sched_relax_domain_level": numbers::<i64>(&file("cpuset", "cpuset.sched_relax_domain_level")).first(),
        },
        "memory": {
            "usage": memory(""),
            "swap": memory("memsw."),
            "kernel": memory("kmem."),
            "kernelTCP": memory("kmem.tcp."),
            "raw": table("memory", "memory.stat"),
        },
        "pids": pids(one("pids", "pids.current"), numbers(&file("pids", "pids.max")).first().copied()),
        "blkio": block_v1(&file("blkio", "blkio.throttle.io_service_bytes"), &file("blkio", "blkio.throttle.io_serviced")),
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

/// Statistics of a group of version 2, converted to the format of version 1.
pub(super) fn of_v2(place: &Path) -> Value {
    let one = |name: &str| numbers::<u64>(&place.join(name)).first().copied();
    let cpu = table(&place.join("cpu.stat"));
    let time = |name: &str| cpu.get(name).copied().unwrap_or(0).saturating_mul(1000);
    let memory = |kind: &str| {
        let one = |name: &str| one(&format!("memory.{kind}{name}"));
        let limit = one("max").unwrap_or(u64::MAX);
        let known = [("limit", Some(limit)), ("usage", one("current")), ("max", one("peak")), ("failcnt", Some(0))];
        known.into_iter().filter_map(|(name, number)| Some((name.to_owned(), number?.into()))).collect::<Map<_, _>>()
    };
    let usage = memory("");
    let mut swap = memory("swap.");
    // Combined with memory, as in version 1; unlimited if either is.
    for name in ["usage", "limit"] {
        let number = |data: &Map<_, _>| data.get(name).and_then(Value::as_u64).unwrap_or(0);
        let sum = number(&swap).saturating_add(number(&usage));
        swap.insert(name.into(), sum.into());
    }
    json!({
        "cpu": {
            "usage": {"total": time("usage_usec"), "kernel": time("system_usec"), "user": time("user_usec")},
            "throttling": {
                "periods": cpu.get("nr_periods"),
                "throttledPeriods": cpu.get("nr_throttled"),
                "throttledTime": time("throttled_usec"),
            },
        },
        "cpuset": {
            "cpus": list(&place.join("cpuset.cpus.effective")),
            "mems": list(&place.join("cpuset.mems.effective")),
        },
        "memory": {
            "usage": usage,
            "swap": swap,
            "kernel": {"failcnt": 0},
            "kernelTCP": {"failcnt": 0},
            "raw": table(&place.join("memory.stat")),
        },
        "pids": pids(one("pids.current").unwrap_or(0), one("pids.max")),
        "blkio": block_v2(&place.join("io.stat")),
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

fn pids(current: u64, limit: Option<u64>) -> Value {
    let mut data = Map::new();
    if current != 0 {
        data.insert("current".into(), current.into());
    }
    if let Some(limit) = limit {
        data.insert("limit".into(), limit.into());
    }
    Value::Object(data)
}

fn block_v1(bytes: &Path, operations: &Path) -> Value {
    let mut data = Map::new();
    for (name, path) in [("ioServiceBytesRecursive", bytes), ("ioServicedRecursive", operations)] {
        let text = fs::read_to_string(path).unwrap_or_default();
        let entries: Vec<Value> = text.lines().filter_map(block_line).collect();
        if !entries.is_empty() {
            data.insert(name.into(), entries.into());
        }
    }
    Value::Object(data)
}

/// A line such as `8:0 Read 4096`.
fn block_line(line: &str) -> Option<Value> {
    let mut words = line.split(' ');
    let (major, minor) = words.next()?.split_once(':')?;
    let (operation, value) = (words.next()?, words.next()?);
    Some(block_entry(major.parse().ok()?, minor.parse().ok()?, operation, value.parse().ok()?))
}

fn block_entry(major: u64, minor: u64, operation: &str, value: u64) -> Value {
    json!({"major": major, "minor": minor, "op": operation, "value": value})
}

/// Lines such as `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 …`.
fn block_v2(path: &Path) -> Value {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for line in fs::read_to_string(path).unwrap_or_default().lines() {
        let mut words = line.split(' ');
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            match name {
                "rbytes" => bytes.push(block_entry(major, minor, "Read", value)),
                "wbytes" => bytes.push(block_entry(major, minor, "Write", value)),
                "rios" => operations.push(block_entry(major, minor, "Read", value)),
                "wios" => operations.push(block_entry(major, minor, "Write", value)),
                _ => {}
            }
        }
    }
    let mut data = Map::new();
    for (name, entries) in [("ioServiceBytesRecursive", bytes), ("ioServicedRecursive", operations)] {
        if !entries.is_empty() {
            data.insert(name.into(), entries.into());
        }
    }
    Value::Object(data)
}

/// Lines of a name and a number.
fn table(path: &Path) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// Numbers in the format `0-2,4`.
fn list(path: &Path) -> Vec<u16> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let range = |part: &str| -> Option<std::ops::RangeInclusive<u16>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_of_version_2_is_shown_with_memory() {
        let place = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("memory.current", "4096\n"),
            ("memory.max", "8192\n"),
            ("memory.peak", "6000\n"),
            ("memory.swap.current", "100\n"),
            ("memory.swap.max", "max\n"),
        ] {
            fs::write(place.path().join(name), text).unwrap();
        }
        let shown = of_v2(place.path());
        let memory = shown.get("memory").unwrap();
        let usage = json!({"limit": 8192, "usage": 4096, "max": 6000, "failcnt": 0});
        assert_eq!(memory.get("usage"), Some(&usage));
        let swap = json!({"limit": u64::MAX, "usage": 4196, "failcnt": 0});
        assert_eq!(memory.get("swap"), Some(&swap));
        // Without the controller there are no numbers.
        let none = of_v2(&place.path().join("none"));
        assert_eq!(none.pointer("/memory/usage"), Some(&json!({"limit": u64::MAX, "failcnt": 0})));
    }
}
