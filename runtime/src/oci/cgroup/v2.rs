//! Control groups of version 2: one hierarchy.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{LinuxBlockIo, LinuxMemory, LinuxResources};

use super::{DEFAULT_PERIOD, MOUNTED, RDMA, convert, rdma, with_own_memory, write, write_named};

/// The directory of a group.
pub(super) fn place(own: &str, absolute: bool, path: &Path) -> PathBuf {
    let mut place = PathBuf::from(MOUNTED);
    if !absolute {
        // A sibling of this process's group: a group with processes cannot have children with controllers.
        let here = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
        place.extend(super::clean(Path::new(here)).parent());
    }
    place.join(path)
}

/// Creates the group, with all controllers that its parents have.
pub(super) fn make(place: &Path) -> io::Result<()> {
    let below = place.strip_prefix(MOUNTED).unwrap_or(place);
    let mut path = PathBuf::from(MOUNTED);
    for component in below.components() {
        for controller in words(&path.join("cgroup.controllers")) {
            // A controller that cannot be enabled is reported when a limit requires it.
            let _ = write(&path.join("cgroup.subtree_control"), &format!("+{controller}"));
        }
        path.push(component);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Sets limits.
pub(super) fn limit(place: &Path, resources: &LinuxResources) -> Result<()> {
    let set = |file: &str, value: String| write_named(&place.join(file), &value);
    if let Some(memory) = resources.memory() {
        limit_memory(place, memory)?;
    }
    if let Some(block) = resources.block_io() {
        limit_io(place, block)?;
    }
    if let Some(cpu) = resources.cpu() {
        if let Some(idle) = cpu.idle() {
            set("cpu.idle", idle.to_string())?;
        }
        // An idle group has no weight.
        if let Some(shares) = cpu.shares().filter(|&it| it != 0 && cpu.idle() != Some(1)) {
            set("cpu.weight", convert::weight(shares).to_string())?;
        }
        // The new value may conflict with the old quota, so it is tried before and after.
        let set_burst = || cpu.burst().map_or(Ok(()), |burst| set("cpu.max.burst", burst.to_string()));
        let early_burst = set_burst();
        let (quota, period) = (cpu.quota().unwrap_or(0), cpu.period().unwrap_or(0));
        if quota != 0 || period != 0 {
            let quota = if quota > 0 { quota.to_string() } else { "max".to_owned() };
            let period = if period == 0 { DEFAULT_PERIOD } else { period };
            set("cpu.max", format!("{quota} {period}"))?;
        }
        if early_burst.is_err() {
            set_burst()?;
        }
        for (file, list) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
            if let Some(list) = list.as_ref().filter(|it| !it.is_empty()) {
                set(file, list.clone())?;
            }
        }
    }
    for pages in resources.hugepage_limits().iter().flatten() {
        set(&format!("hugetlb.{}.max", pages.page_size()), pages.limit().to_string())?;
    }
    for line in rdma(resources) {
        set(RDMA, line)?;
    }
    // Sorted by name, since a map has no order.
    for (file, value) in resources.unified().iter().flatten().collect::<BTreeMap<_, _>>() {
        set_file(place, file, value)?;
    }
    Ok(())
}

fn limit_memory(place: &Path, memory: &LinuxMemory) -> Result<()> {
    let set = |file: &str, value: i64| write_named(&place.join(file), &number(value));
    let limit = memory.limit().unwrap_or(0);
    // Swap is counted separately here, but together with memory in the configuration.
    if let Some(swap) = convert::swap(limit, memory.swap().unwrap_or(0))? {
        // Without swap on the host, a limit of zero or none needs no file.
        if place.join("memory.swap.max").exists() || swap > 0 {
            set("memory.swap.max", swap)?;
        }
    }
    if limit != 0 {
        set("memory.max", with_own_memory(limit))?;
    }
    match memory.reservation().unwrap_or(0) {
        0 => Ok(()),
        soft => set("memory.low", soft),
    }
}

fn limit_io(place: &Path, block: &LinuxBlockIo) -> Result<()> {
    let bfq = place.join("io.bfq.weight");
    if let Some(weight) = block.weight().filter(|&it| it != 0) {
        if bfq.exists() {
            write_named(&bfq, &weight.to_string())?;
        } else {
            write_named(&place.join("io.weight"), &convert::io_weight(weight).to_string())?;
        }
    }
    for device in block.weight_device().iter().flatten() {
        if let Some(weight) = device.weight().filter(|&it| it != 0) {
            write_named(&bfq, &format!("{}:{} {weight}", device.major(), device.minor()))?;
        }
    }
    let lists = [
        ("rbps", block.throttle_read_bps_device()),
        ("wbps", block.throttle_write_bps_device()),
        ("riops", block.throttle_read_iops_device()),
        ("wiops", block.throttle_write_iops_device()),
    ];
    for (name, list) in lists {
        for entry in list.iter().flatten() {
            let value = format!("{}:{} {name}={}", entry.major(), entry.minor(), entry.rate());
            write_named(&place.join("io.max"), &value)?;
        }
    }
    Ok(())
}

/// Sets a file from `unified`, one line per write, as the host requires.
fn set_file(place: &Path, file: &str, value: &str) -> Result<()> {
    ensure!(!file.contains('/'), "unified resource {file:?} must be a file name (no slashes)");
    let (controller, _) = file
        .split_once('.')
        .with_context(|| format!("unified resource {file:?} must be in the form CONTROLLER.PARAMETER"))?;
    let value = match file {
        // The sandbox limits tasks itself: a guest task is not one task of the host.
        "pids.max" => return Ok(()),
        "memory.max" | "memory.high" => match value.trim().parse() {
            Ok(limit) => with_own_memory(limit).to_string(),
            Err(_) => value.to_owned(),
        },
        _ => value.to_owned(),
    };
    for line in value.lines() {
        let written = write(&place.join(file), line);
        if let Err(error) = &written
            && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied)
            && controller != "cgroup"
            && !words(&place.join("cgroup.controllers")).iter().any(|it| it == controller)
        {
            bail!("unified resource {file:?} can't be set: controller {controller:?} not available");
        }
        written.with_context(|| format!("unable to set unified resource {file:?}"))?;
    }
    Ok(())
}

