//! Further processes in a container.

use std::ffi::OsStr;
use std::fs;
use std::io::{IoSliceMut, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use nix::cmsg_space;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::Pid;
use serde_json::json;

use crate::common::{World, eventually, runs};

#[test]
fn a_process_has_its_own_streams_and_status() {
    let world = World::new(&["serve"]);
    world.ready("a");
    let mut child =
        world.amber(&["exec", "a", "/guest", "copy"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"through").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), &b"through"[..]));
    // Found along PATH.
    assert_eq!(world.run(&["exec", "a", "guest", "exit", "12"]).code, 12);
    let shown = world.ok(&["exec", "--user", "5:6", "--cwd", "/proc", "--env", "X=2", "a", "/guest", "show"]);
    assert_eq!(shown, "uid 5 gid 6 cwd /proc X=2\n");
}

#[test]
fn what_cannot_run_is_told_as_runc_tells_it() {
    let world = World::new(&["serve"]);
    world.ready("a");
    for (program, words) in [
        ("/nope", "exec: \"/nope\": stat /nope: no such file or directory"),
        ("nope", "exec: \"nope\": executable file not found in $PATH"),
        ("/plain", "exec: \"/plain\": permission denied"),
    ] {
        let outcome = world.run(&["exec", "a", program]);
        assert!(outcome.code == 255 && outcome.err.contains(words), "{outcome:?}");
    }
    let outcome = world.run(&["exec", "a"]);
    assert!(outcome.code == 255 && outcome.err.contains("process args cannot be empty"), "{outcome:?}");
    for (flag, value, words) in [
        ("--cwd", &b"/\xff"[..], "invalid UTF-8"),
        ("--cap", b"CAP_FLY", "--cap: no variant for CAP_FLY"),
        ("--user", b"1:x", "--user 1:x: \"x\" is no number"),
    ] {
        let mut command = world.amber(&["exec", flag]);
        command.arg(OsStr::from_bytes(value)).args(["a", "/guest", "show"]);
        let outcome = crate::common::finish(command, &world.path("out-refused"));
        assert!(outcome.code == 255 && outcome.err.contains(words), "{outcome:?}");
    }
    assert_eq!(world.status("a"), "running");
}

/// Starts a process that stays, and returns the number of its proxy.
fn detached(world: &World, name: &str) -> i32 {
    detached_in(world, name, "a")
}

fn detached_in(world: &World, name: &str, container: &str) -> i32 {
    let process = json!({
        "user": {"uid": 0, "gid": 0}, "args": ["/guest", "serve"], "cwd": "/", "env": ["X=1"],
    });
    fs::write(world.path("process.json"), process.to_string()).unwrap();
    let (file, pid_file) = (world.path("process.json"), world.path("exec-pid"));
    let _ = fs::remove_file(&pid_file);
    let mut command = world.amber(&["exec", "--detach", "--process"]);
    command.arg(file).arg("--pid-file").arg(&pid_file).arg(container);
    let out = world.path(&format!("out-{name}"));
    assert_eq!(crate::common::finish(command, &out).code, 0);
    eventually(|| world.printed(name).contains("ready"));
    fs::read_to_string(pid_file).unwrap().parse().unwrap()
}

