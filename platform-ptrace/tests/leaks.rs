//! No stub survives the sentry, however it ends.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use amber_platform::GuestMemory;
use amber_platform_conformance::{Guest, Machine, call_forever};
use amber_platform_ptrace::PtracePlatform;

fn machine() -> Machine {
    let memory = GuestMemory::new(1 << 30).unwrap();
    Machine { platform: Arc::new(PtracePlatform::new(memory.clone()).unwrap()), memory }
}

/// Makes spaces, forks and threads until it is killed. The test below runs it in a process of its own.
#[test]
#[ignore = "runs until killed"]
fn victim() {
    let machine = machine();
    let busy = || {
        loop {
            let mut guest = Guest::new(&machine, call_forever());
            guest.run_to_call();
            let space = guest.context.fork_space(&*guest.space).unwrap();
            let _room = guest.context.prepare_thread(&*guest.space).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| Guest::thread(&machine, guest.space.clone()).run_to_call());
                scope.spawn(|| {
                    let mut child = Guest::thread(&machine, space);
                    child.registers = guest.registers;
                    child.run_to_call();
                });
            });
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(busy);
        scope.spawn(busy);
    });
}

/// Kills a busy sentry at many different moments. Its orphans are reparented to this process, and must soon be gone.
#[test]
fn nothing_survives_a_killed_sentry() {
    // SAFETY: touches no memory.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }, 0);
    let mut orphans = 0;
    for round in 0..60u64 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim", "--ignored", "--nocapture"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(round * 997));
        victim.kill().unwrap();
        victim.wait().unwrap();
        let start = Instant::now();
        loop {
            let mut status = 0;
            // SAFETY: `status` is a valid place for the result.
            match unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG | libc::__WALL) } {
                -1 => break,
                0 => assert!(start.elapsed() < Duration::from_secs(10), "round {round}: a stub lives on"),
                _ => orphans += 1,
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    assert!(orphans > 0, "no victim came so far as to have stubs");
}
