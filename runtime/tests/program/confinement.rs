//! What the host lets Amber's own process do while a guest runs.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::panic::Location;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::{amber, amber_do, children, run, status, wait};

/// An unprivileged user.
const USER: u32 = 54321;

/// A sandbox whose guest waits for its standard input to close.
pub(crate) struct Waiting {
    /// The process that stays outside.
    pub child: Child,
    /// The process of the sandbox.
    pub pid: u32,
}

impl Waiting {
    pub(crate) fn start(command: &mut Command) -> Waiting {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let pid = children(child.id())[0];
        Waiting { child, pid }
    }

    pub(crate) fn link(&self, name: &str) -> String {
        fs::read_link(format!("/proc/{}/{name}", self.pid)).unwrap().display().to_string()
    }

    pub(crate) fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(wait(&mut self.child).success());
    }
}

/// What it runs.
pub(crate) const SCRIPT: [&str; 3] = ["sh", "-c", "echo ready; read line; true"];

/// Whether the test may start things as another user; says so past the capture of its output if not.
#[track_caller]
pub(crate) fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        let _ = writeln!(io::stderr(), "SKIPPED at {}: only root can do this", Location::caller());
    }
    root
}

/// The program under test where every user finds it, and a directory that is the user's.
pub(crate) fn for_user() -> (tempfile::TempDir, Command) {
    for_user_of(USER)
}

/// The same for the user with this ID.
fn for_user_of(user: u32) -> (tempfile::TempDir, Command) {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    chown(directory.path(), Some(user), Some(user)).unwrap();
    let program = directory.path().join("amber");
    fs::copy(env!("CARGO_BIN_EXE_amber"), &program).unwrap();
    let mut command = Command::new("setpriv");
    let user = user.to_string();
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]).arg(program).current_dir("/");
    (directory, command)
}

fn check(waiting: &Waiting, capabilities: u64) {
    let status = status(Path::new(&format!("/proc/{}", waiting.pid)));
    for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
        let held = u64::from_str_radix(&status[set], 16).unwrap();
        assert_eq!(held & !capabilities, 0, "{set} {held:x}");
    }
    assert_eq!(status["NoNewPrivs"], "1");
    for entry in fs::read_dir(format!("/proc/{}/task", waiting.pid)).unwrap() {
        let thread = crate::common::status(&entry.unwrap().path());
        assert_eq!((&*thread["Seccomp"], &thread["CapEff"]), ("2", &status["CapEff"]), "{}", thread["Name"]);
    }
    for kind in ["mnt", "ipc", "uts", "cgroup", "net", "pid"] {
        let own = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string();
        assert_ne!(waiting.link(&format!("ns/{kind}")), own);
    }
    let root: Vec<_> = fs::read_dir(format!("/proc/{}/root", waiting.pid)).unwrap().collect();
    assert!(root.is_empty(), "{root:?}");
    assert!(fs::write(format!("/proc/{}/root/x", waiting.pid), "").is_err());
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", waiting.pid)).unwrap();
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
}

#[test]
fn root_keeps_only_what_reading_needs() {
    if !is_root() {
        return;
    }
    const DAC_READ_SEARCH: u64 = 1 << 2;
    const SYS_NICE: u64 = 1 << 23;
    let waiting = Waiting::start(&mut amber_do(&SCRIPT));
    check(&waiting, DAC_READ_SEARCH | SYS_NICE);
    waiting.end();
}

#[test]
fn a_user_has_a_user_namespace() {
    if !is_root() {
        return;
    }
    let (_directory, mut command) = for_user();
    let waiting = Waiting::start(command.arg("do").args(SCRIPT));
    check(&waiting, 0);
    assert_ne!(waiting.link("ns/user"), fs::read_link("/proc/self/ns/user").unwrap().display().to_string());
    waiting.end();
}

#[test]
fn a_guest_of_a_user_sees_true_files() {
    if !is_root() {
        return;
    }
    let (directory, mut command) = for_user();
    let tree = directory.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("mine"), "").unwrap();
    for path in [&tree, &tree.join("mine")] {
        chown(path, Some(USER), Some(USER)).unwrap();
    }
    let volume = format!("{}:/data", tree.display());
    let script = "id -u; stat -c %u /etc/passwd /data/mine; echo new > /data/new; cat /data/new; chmod 700 /data/mine; \
                  mv /data/mine /data/moved; (head -c1 /etc/shadow) 2>/dev/null || echo no; f=$(mktemp); echo y > $f; cat $f";
    let outcome = run(command.args(["do", "-v", &volume, "--", "sh", "-c", script]));
    assert_eq!((outcome.code, &*outcome.out, &*outcome.err), (0, "54321\n0\n54321\nnew\nno\ny\n", ""));
    assert_eq!(fs::metadata(tree.join("moved")).unwrap().permissions().mode() & 0o777, 0o700);
}

