//! `--systemd-cgroup`: the control group is a unit of systemd's, which here only answers as one would.

use std::fs;
use std::path::Path;

use nix::unistd::geteuid;
use serde_json::json;

use crate::common::{Outcome, World};
use crate::systemd_bus::{Behaviour, SystemdBus};

/// A limited, waiting container in a scope with this end of its name; none for ordinary users, who have no groups.
fn world(name: &str, behaviour: Behaviour) -> Option<(World, SystemdBus, String)> {
    if !geteuid().is_root() || !Path::new("/sys/fs/cgroup").is_dir() {
        eprintln!("skipped: this needs root and control groups");
        return None;
    }
    let mut world = World::new(&["serve"]);
    let bus = SystemdBus::listen(&world.path("bus"), behaviour);
    let unique = world.directory.path().file_name().unwrap().to_string_lossy().trim_start_matches('.').to_owned();
    // In the root of the tree, since slices are not removed here.
    world.config["linux"]["cgroupsPath"] = json!(format!("-.slice:amber-tests-{unique}:{name}"));
    world.config["linux"]["resources"] = json!({
        "memory": {"limit": 256 << 20}, "cpu": {"shares": 512, "quota": 50_000}, "pids": {"limit": 50},
    });
    world.config["annotations"] = json!({"org.systemd.property.TimeoutStopSec": "uint64 7"});
    world.environment.push(("DBUS_SYSTEM_BUS_ADDRESS", bus.address.clone()));
    let unit = format!("amber-tests-{unique}-{name}.scope");
    Some((world, bus, unit))
}

fn create(world: &World) -> Outcome {
    world.write();
    let bundle = world.path("bundle");
    let outcome =
        world.run(&["--systemd-cgroup", "--rootless", "false", "create", "--bundle", bundle.to_str().unwrap(), "c"]);
    Outcome { out: String::new(), ..outcome }
}

/// The directories of a unit, in however many hierarchies.
fn groups(unit: &str) -> usize {
    let roots = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|root| root.path());
    roots.chain([Path::new("/sys/fs/cgroup").to_owned()]).filter(|root| root.join(unit).is_dir()).count()
}

#[test]
fn a_unit_is_made_changed_and_stopped() {
    let Some((world, bus, unit)) = world("late", Behaviour::default()) else { return };
    let outcome = create(&world);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let calls = bus.calls();
    let [start] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!((start.member.as_str(), &start.unit), ("StartTransientUnit", &unit));
    // The unit is made around the process that the sandbox comes from, which it inherits the group of.
    assert!(start.property("PIDs").is_some_and(|processes| processes.starts_with("[uint32 ")), "{start:?}");
    let group = fs::read_to_string(format!("/proc/{}/cgroup", world.pid("c"))).unwrap();
    assert!(group.contains(&unit), "{group}");
    let unified = !Path::new("/sys/fs/cgroup/memory").is_dir();
    let memory = if unified { "MemoryMax" } else { "MemoryLimit" };
    let share = if unified { ("CPUWeight", "uint64 20") } else { ("CPUShares", "uint64 512") };
    for (name, value) in [
        ("Slice", "\"-.slice\""),
        ("Delegate", "true"),
        ("DefaultDependencies", "false"),
        ("MemoryAccounting", "true"),
        ("CPUAccounting", "true"),
        ("TasksAccounting", "true"),
        ("TimeoutStopUSec", "uint64 7000000"),
        ("CPUQuotaPerSecUSec", "uint64 500000"),
        // With what the sandbox itself takes; tasks are limited inside.
        (memory, "uint64 335544320"),
        ("TasksMax", "uint64 18446744073709551615"),
        share,
    ] {
        assert_eq!(start.property(name), Some(value), "{name} in {start:?}");
    }
    assert!(groups(&unit) > 0);

    world.ok(&["start", "c"]);
    world.ok(&["pause", "c"]);
    assert_eq!(world.status("c"), "paused");
    world.ok(&["resume", "c"]);
    assert!(bus.calls().is_empty());

    world.ok(&["update", "--cpu-quota", "20000", "c"]);
    world.ok(&["update", "--cpu-period", "200000", "c"]);
    let calls = bus.calls();
    let [quota, period] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!((quota.member.as_str(), &quota.unit), ("SetUnitProperties", &unit));
    assert_eq!(quota.property("CPUQuotaPerSecUSec"), Some("uint64 200000"));
    assert_eq!(quota.property(share.0), Some(share.1));
    // The quota of before for the period of now.
    assert_eq!(period.property("CPUQuotaPerSecUSec"), Some("uint64 100000"));
    assert_eq!(period.property("CPUQuotaPeriodUSec"), Some("uint64 200000"));

    world.ok(&["delete", "--force", "c"]);
    let members: Vec<_> = bus.calls().into_iter().map(|call| (call.member, call.unit == unit)).collect();
    assert_eq!(members, [("StopUnit".to_owned(), true), ("ResetFailedUnit".to_owned(), true)]);
    assert_eq!(groups(&unit), 0);
}

