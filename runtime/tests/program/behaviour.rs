//! `amber do` behaves as if the command ran directly, and its flags do what they do in Docker.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{amber, amber_do, finish, run, wait};

fn printed(args: &[&str]) -> String {
    let outcome = run(&mut amber_do(args));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    outcome.out
}

#[test]
fn exit_statuses_are_the_commands_own() {
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)] {
        // A shell below, since the first process of a sandbox is immune to signals from inside.
        let nested = format!("sh -c '{script}'; exit $?");
        assert_eq!(run(&mut amber_do(&["sh", "-c", &nested])).code, code, "{script}");
    }
    assert_eq!(run(&mut amber_do(&["sh", "-c", "exit 200"])).code, 200);
}

#[test]
fn environment_and_directory_come_along() {
    let mut command = amber_do(&["sh", "-c", "pwd; echo $FROM_CALLER"]);
    let outcome = run(command.current_dir("/usr/share").env("FROM_CALLER", "yes"));
    assert_eq!(outcome.out, "/usr/share\nyes\n", "{outcome:?}");
    assert_eq!(printed(&["-e", "A=b c", "-w", "/usr", "sh", "-c", "pwd; echo $A"]), "/usr\nb c\n");
}

#[test]
fn streams_are_the_callers() {
    let mut command = amber_do(&["sh", "-c", "cat; echo error >&2"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"one\ntwo\n").unwrap();
    let outcome = finish(&mut child);
    assert_eq!((outcome.out.as_str(), outcome.err.as_str()), ("one\ntwo\n", "error\n"));

    let amber = env!("CARGO_BIN_EXE_amber");
    let script = format!("{amber} do -- sh -c 'exit 3' <&- >&- 2>&-");
    assert_eq!(run(Command::new("sh").args(["-c", &script])).code, 3);
}

#[test]
fn arguments_keep_their_bytes() {
    let outcome = run(amber_do(&["sh", "-c", "printf %s \"$0\" | od -An -tx1"]).arg(OsStr::from_bytes(b"\xff\x01")));
    assert_eq!(outcome.out.trim(), "ff 01", "{outcome:?}");
}

#[test]
fn nothing_on_the_host_changes() {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "old").unwrap();
    let script = format!("cd {} && echo new > file && echo more > other && cat file", directory.path().display());
    assert_eq!(printed(&["sh", "-c", &script]), "new\n");
    assert_eq!(fs::read_to_string(&file).unwrap(), "old");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_tree_is_changed_only_with_rw() {
    let tree = tempfile::tempdir_in("/var/tmp").unwrap();
    plant_shell(tree.path());
    let root = tree.path().to_str().unwrap();
    let script = "echo x > /made; read -r line < /made; echo $line";
    assert_eq!(printed(&["--rootfs", root, "/bin/sh", "-c", script]), "x\n");
    assert!(!tree.path().join("made").exists());
    assert_eq!(printed(&["--rootfs", root, "--rw", "/bin/sh", "-c", script]), "x\n");
    assert_eq!(fs::read_to_string(tree.path().join("made")).unwrap(), "x\n");
}

#[test]
fn users_are_those_of_the_guest() {
    assert_eq!(printed(&["-u", "1234:5678", "sh", "-c", "id -u; id -g"]), "1234\n5678\n");
    assert_eq!(printed(&["-u", "daemon", "id", "-un"]), "daemon\n");
    assert_eq!(printed(&["-u", "daemon", "sh", "-c", "echo $HOME"]), "/usr/sbin\n");
}

#[test]
fn names_and_releases_are_chosen() {
    assert_eq!(printed(&["-h", "box", "uname", "-n"]), "box\n");
    assert_eq!(printed(&["--kernel", "5.10.234", "uname", "-r"]), "5.10.234\n");
    let default = printed(&["uname", "-r"]);
    let host = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(default.starts_with("6.12.") && default != host, "{default}");
}

#[test]
fn volumes_show_host_directories_and_files() {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::write(directory.path().join("file"), "content\n").unwrap();
    let source = directory.path().display();
    let volume = format!("{source}:/mnt/deep/data");
    assert_eq!(
        printed(&["-v", &volume, "sh", "-c", "cat /mnt/deep/data/file; echo x > /mnt/deep/data/new"]),
        "content\n"
    );
    assert_eq!(fs::read_to_string(directory.path().join("new")).unwrap(), "x\n");

    let read_only = format!("{source}:/data:ro");
    let outcome = run(&mut amber_do(&["-v", &read_only, "sh", "-c", "echo x > /data/other"]));
    assert!(outcome.code != 0 && outcome.err.contains("Read-only file system"), "{outcome:?}");
    assert!(!directory.path().join("other").exists());

    let single = format!("{source}/file:/etc/motd:ro");
    assert_eq!(printed(&["-v", &single, "cat", "/etc/motd"]), "content\n");
}

#[test]
fn a_bundle_runs() {
    let bundle = tempfile::tempdir_in("/var/tmp").unwrap();
    let root = bundle.path().join("rootfs");
    fs::create_dir(&root).unwrap();
    plant_shell(&root);
    let config = serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 7, "gid": 8, "additionalGids": [9]},
            "args": ["sh", "-c", "echo $A; pwd; while read -r l; do case $l in [UG]id:*|Groups:*|CapEff:*|NoNew*) \
                     echo $l;; esac; done < /proc/self/status; ulimit -n; echo x > /secret; exit 5"],
            "env": ["PATH=/bin", "A=b"],
            "cwd": "/tmp",
            "capabilities": {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 64, "soft": 32}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": true},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]}
        ],
        "linux": {"maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"]}
    });
    for directory in ["proc", "tmp"] {
        fs::create_dir(root.join(directory)).unwrap();
    }
    fs::write(bundle.path().join("config.json"), config.to_string()).unwrap();
    let outcome = run(amber().arg("run").arg("--bundle").arg(bundle.path()).arg("box"));
    assert_eq!(outcome.code, 5, "{outcome:?}");
    let lines: Vec<&str> = outcome.out.lines().collect();
    assert_eq!(lines[..2], ["b", "/tmp"], "{outcome:?}");
    for line in ["Uid: 7 7 7 7", "Gid: 8 8 8 8", "Groups: 9", "CapEff: 0000000000000020", "NoNewPrivs: 1", "32"] {
        assert!(lines.contains(&line), "no {line:?} in {outcome:?}");
    }
    assert!(outcome.err.contains("Read-only file system"), "{outcome:?}");
}

