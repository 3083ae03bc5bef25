//! The credentials of a process follow from execve(2), however it is started. All expectations are results of runc
//! 1.1.5.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use serde_json::{Value, json};

use crate::common::{World, guest};

/// What containerd gives to every container, shortened: CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_KILL, CAP_SETUID.
const USUAL: [&str; 4] = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SETUID"];

/// Bounding, effective and permitted set alike, which an inheritable and an ambient one may follow.
fn sets(names: &[&str], others: Value) -> Value {
    let mut all = json!({"bounding": names, "effective": names, "permitted": names});
    all.as_object_mut().unwrap().extend(others.as_object().unwrap().clone());
    all
}

/// A container in which a user starts a program that shows what it may, and a file that only root may read.
fn world(uid: u32, capabilities: Value) -> World {
    let mut world = World::new(&["rights"]);
    let secret = world.path("bundle/rootfs/secret");
    fs::write(&secret, "secret").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    world.config["process"]["user"] = json!({"uid": uid, "gid": uid});
    world.config["process"]["capabilities"] = capabilities;
    world.config["process"]["noNewPrivileges"] = json!(false);
    world
}

#[track_caller]
fn shows(world: &World, expected: &str) {
    world.write();
    let bundle = world.path("bundle");
    assert_eq!(world.ok(&["run", "--bundle", bundle.to_str().unwrap(), "a"]).trim_end(), expected);
}

fn set_mode(world: &World, mode: u32, gid: u32) {
    let program = world.path("bundle/rootfs/guest");
    chown(&program, Some(0), Some(gid)).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_user_keeps_none_but_ambient_capabilities() {
    let denied = "euid 1000 egid 1000 secure 0 dumpable 1 / Permission denied";
    shows(&world(1000, sets(&USUAL, json!({}))), &format!("0 0 0 a3 0 {denied}"));
    let inheritable = json!({"inheritable": USUAL});
    shows(&world(1000, sets(&USUAL, inheritable)), &format!("a3 0 0 a3 0 {denied}"));
    let ambient = json!({"inheritable": USUAL, "ambient": ["CAP_KILL"]});
    shows(&world(1000, sets(&USUAL, ambient)), &format!("a3 20 20 a3 20 {denied}"));
    // An ambient capability must be inheritable and permitted, else it is passed over.
    shows(&world(1000, sets(&USUAL, json!({"ambient": ["CAP_KILL"]}))), &format!("0 0 0 a3 0 {denied}"));
    let not_permitted = json!({"permitted": [], "effective": [], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]});
    shows(&world(1000, sets(&USUAL, not_permitted)), &format!("20 0 0 a3 0 {denied}"));
}