#[test]
fn a_job_that_ends_early_is_not_missed() {
    let Some((world, _bus, unit)) = world("early", Behaviour::default()) else { return };
    let outcome = create(&world);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    world.ok(&["delete", "--force", "c"]);
    assert_eq!(groups(&unit), 0);
}

#[test]
fn what_a_failed_unit_left_goes() {
    let Some((world, bus, _)) = world("again", Behaviour { failed_before: true, ..Behaviour::default() }) else {
        return;
    };
    let outcome = create(&world);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let members: Vec<_> = bus.calls().into_iter().map(|call| call.member).collect();
    assert_eq!(members, ["StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"]);
}

#[test]
fn a_unit_that_does_not_come_leaves_nothing() {
    let refused = Behaviour { unknown: Some("TimeoutStopUSec"), ..Behaviour::default() };
    let failed = Behaviour { result: Some("failed"), ..Behaviour::default() };
    for (behaviour, text) in [(refused, "Cannot set property, or unknown property."), (failed, "got `failed`")] {
        let Some((world, bus, unit)) = world("never", behaviour) else { return };
        let outcome = create(&world);
        assert_eq!(outcome.code, 1, "{outcome:?}");
        assert!(outcome.err.contains("unable to apply cgroup configuration"), "{outcome:?}");
        assert!(outcome.err.contains(&unit), "{outcome:?}");
        assert!(outcome.err.contains(text), "{outcome:?}");
        assert!(!bus.calls().iter().any(|call| call.member == "StopUnit"));
        assert_eq!((groups(&unit), world.ok(&["list", "-q"])), (0, String::new()));
    }
}

#[test]
fn what_is_no_name_or_property_is_refused_before() {
    let Some((mut world, bus, _)) = world("bad", Behaviour::default()) else { return };
    world.config["annotations"] = json!({"org.systemd.property.After": "(1"});
    let outcome = create(&world);
    assert!(outcome.code == 1 && outcome.err.contains("org.systemd.property.After"), "{outcome:?}");
    world.config["linux"]["cgroupsPath"] = json!("/docker/x");
    let outcome = create(&world);
    let text = "expected cgroupsPath to be of format \\\"slice:prefix:name\\\" for systemd cgroups";
    assert!(outcome.code == 1 && outcome.err.replace("\\\\", "").contains(&text.replace('\\', "")), "{outcome:?}");
    assert!(bus.calls().is_empty());
}

#[test]
fn without_systemd_it_says_so() {
    if Path::new("/run/systemd/system").exists() {
        return;
    }
    let Some((mut world, _bus, _)) = world("nobody", Behaviour::default()) else { return };
    world.environment = vec![("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", world.path("nobody").display()))];
    let outcome = create(&world);
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.err.contains("systemd not running on this host, cannot use systemd cgroups manager"),
        "{outcome:?}"
    );
    assert_eq!(world.ok(&["list", "-q"]), "");
}
