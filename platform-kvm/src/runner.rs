//! Threads that run a vCPU for a context while the context's own thread polls the mailbox.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use amber_platform::PlatformError;
use nix::unistd::{Pid, gettid};
use parking_lot::{Condvar, Mutex};

use crate::context_handle::ContextHandle;
use crate::mailbox::Mailbox;
use crate::vcpu::{ExitReason, Vcpu};

/// Spin limit; about the cost of a futex wake-up.
pub const SPIN_LIMIT: Duration = Duration::from_micros(60);
/// How long a thread then still polls, with sched_yield(2) in between.
const IDLE_TIMEOUT: Duration = Duration::from_millis(1);
/// Stack size of a runner in bytes.
const STACK: usize = 256 << 10;

/// How a run ended: the exit, or `None` if another context got the vCPU before it could run.
pub type Outcome = Result<Option<ExitReason>, PlatformError>;

/// Which side acts next.
mod stage {
    /// The guest: it runs or is about to.
    pub const GUEST: u8 = 0;
    /// The sentry: the guest waits at the mailbox, and exits if that takes too long.
    pub const SENTRY: u8 = 1;
    /// The sentry: the guest has exited, and its registers have not been read.
    pub const LEFT: u8 = 2;
    /// Neither: the guest has exited while the sentry had its registers.
    pub const GONE: u8 = 3;
}

/// One step of polling that began at `started`: yields the host CPU beyond the spin limit, and returns whether to
/// continue.
pub fn may_wait(started: Instant) -> bool {
    let waited = started.elapsed();
    if waited > SPIN_LIMIT {
        std::thread::yield_now();
    }
    waited < IDLE_TIMEOUT
}

/// One run of a vCPU by a runner, until it exits.
pub struct Stay {
    vcpu: Arc<Vcpu>,
    handle: Arc<ContextHandle>,
    mailbox: Arc<Mailbox>,
    /// Whether the runner has started.
    begun: AtomicBool,
    stage: AtomicU8,
    outcome: Mutex<Option<Outcome>>,
    over: Condvar,
}

impl Stay {
    /// A run of a context on its vCPU, which must be `reserved` so that it cannot be taken away.
    pub fn new(vcpu: &Arc<Vcpu>, handle: &Arc<ContextHandle>, mailbox: &Arc<Mailbox>) -> Arc<Stay> {
        Arc::new(Stay {
            vcpu: vcpu.clone(),
            handle: handle.clone(),
            mailbox: mailbox.clone(),
            begun: AtomicBool::new(false),
            stage: AtomicU8::new(stage::GUEST),
            outcome: Mutex::new(None),
            over: Condvar::new(),
        })
    }

    /// The vCPU.
    pub fn vcpu(&self) -> &Arc<Vcpu> {
        &self.vcpu
    }

    fn pass(&self, from: u8, to: u8) -> bool {
        self.stage.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Takes the call at the mailbox. Returns false if the guest has exited: then its registers contain the call.
    pub fn take_call(&self) -> bool {
        self.pass(stage::GUEST, stage::SENTRY)
    }

    /// Lets the guest continue, whose call is then answered. Returns false if it has exited.
    pub fn go_on(&self) -> bool {
        self.pass(stage::SENTRY, stage::GUEST)
    }

    /// Whether the runner has started.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Whether the guest has exited.
    pub fn is_over(&self) -> bool {
        matches!(self.stage.load(Ordering::Acquire), stage::LEFT | stage::GONE)
    }

    /// Waits for the exit.
    pub fn sleep(&self) {
        let mut outcome = self.outcome.lock();
        while outcome.is_none() {
            self.over.wait(&mut outcome);
        }
    }

    /// Waits for the exit and takes the outcome. Call it once.
    pub fn outcome(&self) -> Outcome {
        let mut outcome = self.outcome.lock();
        loop {
            if let Some(outcome) = outcome.take() {
                return outcome;
            }
            self.over.wait(&mut outcome);
        }
    }

    /// Runs the vCPU. Returns whether the outcome will be asked for.
    fn run(&self) -> bool {
        self.begun.store(true, Ordering::Release);
        let result = {
            let mut core = self.vcpu.core.lock();
            if self.vcpu.belongs_to(&self.handle) { core.run().map(Some) } else { Ok(None) }
        };
        let mut outcome = self.outcome.lock();
        *outcome = Some(result);
        let awaited = loop {
            if self.pass(stage::GUEST, stage::LEFT) {
                break true;
            }
            if self.pass(stage::SENTRY, stage::GONE) {
                // The sentry has the registers already, so the vCPU and the mailbox are free.
                self.vcpu.reserved.store(false, Ordering::SeqCst);
                self.mailbox.give_up(&self.handle);
                break false;
            }
        };
        drop(outcome);
        self.over.notify_one();
        awaited
    }
}

#[derive(Default)]
enum Work {
    #[default]
    Nothing,
    Run(Arc<Stay>),
    Quit,
}

/// A runner thread.
pub struct Runner {
    /// Its thread ID.
    thread: Pid,
    desk: Arc<Desk>,
}

/// The state that a runner shares with its contexts.
#[derive(Default)]
struct Desk {
    /// Whether a context has acquired the runner.
    engaged: AtomicBool,
    work: Mutex<Work>,
    /// Whether `work` is set.
    ready: AtomicBool,
    arrived: Condvar,
}

impl Desk {
    fn put(&self, work: Work) {
        *self.work.lock() = work;
        self.ready.store(true, Ordering::Release);
        self.arrived.notify_one();
    }

