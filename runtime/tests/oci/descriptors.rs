//! Descriptors that are handed on: whatever they are, the guest has them as its own from 3 on.

use std::fs::{self, File};
use std::io::{Read, Write, pipe};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::pty::{Winsize, openpty};
use nix::sys::eventfd::EventFd;

use crate::common::{World, eventually};

/// Starts `amber` with three descriptors as 3, 4 and 5, in a shell that sets variables first. What it prints goes to the
/// file `printed`.
fn amber(world: &World, files: [OwnedFd; 3], variables: &str, args: &[&str]) -> Child {
    let amber = world.amber(args);
    let out = world.path("printed");
    let script = format!("exec 3<&0 4<&1 5<&2 0</dev/null >{0} 2>&1; {variables} exec \"$0\" \"$@\"", out.display());
    let [zero, one, two] = files.map(Stdio::from);
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(amber.get_program()).args(amber.get_args());
    command.stdin(zero).stdout(one).stderr(two).spawn().unwrap()
}

/// Waits for the end, and answers what was printed.
fn printed(world: &World, mut amber: Child) -> String {
    let status = amber.wait().unwrap();
    let text = fs::read_to_string(world.path("printed")).unwrap();
    assert!(status.success(), "{text}");
    text
}

/// A directory beside a file that cannot be seen from it.
fn directory(world: &World) -> OwnedFd {
    fs::create_dir_all(world.path("handed/tree")).unwrap();
    fs::write(world.path("handed/tree/inner"), "inside").unwrap();
    fs::write(world.path("handed/outside"), "outside").unwrap();
    File::open(world.path("handed/tree")).unwrap().into()
}

#[test]
fn the_first_process_has_files_pipes_and_directories() {
    let world = World::new(&["descriptors"]);
    world.write();
    fs::write(world.path("text"), "some words").unwrap();
    let file = File::open(world.path("text")).unwrap();
    let (mut reader, writer) = pipe().unwrap();
    let mut rest = file.try_clone().unwrap();
    let bundle = world.path("bundle");
    let files = [file.into(), writer.into(), directory(&world)];
    let amber = amber(&world, files, "", &["run", "--preserve-fds", "3", "--bundle", bundle.to_str().unwrap(), "a"]);
    let text = printed(&world, amber);
    let lines: Vec<&str> = text.lines().collect();
    let directory = "5 directory inside, above nothing, made, outside hidden";
    assert_eq!(lines, ["3 file some at 4", "4 pipe 4", directory, "LISTEN_FDS=(null) LISTEN_PID=(null)"]);
    let mut piped = String::new();
    reader.read_to_string(&mut piped).unwrap();
    assert_eq!(piped, "pipe");
    assert!(world.path("handed/tree/made").exists());
    // The position is shared by all holders of the descriptor.
    let mut words = String::new();
    rest.read_to_string(&mut words).unwrap();
    assert_eq!(words, " words");
}

#[test]
fn sockets_of_activation_come_first() {
    let world = World::new(&["descriptors"]);
    world.write();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    ours.send(b"packet").unwrap();
    let event = EventFd::from_value(7).unwrap();
    let bundle = world.path("bundle");
    let args = ["run", "--preserve-fds", "2", "--bundle", bundle.to_str().unwrap(), "a"];
    let files = [listener.into(), theirs.into(), event.into()];
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"hello").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let amber = amber(&world, files, "LISTEN_PID=$$ LISTEN_FDS=1", &args);
    let text = printed(&world, amber);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines, ["3 listener hello", "4 socket packet", "5 other 8 7", "LISTEN_FDS=1 LISTEN_PID=1"]);
    assert_eq!(client.join().unwrap(), "hello");
    let mut packet = [0; 16];
    assert_eq!(ours.recv(&mut packet).unwrap(), 6);
}

#[test]
fn what_is_for_another_process_is_not_handed_on() {
    let world = World::new(&["descriptors"]);
    world.write();
    let null = || OwnedFd::from(File::open("/dev/null").unwrap());
    let bundle = world.path("bundle");
    let args = ["run", "--bundle", bundle.to_str().unwrap(), "a"];
    let amber = amber(&world, [null(), null(), null()], "LISTEN_PID=1 LISTEN_FDS=1", &args);
    assert_eq!(printed(&world, amber), "LISTEN_FDS=(null) LISTEN_PID=(null)\n");
}

#[test]
fn a_further_process_has_sockets_and_terminals() {
    let world = World::new(&["serve"]);
    world.ready("a");
    let path = world.path("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let size = Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = openpty(&size, None).unwrap();
    let files = [listener.into(), pair.slave, directory(&world)];
    let client = thread::spawn(move || {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(b"hello").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let amber = amber(&world, files, "", &["exec", "--preserve-fds", "3", "a", "/guest", "descriptors"]);
    let text = printed(&world, amber);
    let lines: Vec<&str> = text.lines().collect();
    // The sandbox, whose root is read-only, changes no files of the host.
    let directory = "5 directory inside, above nothing, Read-only file system, outside hidden";
    assert_eq!(lines[..3], ["3 listener hello", "4 terminal 33 rows", directory]);
    assert_eq!(client.join().unwrap(), "hello");
}

#[test]
fn what_is_not_open_is_refused() {
    let world = World::new(&["serve"]);
    world.write();
    let bundle = world.path("bundle");
    // A log is not what the caller has open, whatever its number.
    let log = world.path("log");
    let flags = ["--log", log.to_str().unwrap()];
    for count in ["1", "300"] {
        let args = ["create", "--preserve-fds", count, "--bundle", bundle.to_str().unwrap(), "a"];
        let outcome = world.run(&[&flags[..], &args].concat());
        let words = if count == "1" { "unable to stat preserved-fd 0 (of 1)" } else { "245 descriptors at most" };
        assert!(outcome.code == 1 && outcome.err.contains(words), "{outcome:?}");
    }
    world.ready("a");
    let outcome = world.run(&["exec", "--preserve-fds", "1", "a", "/guest", "descriptors"]);
    assert!(outcome.code == 255 && outcome.err.contains("unable to stat preserved-fd 0"), "{outcome:?}");
    eventually(|| world.status("a") == "running");
}
