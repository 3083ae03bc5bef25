//! Threads that run a virtual processor for a context whose own thread attends to the mailbox meanwhile.

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

/// How long a thread waits with all its might: to wake one that sleeps takes about as long.
pub const PATIENCE: Duration = Duration::from_micros(60);
/// How long it then still waits for a call or for work, giving way to other threads on the host's processor.
const IDLENESS: Duration = Duration::from_millis(1);
/// Bytes of a thread's stack.
const STACK: usize = 256 << 10;

/// How a stay ended: why the processor stopped; none if somebody else had got it before it could run.
pub type Outcome = Result<Option<ExitReason>, PlatformError>;

/// Who is to do something next.
mod stage {
    /// The guest: its code runs, or is about to.
    pub const GUEST: u8 = 0;
    /// The sentry: the guest waits at the mailbox, and leaves if that takes too long.
    pub const SENTRY: u8 = 1;
    /// The sentry: the guest has left the machine, and nobody has looked at its registers.
    pub const LEFT: u8 = 2;
    /// Nobody: the guest has left while the sentry had its registers.
    pub const GONE: u8 = 3;
}

/// For who waits since `started` without sleeping: gives other threads the host's processor if that is long, and says
/// whether to wait on.
pub fn may_wait(started: Instant) -> bool {
    let waited = started.elapsed();
    if waited > PATIENCE {
        std::thread::yield_now();
    }
    waited < IDLENESS
}

/// A guest's stay in the machine, from when a runner gets its processor to when that stops.
pub struct Stay {
    vcpu: Arc<Vcpu>,
    handle: Arc<ContextHandle>,
    mailbox: Arc<Mailbox>,
    /// Whether its runner has turned to it.
    begun: AtomicBool,
    stage: AtomicU8,
    outcome: Mutex<Option<Outcome>>,
    over: Condvar,
}

impl Stay {
    /// The stay of a context on its processor, which must be `fresh`: nobody is to take it away.
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

    /// The processor.
    pub fn vcpu(&self) -> &Arc<Vcpu> {
        &self.vcpu
    }

    fn pass(&self, from: u8, to: u8) -> bool {
        self.stage.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Takes the call at the mailbox. Not if the guest has left: then its registers tell about the call.
    pub fn take_call(&self) -> bool {
        self.pass(stage::GUEST, stage::SENTRY)
    }

    /// Lets the guest go on, whose call can now be answered. Not if it has left.
    pub fn go_on(&self) -> bool {
        self.pass(stage::SENTRY, stage::GUEST)
    }

    /// Whether the runner has turned to it.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Whether the guest has left the machine.
    pub fn is_over(&self) -> bool {
        matches!(self.stage.load(Ordering::Acquire), stage::LEFT | stage::GONE)
    }

    /// Waits until the guest has left.
    pub fn sleep(&self) {
        let mut outcome = self.outcome.lock();
        while outcome.is_none() {
            self.over.wait(&mut outcome);
        }
    }

    /// Waits until the guest has left, and says how. To be asked once.
    pub fn outcome(&self) -> Outcome {
        let mut outcome = self.outcome.lock();
        loop {
            if let Some(outcome) = outcome.take() {
                return outcome;
            }
            self.over.wait(&mut outcome);
        }
    }

    /// Runs the processor. Returns whether somebody waits for the outcome.
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
                // The sentry has the registers: others may have the processor and the mailbox.
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

/// A thread that runs processors.
pub struct Runner {
    /// The host's number of the thread.
    thread: Pid,
    desk: Arc<Desk>,
}

/// What a runner shares with those it works for.
#[derive(Default)]
struct Desk {
    /// Whether a context has the runner.
    engaged: AtomicBool,
    work: Mutex<Work>,
    /// Whether there is any.
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
    /// The host's number of the thread.
    pub fn thread(&self) -> Pid {
        self.thread
    }

    /// Begins a stay.
    pub fn run(&self, stay: Arc<Stay>) {
        self.desk.put(Work::Run(stay));
    }

    /// Lets other contexts have the runner, which does nothing.
    pub fn dismiss(&self) {
        self.desk.engaged.store(false, Ordering::Release);
    }
}

struct Staff {
    /// So many runners there can be.
    most: usize,
    runners: Vec<Arc<Runner>>,
    threads: Vec<JoinHandle<()>>,
}

impl Staff {
    /// Starts a runner, who is engaged.
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
    /// None yet, and never more than leave each a host processor beside the one of the thread it works for, unless there may be
    /// `plenty`.
    pub fn new(plenty: bool) -> Runners {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let most = if plenty { processors.max(2) } else { processors / 2 };
        Runners { processors, staff: Mutex::new(Staff { most, runners: Vec::new(), threads: Vec::new() }) }
    }

    /// How many processors of the host this process may use.
    pub fn cpus(&self) -> usize {
        self.processors
    }

    /// Wakes runners that do nothing: there may be work soon.
    pub fn wake(&self) {
        for runner in &self.staff.lock().runners {
            runner.desk.arrived.notify_one();
        }
    }

    /// A runner that nobody else has, if there is one.
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
            // A panic was reported by the thread itself.
            let _ = thread.join();
        }
    }
}
