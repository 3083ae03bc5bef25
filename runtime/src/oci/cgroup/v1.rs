//! Control groups of version 1: a hierarchy for each controller.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxResources};

use super::{RDMA, rdma, with_own_memory, write, write_named};
use crate::mountinfo::HostMount;

/// Directories by controller.
pub(super) type Places = BTreeMap<String, PathBuf>;

/// The controllers of containers. Devices are excluded, as guests have no access to those of the host.
const CONTROLLERS: [&str; 11] =
    ["blkio", "cpu", "cpuacct", "cpuset", "freezer", "hugetlb", "memory", "net_cls", "net_prio", "pids", "rdma"];

/// The directory of a group in each mounted hierarchy.
pub(super) fn places(mounts: &[HostMount], own: &str, absolute: bool, path: &Path) -> Places {
    let mut places = Places::new();
    for mount in mounts.iter().filter(|mount| mount.kind == "cgroup") {
        for controller in mount.options.split(',').filter(|option| CONTROLLERS.contains(option)) {
            let mut place = mount.point.clone();
            if !absolute {
                let here = Path::new(own_place(own, controller));
                place.push(super::clean(here.strip_prefix(&mount.root).unwrap_or(here)));
            }
            places.entry(controller.to_owned()).or_insert(place.join(path));
        }
    }
    places
}

fn own_place<'a>(own: &'a str, controller: &str) -> &'a str {
    let line = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, place) = rest.split_once(':')?;
        controllers.split(',').any(|it| it == controller).then_some(place)
    });
    line.unwrap_or("/")
}

/// Creates the group in every hierarchy.
pub(super) fn make(places: &Places) -> io::Result<()> {
    for (controller, place) in places {
        if controller == "cpuset" { make_cpuset(place)? } else { fs::create_dir_all(place)? }
    }
    Ok(())
}

/// The CPUs and memory nodes of a cpuset, which are initially empty and must be set.
const CPUSET: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// Creates a cpuset and its parents. Another command may create one at the same time.
fn make_cpuset(place: &Path) -> io::Result<()> {
    let filled = |file: &&str| fs::read_to_string(place.join(file)).is_ok_and(|text| !text.trim().is_empty());
    if CPUSET.iter().all(filled) {
        return Ok(());
    }
    if let Some(parent) = place.parent() {
        make_cpuset(parent)?;
    }
    match fs::create_dir(place) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => inherit_cpuset(place),
    }
}

fn inherit_cpuset(place: &Path) -> io::Result<()> {
    let Some(parent) = place.parent() else { return Ok(()) };
    for file in CPUSET {
        if fs::read_to_string(place.join(file))?.trim().is_empty() {
            write(&place.join(file), fs::read_to_string(parent.join(file))?.trim())?;
        }
    }
    Ok(())
}

