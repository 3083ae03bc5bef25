//! An interactive shell at a terminal feels native.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::wait;
use nix::pty::{Winsize, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};

/// A person at a terminal of 30 rows and 100 columns.
struct Person {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Person {
    /// Starts a command, in a session of its own with the terminal as the controlling one.
    fn start(command: &str) -> Person {
        let size = Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let slave = || Stdio::from(pty.slave.try_clone().unwrap());
        let child = Command::new("setsid")
            .args(["--ctty", "--wait", "sh", "-c", command])
            .env("AMBER", env!("CARGO_BIN_EXE_amber"))
            .env("PS1", "prompt> ")
            .env("TERM", "vt100")
            .stdin(slave())
            .stdout(slave())
            .stderr(slave())
            .spawn()
            .unwrap();
        let (sender, screen) = channel();
        let keyboard = File::from(pty.master);
        let mut output = keyboard.try_clone().unwrap();
        thread::spawn(move || {
            let mut buf = [0; 4096];
            while let Ok(n @ 1..) = output.read(&mut buf) {
                if sender.send(buf[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Person { child, keyboard, screen, seen: String::new() }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the text is on the screen, and forgets all up to it.
    fn see(&mut self, text: &str) {
        let limit = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            match self.screen.recv_timeout(limit.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("never saw {text:?}, but {:?}", self.seen)
                }
            }
        }
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_shell_has_job_control() {
    let mut person = Person::start("exec $AMBER do -- bash --norc --noprofile -i");
    person.see("prompt> ");
    person.press("stty size; tty\r");
    person.see("30 100\r\n");
    person.see("/dev/");
    person.see("prompt> ");
    // Ctrl-C ends the job, not the shell.
    person.press("sleep 1000\r");
    thread::sleep(Duration::from_millis(500));
    person.press("\x03");
    person.see("^C");
    person.see("prompt> ");
    person.press("echo status $?\r");
    person.see("status 130");
    // Ctrl-Z stops it, fg brings it back.
    person.press("cat\r");
    thread::sleep(Duration::from_millis(500));
    person.press("\x1a");
    person.see("Stopped");
    person.press("jobs; fg\r");
    person.see("Stopped");
    person.see("cat\r\n");
    thread::sleep(Duration::from_millis(500));
    person.press("hello there\r");
    person.see("hello there\r\nhello there\r\n");
    person.press("\x04");
    person.see("prompt> ");
    person.press("exit 6\r");
    assert_eq!(wait(&mut person.child).code(), Some(6));
}

#[test]
fn the_terminal_is_as_it_was_afterwards() {
    for ending in ["exit 0", "kill -SEGV $$", "stty raw -echo; exit 1", "/no/such/program"] {
        let mut person = Person::start(&format!("$AMBER do -- sh -c '{ending}'; echo done; read -r line"));
        person.see("done");
        let flags = tcgetattr(&person.keyboard).unwrap().local_flags;
        assert!(flags.contains(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG), "{ending}");
    }
}

#[test]
fn a_new_size_is_told() {
    let script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.1; done";
    let mut person = Person::start(&format!("($AMBER do -- bash -c \"{script}\")"));
    person.see("ready");
    let status = Command::new("stty")
        .args(["rows", "44", "cols", "55"])
        .stdin(Stdio::from(person.keyboard.try_clone().unwrap()))
        .status()
        .unwrap();
    assert!(status.success());
    person.see("44 55");
}

#[test]
fn keys_end_a_command_without_a_shell() {
    let mut person = Person::start("$AMBER do -- sleep 1000; echo status $?");
    thread::sleep(Duration::from_millis(1500));
    person.press("\x03");
    person.see("status 130");
}

#[test]
fn a_pipeline_leaves_the_terminal_to_others() {
    let mut person = Person::start("$AMBER do -- echo through | cat; read -r line; echo got $line");
    person.see("through");
    assert!(tcgetattr(&person.keyboard).unwrap().local_flags.contains(LocalFlags::ICANON));
    person.press("text\r");
    person.see("got text");
}

#[test]
fn both_processes_stop_and_go_on_with_the_guest() {
    let mut person = Person::start("bash --norc --noprofile -i");
    person.see("prompt> ");
    person.press("$AMBER do -- cat\r");
    person.see("cat\r\n");
    thread::sleep(Duration::from_millis(1500));
    person.press("first\r");
    person.see("first\r\nfirst\r\n");
    for round in ["one", "two"] {
        person.press("\x1a");
        person.see("Stopped");
        person.see("prompt> ");
        // The shell has the terminal.
        person.press(&format!("echo {round}-shell\r"));
        person.see(&format!("\r{round}-shell\r\n"));
        person.press("fg\r");
        person.see("do -- cat\r\n");
        thread::sleep(Duration::from_millis(500));
        person.press(&format!("{round}\r"));
        person.see(&format!("{round}\r\n{round}\r\n"));
    }
    person.press("\x04");
    person.see("prompt> ");
    person.press("exit 5\r");
    assert_eq!(wait(&mut person.child).code(), Some(5));
}
