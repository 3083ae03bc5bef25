//! User namespaces, and files of owners that they do not map. Each expectation is also what runc 1.1.5 gives
//! (`AMBER_TEST_RUNTIME=runc`), except where it says so.

use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::common::{Outcome, World, finish, guest};

/// The host's ID of the container's root.
const ROOT: u32 = 700_000;
/// What the container may do.
const CAPABILITIES: [&str; 9] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
];

/// Whether the tests run with another runtime than Amber.
fn other_runtime() -> Option<String> {
    env::var("AMBER_TEST_RUNTIME").ok().filter(|name| !name.starts_with("amber"))
}

fn own(path: &Path, uid: u32, gid: u32, mode: u32) {
    chown(path, Some(uid), Some(gid)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A container whose user namespace maps these ranges (first ID, number of IDs) to the same ones above [`ROOT`], with files
/// of mapped and unmapped owners on `/data`.
fn world(arguments: &[&str], ranges: &[(u32, u32)]) -> World {
    let mut world = World::new(arguments);
    let (root, data) = (world.path("bundle/rootfs"), world.path("data"));
    for name in ["proc", "dev", "data"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    fs::create_dir(&data).unwrap();
    for path in [world.path(""), world.path("bundle")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    own(&root, ROOT, ROOT, 0o755);
    own(&data, ROOT, ROOT, 0o755);
    for (name, uid, gid, mode) in [
        ("open", 0, 0, 0o644),
        ("closed", 0, 0, 0o600),
        ("mixed", ROOT, 5, 0o600),
        ("half", ROOT + 3, 5, 0o600),
        ("mine", ROOT, ROOT, 0o600),
        ("nobody", ROOT + 65534, ROOT + 65534, 0o600),
    ] {
        fs::write(data.join(name), "x").unwrap();
        own(&data.join(name), uid, gid, mode);
    }
    for (name, uid, gid) in [("foreign-program", 5, 5), ("half-program", ROOT + 3, 5), ("program", ROOT + 3, ROOT + 4)]
    {
        fs::copy(guest(), data.join(name)).unwrap();
        own(&data.join(name), uid, gid, 0o6755);
    }
    for (name, uid, gid, mode) in [
        ("public", 0, 0, 0o777),
        ("private", 0, 0, 0o755),
        ("sticky", 0, 0, 0o1777),
        ("group", ROOT, 5, 0o2777),
        ("mount", ROOT, ROOT, 0o755),
    ] {
        fs::create_dir(data.join(name)).unwrap();
        fs::write(data.join(name).join("theirs"), "").unwrap();
        own(&data.join(name).join("theirs"), 6, 6, 0o644);
        own(&data.join(name), uid, gid, mode);
    }
    world.config["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"destination": "/data", "type": "bind", "source": data.to_str().unwrap(), "options": ["rbind"]}));
    world.config["root"]["readonly"] = json!(false);
    world.config["process"]["noNewPrivileges"] = json!(false);
    let sets = ["bounding", "effective", "permitted"].map(|set| (set.to_owned(), json!(CAPABILITIES)));
    world.config["process"]["capabilities"] = Value::Object(sets.into_iter().collect());
    let map: Vec<Value> = ranges
        .iter()
        .map(|(first, count)| json!({"containerID": first, "hostID": ROOT + first, "size": count}))
        .collect();
    let linux = &mut world.config["linux"];
    linux["uidMappings"] = json!(map);
    linux["gidMappings"] = json!(map);
    linux["namespaces"] = json!([{"type": "pid"}, {"type": "mount"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "user"}]);
    world
}

fn run(world: &World) -> Outcome {
    world.write();
    let bundle = world.path("bundle");
    let arguments = ["run", "--bundle", bundle.to_str().unwrap(), "users"];
    let command = match other_runtime() {
        Some(runtime) => {
            let mut command = Command::new(runtime);
            command.arg("--root").arg(world.path("state")).args(arguments);
            command
        }
        None => world.amber(&arguments),
    };
    finish(command, &world.path("out"))
}

/// What a process may do with a file: nothing but read it, if that.
fn stranger(read: &str, noatime: &str) -> String {
    format!(
        "read:{read} write:EACCES noatime:{noatime} access:EACCES chmod:EPERM chown:EPERM chgrp:EPERM utimes:EPERM \
         now:EACCES caps:EPERM"
    )
}

/// The output of `owners`: `ids` are the answers to calls with the IDs 5000 and 65534.
fn expected(ranges: &[(u32, u32)], ids: [&str; 2], user: u32) -> String {
    const CALLS: [&str; 16] = [
        "setuid",
        "seteuid",
        "setreuid",
        "setresuid",
        "setgid",
        "setregid",
        "setresgid",
        "setgroups",
        "chown",
        "chgrp",
        "shm",
        "msg",
        "sem",
        "send",
        "tmpfs",
        "setfsuid",
    ];
    let map: String = ranges.iter().map(|(first, count)| format!(" {first}-{}-{count}", ROOT + first)).collect();
    let calls = |id: u32, answer: &str| {
        let answers: String = CALLS.iter().map(|call| format!(" {call}:{answer}")).collect();
        format!("id {id}{answers}\n")
    };
    let (open, closed) = (stranger("ok", "EPERM"), stranger("EACCES", "EACCES"));
    let all = "read:ok write:ok noatime:ok access:ok chmod:ok chown:ok chgrp:ok utimes:ok now:ok caps:ok";
    // The owner is mapped, the group is not: CAP_FOWNER counts, the others do not.
    let half = "read:EACCES write:EACCES noatime:EACCES access:EACCES chmod:ok chown:EPERM chgrp:EPERM utimes:ok now:ok \
                caps:EPERM";
    let owned = "read:ok write:ok noatime:ok access:ok chmod:ok chown:EPERM chgrp:EPERM utimes:ok now:ok caps:EPERM";
    let (mine, root_nobody) = if ids[1] == "ok" { (owned, all) } else { (&*closed, &*closed) };
    // The host gives the file the directory's group, and lets the sandbox change the owner of none with such a group.
    let in_group = if other_runtime().is_some() {
        format!("make:ok {user}:65534 644 mkdir:ok {user}:65534 2755")
    } else {
        "make:EPERM mkdir:EPERM".to_owned()
    };
    [
        format!("/proc/self/uid_map{map}\n/proc/self/gid_map{map}\n"),
        calls(1, "ok"),
        calls(5000, ids[0]),
        calls(65534, ids[1]),
        "/data/foreign-program: 0:0\n/data/half-program: 0:0\n/data/program: 3:4\nstream ok\nas user\n".to_owned(),
        format!("/data/open 65534:65534 {open}\n/data/closed 65534:65534 {closed}\n"),
        format!("/data/mixed 0:65534 {closed}\n/data/half 3:65534 {closed}\n/data/mine 0:0 {closed}\n"),
        format!("/data/nobody 65534:65534 {mine}\n"),
        format!("/data/public 65534:65534 list:ok remove:ok make:ok {user}:{user} 644 mkdir:ok {user}:{user} 755\n"),
        "/data/private 65534:65534 list:ok remove:EACCES make:EACCES mkdir:EACCES\n".to_owned(),
        format!("/data/sticky 65534:65534 list:ok remove:EPERM make:ok {user}:{user} 644 mkdir:ok {user}:{user} 755\n"),
        format!("/data/group 0:65534 list:ok remove:ok {in_group}\nas root\n"),
        format!("/data/open 65534:65534 {open}\n/data/closed 65534:65534 {closed}\n"),
        format!("/data/mixed 0:65534 {all}\n/data/half 3:65534 {half}\n/data/mine 0:0 {all}\n"),
        format!("/data/nobody 65534:65534 {root_nobody}\n"),
        "/data/public 65534:65534 list:ok remove:ENOENT make:ok 0:0 644 mkdir:ok 0:0 755\n".to_owned(),
        "/data/private 65534:65534 list:ok remove:EACCES make:EACCES mkdir:EACCES\n".to_owned(),
        "/data/sticky 65534:65534 list:ok remove:EPERM make:ok 0:0 644 mkdir:ok 0:0 755\n".to_owned(),
        "/data/group 0:65534 list:ok remove:ENOENT make:ok 0:65534 644 mkdir:ok 0:65534 2755\n".to_owned(),
    ]
    .concat()
}

/// Runs `owners` as a user of the container and as its root, and returns the world.
#[track_caller]
fn protects(ranges: &[(u32, u32)], ids: [&str; 2], user: u32) -> World {
    let world = world(&["owners", &user.to_string()], ranges);
    let outcome = run(&world);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    for (line, wanted) in outcome.out.lines().zip(expected(ranges, ids, user).lines()) {
        assert_eq!(line, wanted);
    }
    assert_eq!(outcome.out, expected(ranges, ids, user));
    world
}

#[test]
fn a_namespace_of_few_ids_has_no_others() {
    let world = protects(&[(0, 1000)], ["EINVAL", "EINVAL"], 7);
    if other_runtime().is_none() {
        let left = fs::read_dir(world.path("data/group")).unwrap().map(|entry| entry.unwrap().file_name());
        let mut left: Vec<_> = left.collect();
        left.sort();
        assert_eq!(left, ["dir-0", "made-0"]);
    }
}

#[test]
fn the_overflow_id_can_be_a_user() {
    let world = protects(&[(0, 1000), (65000, 600)], ["EINVAL", "ok"], 65534);
    let made = fs::metadata(world.path("data/public/made-65534")).unwrap();
    assert_eq!((made.uid(), made.gid()), (ROOT + 65534, ROOT + 65534));
}

#[test]
fn a_namespace_of_all_ids_does_not_have_the_hosts_owners() {
    protects(&[(0, 65536)], ["ok", "ok"], 65534);
}

#[test]
fn a_user_that_is_not_mapped_starts_nothing() {
    for user in [
        json!({"uid": 2000, "gid": 0}),
        json!({"uid": 0, "gid": 2000}),
        json!({"uid": 0, "gid": 0, "additionalGids": [2000]}),
    ] {
        let mut world = world(&["exit", "0"], &[(0, 1000)]);
        world.config["process"]["user"] = user;
        let outcome = run(&world);
        assert!(outcome.code != 0 && outcome.err.contains("user"), "{outcome:?}");
    }
}