fn words(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// Freezes or thaws the group and waits until this is done.
pub(super) fn freeze(place: &Path, frozen: bool) -> Result<bool> {
    let file = place.join("cgroup.freeze");
    if !file.exists() {
        return Ok(false);
    }
    write_named(&file, if frozen { "1" } else { "0" })?;
    let wanted = if frozen { "frozen 1" } else { "frozen 0" };
    let limit = Instant::now() + Duration::from_secs(2);
    loop {
        let events = fs::read_to_string(place.join("cgroup.events")).context("cgroup.events")?;
        if events.lines().any(|line| line == wanted) {
            return Ok(true);
        }
        if Instant::now() > limit {
            bail!("unable to freeze");
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn number(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn places_are_absolute_or_beside_us() {
        let own = "0::/user.slice/session.scope\n";
        assert_eq!(place(own, true, Path::new("a/b")), Path::new("/sys/fs/cgroup/a/b"));
        assert_eq!(place(own, false, Path::new("c")), Path::new("/sys/fs/cgroup/user.slice/c"));
        assert_eq!(place("0::/\n", false, Path::new("c")), Path::new("/sys/fs/cgroup/c"));
    }

    /// A directory with the files of a group.
    fn group(files: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(directory.path().join(file), "").unwrap();
        }
        directory
    }

    const FILES: [&str; 14] = [
        "cpu.idle",
        "cpu.max",
        "cpu.max.burst",
        "cpu.weight",
        "cpuset.cpus",
        "cpuset.mems",
        "io.max",
        "io.weight",
        "memory.high",
        "memory.low",
        "memory.max",
        "memory.swap.max",
        "pids.max",
        "hugetlb.2MB.max",
    ];

    fn limited(files: &[&str], resources: serde_json::Value) -> Result<Vec<(String, String)>> {
        let directory = group(files);
        limit(directory.path(), &serde_json::from_value(resources).unwrap())?;
        let all =
            files.iter().map(|file| ((*file).to_owned(), fs::read_to_string(directory.path().join(file)).unwrap()));
        Ok(all.filter(|(_, text)| !text.is_empty()).collect())
    }

    #[track_caller]
    fn writes(resources: serde_json::Value, wanted: &[(&str, &str)]) {
        let written = limited(&FILES, resources).unwrap();
        assert!(
            written.iter().map(|(file, text)| (file.as_str(), text.as_str())).eq(wanted.iter().copied()),
            "{written:?}"
        );
    }

    #[test]
    fn limits_are_written_as_this_version_has_them() {
        writes(
            json!({
                "memory": {"limit": 1 << 28, "swap": 3 << 27, "reservation": 5},
                "cpu": {"shares": 512, "quota": 5000, "period": 20_000, "burst": 7, "cpus": "0-1", "mems": "0"},
                "pids": {"limit": 7},
                "blockIO": {"weight": 500, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 9}]},
            }),
            &[
                ("cpu.max", "5000 20000"),
                ("cpu.max.burst", "7"),
                ("cpu.weight", "20"),
                ("cpuset.cpus", "0-1"),
                ("cpuset.mems", "0"),
                ("io.max", "8:0 rbps=9"),
                ("io.weight", "4950"),
                ("memory.low", "5"),
                ("memory.max", "335544320"),
                ("memory.swap.max", "134217728"),
            ],
        );
    }

    #[test]
    fn nothing_and_everything_are_told_apart() {
        writes(json!({"memory": {"limit": 0, "swap": 0}, "cpu": {"quota": 0, "shares": 0, "cpus": ""}}), &[]);
        writes(
            json!({"memory": {"limit": -1}, "cpu": {"quota": -1}}),
            &[("cpu.max", "max 100000"), ("memory.max", "max"), ("memory.swap.max", "max")],
        );
        writes(json!({"cpu": {"idle": 1, "shares": 2}}), &[("cpu.idle", "1")]);
        writes(json!({"cpu": {"quota": 500}}), &[("cpu.max", "500 100000")]);
    }

    #[test]
    fn unified_names_files() {
        writes(
            json!({"unified": {
                "memory.max": "1048576", "memory.high": "max", "pids.max": "5", "io.weight": "default 9",
                "hugetlb.2MB.max": "0",
            }}),
            &[("io.weight", "default 9"), ("memory.high", "max"), ("memory.max", "68157440"), ("hugetlb.2MB.max", "0")],
        );
        let error = |file: &str| format!("{:#}", limited(&FILES, json!({"unified": {file: "1"}})).unwrap_err());
        assert!(error("../memory.max").contains("must be a file name (no slashes)"));
        assert!(error("memory").contains("must be in the form CONTROLLER.PARAMETER"));
        assert!(error("misc.max").contains("controller \"misc\" not available"));
        assert!(error("cgroup.what").contains("unable to set unified resource"));
    }

    #[test]
    fn a_host_without_swap_needs_no_limit_of_it() {
        let with = |memory: serde_json::Value| limited(&["memory.max"], json!({"memory": memory}));
        assert!(with(json!({"limit": 4096, "swap": 4096})).is_ok());
        assert!(with(json!({"limit": 4096, "swap": -1})).is_ok());
        assert!(with(json!({"limit": 4096, "swap": 8192})).is_err());
        assert!(limited(&FILES, json!({"memory": {"swap": 5}})).is_err());
    }
}
