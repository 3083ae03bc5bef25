//! The output of commands, in the formats that other programs parse.

use std::process::Command;

use serde_json::{Value, json};

use crate::common::World;

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn states_are_those_of_the_specification() {
    let world = World::new(&["serve"]);
    assert_eq!(parse(&world.ok(&["list", "--format", "json"])), Value::Null);
    world.ready("a");
    let state = world.state("a");
    let bundle = world.path("bundle");
    assert_eq!(state["ociVersion"], "1.0.2");
    assert_eq!(state["id"], "a");
    assert_eq!(state["bundle"], bundle.to_str().unwrap());
    assert_eq!(state["rootfs"], bundle.join("rootfs").to_str().unwrap());
    assert!(state["created"].as_str().unwrap().ends_with('Z'));
    let list = parse(&world.ok(&["list", "--format", "json"]));
    assert_eq!(list[0]["pid"], state["pid"]);
    assert_eq!(list[0]["owner"], "root");
    assert_eq!(world.ok(&["list", "--quiet"]), "a\n");
    let table = world.ok(&["list"]);
    assert!(table.starts_with("ID ") && table.contains("running"), "{table}");
}

#[test]
fn events_tell_what_is_used() {
    let world = World::new(&["serve"]);
    world.ready("a");
    let event = parse(&world.ok(&["events", "--stats", "a"]));
    assert_eq!((event["type"].as_str(), event["id"].as_str()), (Some("stats"), Some("a")));
    if !event["data"].is_null() {
        for path in ["/data/cpu/usage/total", "/data/memory/usage/usage", "/data/pids/current"] {
            assert!(event.pointer(path).is_some_and(Value::is_number), "{path}: {event}");
        }
    }
}

#[test]
fn limits_are_changed() {
    let world = World::new(&["serve"]);
    world.ready("a");
    world.ok(&["update", "--memory", "100m", "--pids-limit", "20", "a"]);
    world.ok(&["update", "--cpu-period", "100000", "--cpu-quota", "50000", "--cpu-burst", "10000", "a"]);
    world.ok(&["update", "--cpu-idle", "1", "a"]);
    let cgroup = std::fs::read_to_string(format!("/proc/{}/cgroup", world.pid("a"))).unwrap();
    if let Some(place) = cgroup.lines().find_map(|line| line.split_once(":cpu:")) {
        let read = |file: &str| std::fs::read_to_string(format!("/sys/fs/cgroup/cpu{}/{file}", place.1)).unwrap();
        assert_eq!(["cpu.cfs_quota_us", "cpu.cfs_burst_us", "cpu.idle"].map(read), ["50000\n", "10000\n", "1\n"]);
    }
    let refused = world.run(&["update", "--l3-cache-schema", "L3:0=f", "a"]);
    assert!(refused.code == 1 && refused.err.contains("Intel RDT"), "{refused:?}");
    std::fs::write(world.path("resources"), r#"{"memory": {"limit": 200000000}}"#).unwrap();
    world.ok(&["update", "--resources", world.path("resources").to_str().unwrap(), "a"]);
    let refused = world.run(&["update", "--memory", "many", "a"]);
    assert!(refused.code == 1 && refused.err.contains("many"), "{refused:?}");
}

#[test]
fn a_bundle_can_be_begun() {
    let world = World::new(&["exit", "0"]);
    let bundle = world.path("bundle");
    world.ok(&["spec", "--bundle", bundle.to_str().unwrap()]);
    let again = world.run(&["spec", "--bundle", bundle.to_str().unwrap()]);
    assert!(again.code == 1 && again.err.contains("File config.json exists"), "{again:?}");
    let mut config = parse(&std::fs::read_to_string(bundle.join("config.json")).unwrap());
    assert_eq!(config["process"]["args"], json!(["sh"]));
    config["process"]["args"] = json!(["/guest", "exit", "6"]);
    config["process"]["terminal"] = json!(false);
    std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    assert_eq!(world.run(&["run", "--bundle", bundle.to_str().unwrap(), "a"]).code, 6);
    let features = parse(&world.ok(&["features"]));
    assert!(features["hooks"].as_array().unwrap().contains(&json!("poststop")));
    assert_eq!(features["annotations"]["org.amber.platforms"], "kvm ptrace");
}

#[test]
fn errors_are_logged_as_runc_logs_them() {
    let world = World::new(&["serve"]);
    let log = world.path("log.json");
    let outcome = world.run(&["--log", log.to_str().unwrap(), "--log-format", "json", "--debug", "start", "nope"]);
    assert_eq!(outcome.code, 1);
    let text = std::fs::read_to_string(&log).unwrap();
    let entry = parse(text.lines().last().unwrap());
    assert_eq!((entry["level"].as_str(), entry["msg"].as_str()), (Some("error"), Some("container does not exist")));
    assert!(entry["time"].as_str().unwrap().ends_with('Z'));
    let _ = std::fs::remove_file(&log);
    let mut world = world;
    world.config["process"]["args"] = json!(["nope"]);
    world.write();
    let bundle = world.path("bundle");
    let args =
        ["--log", log.to_str().unwrap(), "--log-format", "json", "create", "--bundle", bundle.to_str().unwrap(), "a"];
    assert_eq!(world.run(&args).code, 1);
    let text = std::fs::read_to_string(&log).unwrap();
    let entry = parse(text.lines().last().unwrap());
    let message = entry["msg"].as_str().unwrap();
    assert!(
        message.contains(
            "create failed: unable to start container process: exec: \"nope\": executable file not found in $PATH"
        ),
        "{message}"
    );
}

#[test]
fn flags_of_runc_are_taken() {
    let world = World::new(&["exit", "0"]);
    world.write();
    let bundle = world.path("bundle");
    let bundle = bundle.to_str().unwrap();
    world.ok(&[
        "--criu",
        "criu",
        "--rootless",
        "auto",
        "create",
        "--no-pivot",
        "--no-new-keyring",
        "--bundle",
        bundle,
        "a",
    ]);
    world.ok(&["delete", "-f", "a"]);
    for command in ["checkpoint", "restore"] {
        let outcome = world.run(&[command, "--image-path", "/x", "a"]);
        assert!(outcome.code == 1 && outcome.err.contains("not supported yet"), "{outcome:?}");
    }
    let version = Command::new(env!("CARGO_BIN_EXE_amber")).arg("--version").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    assert!(version.starts_with("amber version ") && version.ends_with("\nspec: 1.0.2\n"), "{version:?}");
}

#[test]
fn wrong_command_lines_are_told_as_runc_tells_them() {
    let world = World::new(&["serve"]);
    let log = world.path("log");
    for args in [&["create", "--bogus", "a"][..], &["exec"], &["kill"], &["list", "a"], &["run", "a", "b"]] {
        let outcome = world.run(args);
        assert!(outcome.code == 1 && outcome.err.starts_with("amber: "), "{outcome:?}");
        let told = world.run(&[&["--log-format", "json"], args].concat());
        assert_eq!((told.code, parse(&told.err)["level"].as_str()), (1, Some("error")), "{told:?}");
        let logged = world.run(&[&["--log", log.to_str().unwrap(), "--log-format", "json"], args].concat());
        assert!(logged.code == 1 && logged.err.starts_with("amber: "), "{logged:?}");
        let text = std::fs::read_to_string(&log).unwrap();
        let message = parse(text.lines().last().unwrap())["msg"].as_str().unwrap().to_owned();
        assert_eq!(format!("amber: {message}\n"), logged.err);
    }
}