#[test]
fn a_detached_process_has_a_proxy() {
    let world = World::new(&["serve"]);
    world.ready("a");
    let sandbox = world.pid("a");
    let proxy = detached(&world, "first");
    assert!(runs(proxy));
    let line = fs::read(format!("/proc/{proxy}/cmdline")).unwrap();
    assert_eq!(line, b"/guest\0serve\0");
    assert_eq!(world.ok(&["ps", "--format", "json", "a"]).trim(), format!("[{sandbox},{proxy}]"));
    assert_eq!(world.ok(&["ps", "a", "-eo", "pid,args"]).lines().nth(1), Some("1     /guest serve"));
    assert!(world.run(&["ps", "a", "-o", "bogus"]).err.contains("bogus"));
    let table = world.ok(&["ps", "a"]);
    assert_eq!(table.matches("/guest serve").count(), 2, "{table}");
    // A signal to the proxy is one to the process.
    kill(Pid::from_raw(proxy), Signal::SIGTERM).unwrap();
    eventually(|| !runs(proxy));
    eventually(|| world.ok(&["ps", "a"]).matches("/guest serve").count() == 1);
    assert_eq!(world.ok(&["ps", "--format", "json", "a"]).trim(), format!("[{sandbox}]"));
    // So is its violent end.
    let proxy = detached(&world, "second");
    kill(Pid::from_raw(proxy), Signal::SIGKILL).unwrap();
    eventually(|| world.ok(&["ps", "a"]).matches("/guest serve").count() == 1);
    // No proxy outlives its sandbox: engines make nothing of ends that they hear of later than of the container's.
    let proxy = detached(&world, "third");
    world.ok(&["kill", "a", "KILL"]);
    assert!(!runs(proxy));
    eventually(|| world.status("a") == "stopped");
    world.ready("b");
    let proxy = Pid::from_raw(detached_in(&world, "fourth", "b"));
    kill(proxy, Signal::SIGSTOP).unwrap();
    world.ok(&["kill", "b", "TERM"]);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(world.status("b"), "running");
    kill(proxy, Signal::SIGCONT).unwrap();
    eventually(|| world.status("b") == "stopped");
    assert!(!runs(proxy.as_raw()));
}

#[test]
fn a_process_ends_by_the_signal_it_is_sent() {
    let world = World::new(&["serve"]);
    world.ready("a");
    let mut child = world.amber(&["exec", "a", "/guest", "serve"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
    assert_eq!(line, "ready\n");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(40 + 15));
}

/// The first bytes of what a process descriptor says of itself: its number.
fn number_behind(socket: &UnixListener) -> i32 {
    let (stream, _) = socket.accept().unwrap();
    let mut space = cmsg_space!([std::os::fd::RawFd; 1]);
    let mut text = [0; 16];
    let mut slices = [IoSliceMut::new(&mut text)];
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty()).unwrap();
    let Some(ControlMessageOwned::ScmRights(files)) = message.cmsgs().unwrap().next() else { panic!("no descriptor") };
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", files[0])).unwrap();
    nix::unistd::close(files[0]).unwrap();
    info.lines().find_map(|line| line.strip_prefix("Pid:")).unwrap().trim().parse().unwrap()
}

#[test]
fn descriptors_of_processes_are_sent() {
    let world = World::new(&["serve"]);
    world.write();
    let (bundle, path, pid_file) = (world.path("bundle"), world.path("pidfds"), world.path("pid"));
    let socket = UnixListener::bind(&path).unwrap();
    let args = ["create", "--bundle", bundle.to_str().unwrap(), "--pidfd-socket", path.to_str().unwrap(), "a"];
    assert_eq!(crate::common::finish(world.amber(&args), &world.path("out-a")).code, 0);
    assert_eq!(number_behind(&socket), world.pid("a"));
    world.ok(&["start", "a"]);
    let mut command = world.amber(&["exec", "--detach", "--pidfd-socket"]);
    command.arg(&path).arg("--pid-file").arg(&pid_file).args(["a", "/guest", "serve"]);
    assert_eq!(crate::common::finish(command, &world.path("out-b")).code, 0);
    let proxy: i32 = fs::read_to_string(pid_file).unwrap().parse().unwrap();
    assert_eq!(number_behind(&socket), proxy);

    assert_eq!(world.run(&["exec", "--cgroup", "/", "--cgroup", "cpu:/", "a", "/guest", "exit", "4"]).code, 4);
    let refused = world.run(&["exec", "--cgroup", "cpu:/inner", "a", "/guest", "exit", "4"]);
    assert!(refused.code == 255 && refused.err.contains("no such control group"), "{refused:?}");
}