#[test]
fn calls_are_traced() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let path = log.path().to_str().unwrap();
    printed(&["--strace=openat,exit_group", "--log", path, "cat", "/etc/hostname"]);
    let trace = fs::read_to_string(path).unwrap();
    assert!(
        trace.contains("openat(AT_FDCWD, \"/etc/hostname\", O_RDONLY") && trace.contains("exit_group(0)"),
        "{trace}"
    );
    assert!(!trace.contains("mmap("), "{trace}");
}

#[test]
fn errors_are_traced_with_their_place() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let path = log.path().to_str().unwrap();
    printed(&["--strace=chdir", "--log", path, "sh", "-c", "cd /none 2>/dev/null || cd /"]);
    let trace = fs::read_to_string(path).unwrap();
    let failed = trace.lines().find(|line| line.contains("ENOENT")).unwrap_or_else(|| panic!("{trace}"));
    assert!(failed.contains("-1 ENOENT (No such file or directory) at sentry/src/vfs/"), "{failed}");
    let done = trace.lines().find(|line| line.contains(r#"chdir("/") = 0 <"#));
    assert!(done.is_some(), "{trace}");

    let log = tempfile::NamedTempFile::new().unwrap();
    let path = log.path().to_str().unwrap();
    printed(&["--log", path, "--log-level", "debug", "sh", "-c", "rmdir / 2>/dev/null || cd /"]);
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains("rmdir: EBUSY (Device or resource busy) at sentry/src/vfs/"), "{text}");
}

#[test]
fn the_first_process_has_what_is_standard() {
    let script =
        "test -c /dev/null && test -d /dev/pts && test -d /proc/1 && test -d /sys && test -k /dev/shm && echo ok";
    assert_eq!(printed(&["sh", "-c", script]), "ok\n");
}

/// Copies `/bin/sh` and the libraries it needs into a tree.
fn plant_shell(root: &Path) {
    let libraries = Command::new("ldd").arg("/bin/sh").output().unwrap();
    let libraries = String::from_utf8(libraries.stdout).unwrap();
    let paths = libraries.split_whitespace().filter(|word| word.starts_with('/')).chain(["/bin/sh"]);
    for path in paths {
        let place = root.join(&path[1..]);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(path, place).unwrap();
    }
}

#[test]
fn an_end_of_output_ends_the_command() {
    let mut child = amber_do(&["yes"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(wait(&mut child).code(), Some(128 + 13));
}
