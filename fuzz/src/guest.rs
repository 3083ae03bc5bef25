//! A sandbox in the fuzzer's process, and what must hold when it has ended.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use amber_platform::GuestMemory;
use amber_platform_fake::{Machine, Program};
use amber_sentry::config::{MountSource, MountSpec, ProcessSpec, SandboxConfig, TraceFilter};
use amber_sentry::sandbox::Sandbox;

use crate::root;
use crate::script::{ARENA, ARENA_SIZE, First, Once, Op};

/// Bytes of guest memory.
const MEMORY: u64 = 64 << 20;
/// How long a guest may be without progress before it is ended.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How long the kernel may take to let go of everything; the fuzzer's own limit comes later.
const END: Duration = Duration::from_secs(10);

/// A sandbox on a [`Machine`].
pub struct Running {
    /// The sandbox.
    pub sandbox: Arc<Sandbox>,
    /// What it runs on.
    pub machine: Arc<Machine>,
    memory: Arc<GuestMemory>,
}

impl Running {
    /// Boots a sandbox as `amber do` makes one, with programs from `programs`, and starts it.
    ///
    /// # Panics
    /// The host lacks something.
    pub fn start(programs: impl FnMut() -> Box<dyn Program> + Send + 'static) -> Running {
        Running::start_traced(false, programs)
    }

    /// The same; with `trace` its system calls are printed, to nowhere.
    ///
    /// # Panics
    /// The host lacks something.
    pub fn start_traced(trace: bool, programs: impl FnMut() -> Box<dyn Program> + Send + 'static) -> Running {
        LazyLock::force(&HELD);
        let memory = GuestMemory::new(MEMORY).expect("guest memory");
        let machine = Machine::new(memory.clone(), programs);
        let sandbox = Sandbox::boot(machine.clone(), memory.clone(), config(trace)).expect("the sandbox boots");
        let sandbox = Arc::new(sandbox);
        sandbox.start().expect("the first process starts");
        Running { sandbox, machine, memory }
    }

    /// Ends the sandbox. Nothing of it may be left.
    ///
    /// # Panics
    /// Something of the kernel, or a frame of its guests, outlives the sandbox.
    pub fn finish(self) {
        let Running { sandbox, machine, memory } = self;
        sandbox.kill();
        sandbox.wait();
        drop(sandbox);
        drop(machine);
        // Threads of the host may still be on their way out of the kernel.
        let since = Instant::now();
        let gone = || Arc::strong_count(&memory) == 1 && Held::now().is_within(&HELD);
        while !gone() {
            assert!(
                since.elapsed() < END,
                "what outlives the kernel: {} holders of guest memory, and {:?} where there was {:?} of the host",
                Arc::strong_count(&memory) - 1,
                Held::now(),
                *HELD
            );
            thread::sleep(Duration::from_micros(100));
        }
        assert_eq!(memory.allocated(), 0, "frames outlive the kernel");
    }
}

/// What this process has of the host.
#[derive(Debug)]
struct Held {
    descriptors: usize,
    threads: usize,
}

/// What it had before the first sandbox.
static HELD: LazyLock<Held> = LazyLock::new(Held::now);
/// As much may come with the first sandbox and stay.
const MADE_ONCE: usize = 6;

impl Held {
    fn now() -> Held {
        let count = |directory| fs::read_dir(directory).map_or(0, Iterator::count);
        Held { descriptors: count("/proc/self/fd"), threads: count("/proc/self/task") }
    }

    fn is_within(&self, before: &Held) -> bool {
        self.descriptors <= before.descriptors + MADE_ONCE && self.threads <= before.threads + MADE_ONCE
    }
}

fn config(trace: bool) -> SandboxConfig {
    let process = ProcessSpec { env: vec!["PATH=/bin".into()], ..ProcessSpec::of_root(vec!["/bin/init".into()]) };
    let mounts = vec![
        MountSpec::new("/", MountSource::Overlay(root::directory())),
        MountSpec::new("/proc", MountSource::Proc),
        MountSpec::new("/dev", MountSource::Dev),
        MountSpec::new("/dev/pts", MountSource::DevPts("gid=5,mode=620,ptmxmode=666".into())),
        MountSpec::new("/dev/shm", MountSource::Tmpfs("mode=1777".into())),
        MountSpec::new("/dev/mqueue", MountSource::Mqueue),
        MountSpec::new("/sys", MountSource::Sys),
        MountSpec::new("/sys/fs/cgroup", MountSource::Cgroup),
    ];
    let trace = trace.then(|| TraceFilter { names: Vec::new(), sink: Box::new(io::sink()) });
    SandboxConfig { mounts, trace, ..SandboxConfig::new(process) }
}

/// A sandbox whose first process plays scripts.
pub struct Guest {
    running: Running,
    scripts: Sender<Vec<Op>>,
    results: Receiver<Vec<i64>>,
}

impl Guest {
    /// Makes one, with memory at [`ARENA`].
    ///
    /// # Panics
    /// The host lacks something.
    pub fn start() -> Guest {
        let (scripts, to_play) = channel();
        let (answer, results) = channel();
        let (children, born) = channel::<Vec<Op>>();
        let mut first = Some(First::new(to_play, answer, children));
        let running = Running::start(move || match first.take() {
            Some(first) => Box::new(first),
            None => Box::new(Once::new(born.try_recv().unwrap_or_default())),
        });
        let mut guest = Guest { running, scripts, results };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let arena = Op::call(libc::SYS_mmap, [ARENA, ARENA_SIZE, protection as u64, flags as u64, u64::MAX, 0]);
        assert_eq!(guest.play(vec![arena]), Some(vec![ARENA as i64]), "the arena can be mapped");
        guest
    }

    /// Plays a script and returns the results of its operations; none if the process has ended, or waits for what does
    /// not come: then the guest is of no more use.
    pub fn play(&mut self, script: Vec<Op>) -> Option<Vec<i64>> {
        self.scripts.send(script).ok()?;
        let mut seen = self.running.machine.steps();
        loop {
            match self.results.recv_timeout(TIMEOUT) {
                Ok(results) => return Some(results),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let steps = self.running.machine.steps();
            if steps == seen {
                return None;
            }
            seen = steps;
        }
    }

    /// The sandbox.
    pub fn sandbox(&self) -> &Arc<Sandbox> {
        &self.running.sandbox
    }

    /// Ends it; see [`Running::finish`].
    pub fn finish(self) {
        drop(self.scripts);
        self.running.finish();
    }
}

thread_local! {
    static GUEST: RefCell<Option<Guest>> = const { RefCell::new(None) };
}

/// Plays a script in a guest that is kept from input to input as long as it can be used.
pub fn with_guest(script: Vec<Op>) -> Option<Vec<i64>> {
    GUEST.with_borrow_mut(|kept| {
        let mut guest = kept.take().unwrap_or_else(Guest::start);
        let results = guest.play(script);
        match results {
            Some(_) => *kept = Some(guest),
            None => guest.finish(),
        }
        results
    })
}
