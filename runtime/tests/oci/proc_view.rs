//! The `/proc` for processes that enter the mount namespace of a sandbox from outside.

use std::fs::{self, File};
use std::path::Path;

use crate::common::World;

#[test]
fn processes_are_seen_from_outside() {
    if File::options().read(true).write(true).open("/dev/fuse").is_err() {
        eprintln!("skipped: no /dev/fuse for this user");
        return;
    }
    let world = World::new(&["serve"]);
    world.ready("a");
    let root = format!("/proc/{}/root", world.pid("a"));
    let inside = Path::new(&root);
    let read = |path: &str| fs::read_to_string(inside.join("proc").join(path)).unwrap();
    let names = |path: &str| {
        let entries = fs::read_dir(inside.join(path)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names("proc/1"), ["cmdline", "comm", "ns", "stat", "statm", "status"]);
    assert_eq!(read("1/cmdline"), "/guest\0serve\0");
    assert_eq!(read("1/comm"), "guest\n");
    assert!(read("1/stat").starts_with("1 (guest) S 0 1 1 "));
    assert!(read("1/status").contains("\nPid:\t1\n") && read("stat").contains("\nbtime "));
    assert!(fs::read_link(inside.join("proc/1/ns/pid")).unwrap().to_str().unwrap().starts_with("pid:["));
    let mut further =
        world.amber(&["exec", "a", "/guest", "copy"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    crate::common::eventually(|| names("proc").contains(&"2".to_owned()));
    drop(further.stdin.take());
    further.wait().unwrap();
    crate::common::eventually(|| !inside.join("proc/2").exists());
    // Nothing else can be had or done there.
    for path in ["proc/self", "proc/1/environ", "proc/1/root", "proc/1/fd", "proc/sys", "proc/0", "proc/-1", "proc/77"]
    {
        assert!(!inside.join(path).exists(), "{path}");
    }
    assert!(fs::write(inside.join("proc/1/comm"), "x").is_err() && fs::create_dir(inside.join("proc/x")).is_err());
    world.ok(&["delete", "--force", "a"]);
}
