//! Terminals of containers, handed to the listener at a console socket.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::json;

use crate::common::{World, eventually, finish};

/// What a container's shim holds: the master of its terminal.
struct Master {
    file: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Master {
    /// The one that a command, which must succeed, sends to a listener.
    fn of(world: &World, command: Command, listener: &UnixListener) -> Master {
        let out = world.path("out");
        let running = thread::spawn(move || finish(command, &out));
        let master = Master::receive(listener);
        let outcome = running.join().unwrap();
        assert_eq!(outcome.code, 0, "{outcome:?}");
        master
    }

    fn receive(listener: &UnixListener) -> Master {
        let (socket, _) = listener.accept().unwrap();
        let (mut name, mut space) = ([0; 4096], [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))]);
        let mut control = RecvAncillaryBuffer::new(&mut space);
        recvmsg(&socket, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::empty()).unwrap();
        let file = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut files) => files.next(),
            _ => None,
        });
        let file = File::from(file.unwrap());
        let (sender, screen) = channel();
        let mut output = file.try_clone().unwrap();
        thread::spawn(move || {
            let mut buf = [0; 4096];
            while let Ok(n @ 1..) = output.read(&mut buf) {
                let _ = sender.send(buf[..n].to_vec());
            }
        });
        Master { file, screen, seen: String::new() }
    }

    fn see(&mut self, text: &str) {
        let limit = Instant::now() + Duration::from_secs(15);
        while !self.seen.contains(text) {
            match self.screen.recv_timeout(limit.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("{text:?} does not come; there was {:?}", self.seen),
            }
        }
    }

    fn resize(&self, rows: u16, columns: u16) {
        let done = Command::new("stty")
            .args(["rows", &rows.to_string(), "columns", &columns.to_string()])
            .stdin(self.file.try_clone().unwrap())
            .status()
            .unwrap();
        assert!(done.success());
    }
}

#[test]
fn a_container_has_a_terminal() {
    let mut world = World::new(&["terminal"]);
    world.config["process"]["terminal"] = json!(true);
    world.config["process"]["consoleSize"] = json!({"height": 20, "width": 70});
    world.write();
    let socket = world.path("console");
    let listener = UnixListener::bind(&socket).unwrap();
    let bundle = world.path("bundle");
    let mut command = world.amber(&["create", "--bundle", bundle.to_str().unwrap(), "--console-socket"]);
    command.arg(&socket).arg("a");
    let mut master = Master::of(&world, command, &listener);
    world.ok(&["start", "a"]);
    master.see("terminal 1 1 1\r\nsize 20x70\r\n");
    master.resize(33, 99);
    master.see("size 33x99");
    master.file.write_all(b"hello\r").unwrap();
    master.see("got hello\r\n");
    world.ended("a");
}

#[test]
fn a_further_process_has_a_terminal_of_its_own() {
    let world = World::new(&["serve"]);
    world.ready("a");
    let process = json!({
        "terminal": true, "consoleSize": {"height": 11, "width": 44}, "user": {"uid": 0, "gid": 0},
        "args": ["/guest", "terminal"], "cwd": "/", "env": [],
    });
    std::fs::write(world.path("process.json"), process.to_string()).unwrap();
    let socket = world.path("console");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut command = world.amber(&["exec", "--detach", "--console-socket"]);
    command.arg(&socket).arg("--process").arg(world.path("process.json")).arg("a");
    let mut master = Master::of(&world, command, &listener);
    master.see("terminal 1 1 1\r\nsize 11x44\r\n");
    master.resize(12, 45);
    master.see("size 12x45");
    master.file.write_all(b"hello\r").unwrap();
    master.see("got hello\r\n");
    eventually(|| !world.ok(&["ps", "a"]).contains("/guest terminal"));
    assert_eq!(world.status("a"), "running");
}

#[test]
fn a_terminal_needs_somebody_who_takes_it() {
    let mut world = World::new(&["terminal"]);
    world.config["process"]["terminal"] = json!(true);
    let outcome = world.create("a");
    assert!(outcome.code == 1 && outcome.err.contains("cannot allocate tty"), "{outcome:?}");
}