/// The host shows files of the overflow user like those of users that the sandbox's namespace does not have.
#[test]
fn the_overflow_user_has_its_own_files_only() {
    if !is_root() {
        return;
    }
    let (directory, mut command) = for_user_of(65534);
    let volume = format!("{}:/data", directory.path().display());
    let script = "id -u; id -g; echo new > /data/new; chmod 600 /data/new; cat /data/new; chmod 600 /etc/passwd 2>&1; \
                  stat -c %u:%g /etc/passwd /data/new; tr -s ' ' < /proc/self/uid_map";
    let outcome = run(command.args(["do", "-v", &volume, "--", "sh", "-c", script]));
    let refused = "chmod: changing permissions of '/etc/passwd': Operation not permitted";
    let expected = format!("65534\n65534\nnew\n{refused}\n0:0\n65534:65534\n 0 0 4294967295\n");
    assert_eq!((outcome.code, &*outcome.out, &*outcome.err), (0, &*expected, ""));
    let made = fs::metadata(directory.path().join("new")).unwrap();
    assert_eq!((MetadataExt::uid(&made), MetadataExt::gid(&made)), (65534, 65534));
}

#[test]
fn nothing_of_it_shows_in_the_guest() {
    let script =
        "grep -E '^(Seccomp|NoNewPrivs|CapBnd):' /proc/self/status; ls /proc/self/ns >/dev/null; ls -A / | wc -l";
    let outcome = run(&mut amber_do(&["sh", "-c", script]));
    let lines: Vec<&str> = outcome.out.lines().collect();
    assert_eq!(lines[..3], ["CapBnd:\t000001ffffffffff", "NoNewPrivs:\t0", "Seccomp:\t0"], "{outcome:?}");
    assert!(lines[3].parse::<u32>().unwrap() > 5);
}

/// A bundle in a directory with the tree of the host's shell, and these lines in `linux`.
fn bundle(directory: &Path, linux: &str) {
    let tree = directory.join("rootfs");
    fs::create_dir_all(tree.join("data")).unwrap();
    let mounts: Vec<String> = ["/bin", "/lib", "/lib64", "/usr"]
        .iter()
        .filter(|path| fs::exists(path).unwrap())
        .map(|path| {
            format!(r#"{{"destination": "{path}", "type": "bind", "source": "{path}", "options": ["rbind", "ro"]}}"#)
        })
        .collect();
    let script = "id -u; stat -c %u /data; echo x > /data/x; stat -c %u:%g /data/x; chmod 640 /data/x; rm /etc-none 2>/dev/null; true";
    let config = format!(
        r#"{{"ociVersion": "1.0.2", "root": {{"path": "rootfs"}}, "hostname": "box", "mounts": [{}],
            "process": {{"cwd": "/", "args": ["sh", "-c", "{script}"], "env": ["PATH=/usr/bin:/bin"],
                         "user": {{"uid": 0, "gid": 0}}}},
            "linux": {linux}}}"#,
        mounts.join(",")
    );
    fs::write(directory.join("config.json"), config).unwrap();
}

#[test]
fn a_bundle_of_a_user_has_root_who_is_the_user() {
    if !is_root() {
        return;
    }
    let (directory, mut command) = for_user();
    let own = format!(r#"[{{"containerID": 0, "hostID": {USER}, "size": 1}}]"#);
    let linux = format!(
        r#"{{"namespaces": [{{"type": "user"}}, {{"type": "mount"}}, {{"type": "ipc"}}],
             "uidMappings": {own}, "gidMappings": {own}}}"#
    );
    bundle(directory.path(), &linux);
    fs::create_dir(directory.path().join("run")).unwrap();
    for path in ["rootfs", "rootfs/data", "config.json", "run"] {
        chown(directory.path().join(path), Some(USER), Some(USER)).unwrap();
    }
    command.arg("run").arg("--bundle").arg(directory.path()).arg("rootless-test");
    command.env("XDG_RUNTIME_DIR", directory.path().join("run"));
    let outcome = run(&mut command);
    assert_eq!((outcome.code, &*outcome.out), (0, "0\n0\n0:0\n"), "{outcome:?}");
    let made = fs::metadata(directory.path().join("rootfs/data/x")).unwrap();
    assert_eq!((MetadataExt::uid(&made), made.permissions().mode() & 0o777), (USER, 0o640));
}

#[test]
fn users_of_a_bundle_are_others_on_the_host() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let shifted = r#"[{"containerID": 0, "hostID": 700000, "size": 65536}]"#;
    let linux =
        format!(r#"{{"namespaces": [{{"type": "user"}}], "uidMappings": {shifted}, "gidMappings": {shifted}}}"#);
    bundle(directory.path(), &linux);
    for path in ["rootfs", "rootfs/data"] {
        chown(directory.path().join(path), Some(700_000), Some(700_000)).unwrap();
    }
    let outcome = run(amber().arg("run").arg("--bundle").arg(directory.path()).arg("shifted-test"));
    assert_eq!((outcome.code, &*outcome.out), (0, "0\n0\n0:0\n"), "{outcome:?}");
    let made = fs::metadata(directory.path().join("rootfs/data/x")).unwrap();
    assert_eq!(MetadataExt::uid(&made), 700_000);
}