/// Sets limits.
pub(super) fn limit(places: &Places, resources: &LinuxResources) -> Result<()> {
    if let Some(memory) = resources.memory() {
        let limit = memory.limit().filter(|&limit| limit != 0).map(with_own_memory);
        let swap = memory.swap().filter(|&swap| swap != 0).map(with_own_memory);
        memory_limits(places, limit, swap)?;
        set(places, "memory", "memory.soft_limit_in_bytes", memory.reservation().filter(|&soft| soft != 0))?;
        set(places, "memory", "memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp().filter(|&tcp| tcp != 0))?;
        set(places, "memory", "memory.swappiness", memory.swappiness().filter(|&it| it <= 100))?;
    }
    if let Some(cpu) = resources.cpu() {
        limit_cpu(places, cpu)?;
    }
    if let Some(block) = resources.block_io() {
        limit_io(places, block)?;
    }
    for pages in resources.hugepage_limits().iter().flatten() {
        let file = format!("hugetlb.{}.limit_in_bytes", pages.page_size());
        set(places, "hugetlb", &file, Some(pages.limit()))?;
    }
    for line in rdma(resources) {
        set(places, "rdma", RDMA, Some(line))?;
    }
    if let Some(network) = resources.network() {
        set(places, "net_cls", "net_cls.classid", network.class_id().filter(|&class| class != 0))?;
        for interface in network.priorities().iter().flatten() {
            let value = format!("{} {}", interface.name(), interface.priority());
            set(places, "net_prio", "net_prio.ifpriomap", Some(value))?;
        }
    }
    Ok(())
}

/// Writes a value to a file of a controller. A missing controller is an error, except that of memory, which the sandbox
/// limits itself, and except on a host without any control groups.
fn set(places: &Places, controller: &str, file: &str, value: Option<impl ToString>) -> Result<()> {
    match (places.get(controller), value) {
        (_, None) => Ok(()),
        (Some(place), Some(value)) => write_named(&place.join(file), &value.to_string()),
        (None, Some(_)) if controller == "memory" || places.is_empty() => {
            log::warn!("{file} is not set: the host has no controller `{controller}`");
            Ok(())
        }
        (None, Some(_)) => bail!("cannot set {file}: the host has no controller `{controller}`"),
    }
}

fn limit_cpu(places: &Places, cpu: &LinuxCpu) -> Result<()> {
    let set = |file: &str, value: Option<i64>| set(places, "cpu", file, value);
    let unsigned = |value: Option<u64>| value.map(|value| i64::try_from(value).unwrap_or(i64::MAX));
    // An idle group has no shares.
    set("cpu.shares", unsigned(cpu.shares().filter(|&it| it != 0 && cpu.idle() != Some(1))))?;
    // The new value may conflict with an old one of the other files, so it is tried before and after.
    let set_period = || set("cpu.cfs_period_us", unsigned(cpu.period().filter(|&it| it != 0)));
    let set_burst = || set("cpu.cfs_burst_us", unsigned(cpu.burst()));
    let (early_period, early_burst) = (set_period(), set_burst());
    set("cpu.cfs_quota_us", cpu.quota().filter(|&it| it != 0))?;
    if early_period.is_err() {
        set_period()?;
    }
    if early_burst.is_err() {
        set_burst()?;
    }
    set("cpu.idle", cpu.idle())?;
    set("cpu.rt_period_us", unsigned(cpu.realtime_period().filter(|&it| it != 0)))?;
    set("cpu.rt_runtime_us", cpu.realtime_runtime().filter(|&it| it != 0))?;
    for (file, list) in CPUSET.into_iter().zip([cpu.cpus(), cpu.mems()]) {
        self::set(places, "cpuset", file, list.as_ref().filter(|list| !list.is_empty()))?;
    }
    Ok(())
}

fn limit_io(places: &Places, block: &LinuxBlockIo) -> Result<()> {
    let weights = |names: [&str; 2], value: String| {
        let Some(place) = places.get("blkio") else { return set(places, "blkio", names[0], Some(value)) };
        let file = names.map(|name| place.join(name)).into_iter().find(|file| file.exists());
        write_named(&file.context("the host has no weights of block I/O")?, &value)
    };
    if let Some(weight) = block.weight().filter(|&it| it != 0) {
        weights(["blkio.weight", "blkio.bfq.weight"], weight.to_string())?;
    }
    for device in block.weight_device().iter().flatten() {
        if let Some(weight) = device.weight().filter(|&it| it != 0) {
            let value = format!("{}:{} {weight}", device.major(), device.minor());
            weights(["blkio.weight_device", "blkio.bfq.weight_device"], value)?;
        }
    }
    let lists = [
        ("blkio.throttle.read_bps_device", block.throttle_read_bps_device()),
        ("blkio.throttle.write_bps_device", block.throttle_write_bps_device()),
        ("blkio.throttle.read_iops_device", block.throttle_read_iops_device()),
        ("blkio.throttle.write_iops_device", block.throttle_write_iops_device()),
    ];
    for (file, list) in lists {
        for entry in list.iter().flatten() {
            let value = format!("{}:{} {}", entry.major(), entry.minor(), entry.rate());
            set(places, "blkio", file, Some(value))?;
        }
    }
    Ok(())
}

/// Sets both limits in the order that the host accepts: memory is never above memory plus swap.
fn memory_limits(places: &Places, limit: Option<i64>, swap: Option<i64>) -> Result<()> {
    let Some(place) = places.get("memory") else { return Ok(()) };
    let (alone, both) = (place.join("memory.limit_in_bytes"), place.join("memory.memsw.limit_in_bytes"));
    let set_alone = || limit.map_or(Ok(()), |limit| write_named(&alone, &limit.to_string()));
    let set_both = || match swap {
        Some(swap) if both.exists() => write_named(&both, &swap.to_string()),
        _ => Ok(()),
    };
    let shrinks =
        |limit: i64| fs::read_to_string(&both).is_ok_and(|now| now.trim().parse().is_ok_and(|now: i64| limit < now));
    if limit.is_none_or(|limit| limit == -1 || !shrinks(limit)) {
        set_both()?;
        return set_alone();
    }
    set_alone()?;
    set_both()
}

/// Freezes or thaws the group and waits until this is done.
pub(super) fn freeze(places: &Places, frozen: bool) -> Result<bool> {
    let Some(place) = places.get("freezer").filter(|place| place.exists()) else { return Ok(false) };
    let wanted = if frozen { "FROZEN" } else { "THAWED" };
    let file = place.join("freezer.state");
    let limit = Instant::now() + Duration::from_secs(2);
    loop {
        // Repeated, since a process that forks can prevent a group from freezing.
        write_named(&file, wanted)?;
        if fs::read_to_string(&file).with_context(|| file.display().to_string())?.trim() == wanted {
            return Ok(true);
        }
        if Instant::now() > limit {
            write_named(&file, "THAWED")?;
            bail!("unable to freeze");
        }
        thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn limits_are_written_where_there_are_controllers() {
        let root = tempfile::tempdir().unwrap();
        let files = [
            ("hugetlb", "hugetlb.2MB.limit_in_bytes", "4194304"),
            ("net_cls", "net_cls.classid", "65537"),
            ("net_prio", "net_prio.ifpriomap", "eth0 3"),
            ("rdma", "rdma.max", "mlx5_0 hca_handle=3 hca_object=7"),
            ("memory", "memory.kmem.tcp.limit_in_bytes", "1048576"),
            ("cpu", "cpu.shares", "512"),
            ("cpuset", "cpuset.cpus", "0-1"),
            ("blkio", "blkio.throttle.read_bps_device", "8:0 1024"),
        ];
        let places: Places = files.iter().map(|(name, ..)| ((*name).to_owned(), root.path().join(name))).collect();
        for (name, file, _) in files {
            fs::create_dir_all(&places[name]).unwrap();
            fs::write(places[name].join(file), "").unwrap();
        }
        let resources = serde_json::from_value(json!({
            "hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}],
            "network": {"classID": 65537, "priorities": [{"name": "eth0", "priority": 3}]},
            "rdma": {"mlx5_0": {"hcaHandles": 3, "hcaObjects": 7}},
            "memory": {"kernelTCP": 1_048_576},
            "cpu": {"shares": 512, "cpus": "0-1"},
            "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1024}]},
        }))
        .unwrap();
        limit(&places, &resources).unwrap();
        for (name, file, value) in files {
            assert_eq!(fs::read_to_string(places[name].join(file)).unwrap(), value, "{file}");
        }
        fs::remove_file(places["net_cls"].join("net_cls.classid")).unwrap();
        assert!(limit(&places, &resources).is_err());
        // A host without control groups sets no limits; a missing controller is tolerated only for memory.
        limit(&Places::new(), &resources).unwrap();
        for (name, file, _) in files {
            fs::write(places[name].join(file), "").unwrap();
            let fewer =
                places.iter().filter(|(other, _)| *other != name).map(|(k, v)| (k.clone(), v.clone())).collect();
            assert_eq!(limit(&fewer, &resources).is_ok(), name == "memory", "without {name}");
        }
    }

    #[test]
    fn hierarchies_are_found_where_they_are_mounted() {
        let mounts = "30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      31 25 0:27 /here /sys/fs/cgroup/memory rw - cgroup none rw,memory\n\
                      32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let own = "3:memory:/here/below\n2:cpu,cpuacct:/\n0::/x\n";
        let mounts = crate::mountinfo::parse(mounts.as_bytes()).unwrap();
        let absolute = places(&mounts, own, true, Path::new("docker/1"));
        let expected = [
            ("cpu", "/sys/fs/cgroup/cpu,cpuacct/docker/1"),
            ("cpuacct", "/sys/fs/cgroup/cpu,cpuacct/docker/1"),
            ("memory", "/sys/fs/cgroup/memory/docker/1"),
        ];
        assert!(absolute.iter().map(|(k, v)| (k.as_str(), v.to_str().unwrap())).eq(expected));
        let relative = places(&mounts, own, false, Path::new("1"));
        assert_eq!(relative["memory"], Path::new("/sys/fs/cgroup/memory/below/1"));
    }
}