#[test]
fn root_has_what_the_bounding_set_allows() {
    let root = "euid 0 egid 0 secure 0";
    shows(&world(0, sets(&USUAL, json!({}))), &format!("0 a3 a3 a3 0 {root} dumpable 1 / read"));
    let few = json!({"permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]});
    let mut grows = world(0, sets(&USUAL, few));
    shows(&grows, &format!("0 a3 a3 a3 0 {root} dumpable 0 / read"));
    grows.config["process"]["noNewPrivileges"] = json!(true);
    shows(&grows, &format!("0 20 20 a3 0 {root} dumpable 1 / read"));
    let many = json!({"permitted": USUAL, "effective": USUAL});
    shows(&world(0, sets(&["CAP_KILL"], many)), &format!("0 20 20 20 0 {root} dumpable 1 / read"));
}

#[test]
fn impossible_sets_are_refused() {
    for others in [json!({"permitted": ["CAP_KILL"]}), json!({"inheritable": ["CAP_NET_RAW"]})] {
        let world = world(0, sets(&USUAL, others));
        let outcome = world.create("a");
        assert!(outcome.code == 1 && outcome.err.contains("operation not permitted"), "{outcome:?}");
    }
}

#[test]
fn a_first_program_gains_what_any_program_gains() {
    let mut world = world(1000, sets(&USUAL, json!({})));
    set_mode(&world, 0o4755, 0);
    shows(&world, "0 a3 a3 a3 0 euid 0 egid 1000 secure 1 dumpable 0 / read");
    set_mode(&world, 0o2755, 7);
    shows(&world, "0 0 0 a3 0 euid 1000 egid 7 secure 1 dumpable 0 / Permission denied");
    world.config["process"]["noNewPrivileges"] = json!(true);
    shows(&world, "0 0 0 a3 0 euid 1000 egid 1000 secure 0 dumpable 1 / Permission denied");
    world.config["process"]["noNewPrivileges"] = json!(false);

    let program = world.path("bundle/rootfs/guest");
    let empower = |set: &str| {
        let done = Command::new(guest()).arg("empower").arg(&program).arg(set).status();
        assert!(done.unwrap().success());
    };
    set_mode(&world, 0o755, 0);
    empower("0x2");
    shows(&world, "0 2 2 a3 0 euid 1000 egid 1000 secure 1 dumpable 1 / read");
    empower("0x6");
    let outcome = world.create("b");
    assert!(outcome.code == 1 && outcome.err.contains("operation not permitted"), "{outcome:?}");
}

#[test]
fn the_program_is_found_as_the_user_and_the_directory_as_root() {
    let mut world = world(1000, sets(&["CAP_KILL"], json!({})));
    let inner = world.path("bundle/rootfs/closed/inner");
    fs::create_dir_all(&inner).unwrap();
    fs::set_permissions(inner.parent().unwrap(), fs::Permissions::from_mode(0o700)).unwrap();
    world.config["process"]["cwd"] = json!("/closed/inner");
    shows(&world, "0 0 0 20 0 euid 1000 egid 1000 secure 0 dumpable 1 /closed/inner Permission denied");
    world.config["process"]["cwd"] = json!("/");
    set_mode(&world, 0o711, 0);
    shows(&world, "0 0 0 20 0 euid 1000 egid 1000 secure 0 dumpable 0 / Permission denied");
    set_mode(&world, 0o700, 0);
    let outcome = world.create("a");
    assert!(outcome.code == 1 && outcome.err.contains("permission denied"), "{outcome:?}");
    // Until execve(2), the user has the effective set.
    world.config["process"]["capabilities"] = sets(&USUAL, json!({}));
    shows(&world, "0 0 0 a3 0 euid 1000 egid 1000 secure 0 dumpable 1 / Permission denied");
}

#[test]
fn further_processes_and_hooks_follow_the_same_rules() {
    let mut world = world(1000, sets(&USUAL, json!({})));
    let log = world.path("log");
    fs::create_dir(&log).unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o777)).unwrap();
    let mounts = world.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/log", "source": log, "type": "bind", "options": ["rbind", "rw"]}));
    world.config["process"]["args"] = json!(["/guest", "serve"]);
    world.config["hooks"] = json!({"startContainer": [{"path": "/guest", "args": ["guest", "rights", "/log/hook"]}]});
    world.ready("a");
    let denied = "egid 1000 secure 0 dumpable 1 / Permission denied";
    assert_eq!(fs::read_to_string(log.join("hook")).unwrap(), format!("0 0 0 a3 0 euid 1000 {denied}\n"));
    let root = "euid 0 egid 1000 secure 0 dumpable 1 / read";
    for (flags, expected) in [
        (&[][..], format!("0 0 0 a3 0 euid 1000 {denied}")),
        (&["--user", "0"], format!("0 a3 a3 a3 0 {root}")),
        (&["--user", "1001"], format!("0 0 0 a3 0 euid 1001 {denied}")),
        (&["--cap", "CAP_SYS_ADMIN"], format!("0 0 0 2000a3 0 euid 1000 {denied}")),
        (&["--cap", "CAP_SYS_ADMIN", "--user", "0"], format!("0 2000a3 2000a3 2000a3 0 {root}")),
    ] {
        let command = [&["exec"], flags, &["a", "/guest", "rights"]].concat();
        assert_eq!(world.ok(&command).trim_end(), expected, "{flags:?}");
    }
    // A process of a file that names no capabilities has those of the container.
    let mut process = json!({"user": {"uid": 0, "gid": 0}, "args": ["/guest", "rights"], "cwd": "/", "env": ["X=1"]});
    let path = world.path("process.json");
    let mut shown = |capabilities: Value| {
        process["capabilities"] = capabilities;
        fs::write(&path, process.to_string()).unwrap();
        world.ok(&["exec", "--process", path.to_str().unwrap(), "a"]).trim_end().to_owned()
    };
    assert_eq!(shown(Value::Null), "0 a3 a3 a3 0 euid 0 egid 0 secure 0 dumpable 1 / read");
    assert_eq!(shown(sets(&["CAP_KILL"], json!({}))), "0 20 20 20 0 euid 0 egid 0 secure 0 dumpable 1 / read");
}