    fn next(&self) -> Work {
        loop {
            let started = Instant::now();
            while !self.ready.load(Ordering::Acquire) && may_wait(started) {
                std::hint::spin_loop();
            }
            let mut work = self.work.lock();
            match std::mem::take(&mut *work) {
                Work::Nothing => self.arrived.wait(&mut work),
                other => {
                    self.ready.store(false, Ordering::Release);
                    return other;
                }
            }
        }
    }

    fn serve(&self) {
        while let Work::Run(stay) = self.next() {
            let awaited = stay.run();
            drop(stay);
            if !awaited {
                self.engaged.store(false, Ordering::Release);
            }
        }
    }
}

impl Runner {
    /// The thread ID.
    pub fn thread(&self) -> Pid {
        self.thread
    }

    /// Starts a run.
    pub fn run(&self, stay: Arc<Stay>) {
        self.desk.put(Work::Run(stay));
    }

    /// Makes the idle runner available to other contexts.
    pub fn dismiss(&self) {
        self.desk.engaged.store(false, Ordering::Release);
    }
}

struct Staff {
    /// Maximum number of runners.
    most: usize,
    runners: Vec<Arc<Runner>>,
    threads: Vec<JoinHandle<()>>,
}

impl Staff {
    /// Starts a runner, in acquired state.
    fn hire(&mut self) -> io::Result<Arc<Runner>> {
        let desk = Arc::new(Desk { engaged: AtomicBool::new(true), ..Desk::default() });
        let (sender, receiver) = sync_channel(1);
        let theirs = desk.clone();
        let work = move || {
            let _ = sender.send(gettid());
            theirs.serve();
        };
        let thread = std::thread::Builder::new().name("runner".to_owned()).stack_size(STACK);
        self.threads.push(thread.spawn(work)?);
        let thread = receiver.recv().map_err(io::Error::other)?;
        let runner = Arc::new(Runner { thread, desk });
        self.runners.push(runner.clone());
        Ok(runner)
    }
}

/// All runners of a machine.
pub struct Runners {
    processors: usize,
    staff: Mutex<Staff>,
}

impl Runners {
    /// Without runners at first. At most half of the host CPUs get one, so that each context has a second CPU, unless
    /// there may be `plenty`.
    pub fn new(plenty: bool) -> Runners {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let most = if plenty { processors.max(2) } else { processors / 2 };
        Runners { processors, staff: Mutex::new(Staff { most, runners: Vec::new(), threads: Vec::new() }) }
    }

    /// The number of host CPUs that this process may use.
    pub fn cpus(&self) -> usize {
        self.processors
    }

    /// Wakes idle runners, because there may be work soon.
    pub fn wake(&self) {
        for runner in &self.staff.lock().runners {
            runner.desk.arrived.notify_one();
        }
    }

    /// Acquires an idle runner; starts one if necessary and allowed.
    pub fn engage(&self) -> Option<Arc<Runner>> {
        let mut staff = self.staff.lock();
        let idle = |runner: &&Arc<Runner>| !runner.desk.engaged.swap(true, Ordering::AcqRel);
        if let Some(runner) = staff.runners.iter().find(idle) {
            return Some(runner.clone());
        }
        if staff.runners.len() >= staff.most {
            return None;
        }
        match staff.hire() {
            Ok(runner) => Some(runner),
            Err(error) => {
                log::info!("system calls are not handed over: starting a thread: {error}");
                staff.most = staff.runners.len();
                None
            }
        }
    }
}

impl Drop for Runners {
    fn drop(&mut self) {
        let staff = self.staff.get_mut();
        for runner in &staff.runners {
            runner.desk.put(Work::Quit);
        }
        for thread in staff.threads.drain(..) {
            // The thread has reported a panic itself.
            let _ = thread.join();
        }
    }
}
