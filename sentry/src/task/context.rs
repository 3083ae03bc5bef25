//! The context of a system call handler: the calling task, its registers and its guest memory.

use std::ops::Deref;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use amber_abi::SignalSet;
use amber_abi::errno::Errno;
use amber_abi::poll::PollEvents;
use amber_abi::signal::SsFlags;
use amber_abi::task::WaitStatus;
use amber_platform::{Context, KernelPart, PlatformError, Registers, ThreadReservation, Trap};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::error::{Restart, Resume};
use crate::mm::MemoryManager;
use crate::signal::retarget_pending;
use crate::slices::{at_most, at_most_mut, filled};
use crate::sync::assert_none_held;
use crate::syscalls::set_constant_results;
use crate::task::thread_pool::Worker;
use crate::task::{Activity, Task, ThreadGroup, VforkGate};
use crate::wait::{WaitEnd, WaitQueue, Waiter, deadline_in};

/// Counts polls of host descriptors that returned at once, though not with the awaited condition (one byte where two
/// are needed). They become rarer, so that they do not keep a CPU busy.
#[derive(Default)]
struct Futile(u32);

impl Futile {
    /// A sleep shorter than this did not wait.
    const AT_ONCE: Duration = Duration::from_micros(50);

    fn slept(&mut self, time: Duration) {
        self.0 = if time < Self::AT_ONCE { self.0.saturating_add(1) } else { 0 };
    }

    /// How long to wait before the next poll.
    fn pause(&mut self) -> Option<Duration> {
        let more = self.0.checked_sub(3)?;
        self.0 = self.0.saturating_add(1);
        Some(Self::AT_ONCE * 2u32.pow(more.min(6)))
    }
}

/// A task as seen by its own host thread, which alone has access to the registers and the platform context.
/// Dereferences to [`Task`] for everything else.
pub(crate) struct TaskContext {
    task: Arc<Task>,
    memory: Arc<MemoryManager>,
    /// The guest's registers for its next run.
    pub registers: Registers,
    /// The platform's context, which runs guest code.
    pub platform: Box<dyn Context>,
    /// State that only the task itself uses.
    pub(crate) thread: ThreadState,
}

/// State that only the task itself uses.
#[derive(Default)]
pub(crate) struct ThreadState {
    /// Where to write zero and wake a futex at the end, or 0 (`CLONE_CHILD_CLEARTID`).
    pub clear_child_tid: u64,
    /// The alternate signal stack.
    pub alt_stack: AltStack,
    /// How to restart the call that a signal just interrupted.
    pub restart: Option<Restart>,
    /// What restart_syscall(2) resumes.
    pub resume: Option<Resume>,
    /// The mask to restore at the end of the running call.
    pub saved_mask: Option<SignalSet>,
    /// Opened when the task no longer needs its memory, to release the parent of a vfork.
    pub vfork: Option<Arc<VforkGate>>,
    /// Set if this task alone ends when it returns to the guest: its status.
    pub ending: Option<WaitStatus>,
    /// A change of user exceeded the new user's RLIMIT_NPROC; no program can be executed while that holds.
    pub over_process_limit: bool,
    /// The version of the task's permitted calls for which the platform's constant results were set.
    pub published_under: u32,
    /// The last fault, for signal frames.
    pub last_fault: LastFault,
    /// The reservation in its address space, until the task has run there.
    pub reservation: Option<ThreadReservation>,
    /// The host thread, which serves other tasks afterwards.
    pub worker: Option<Arc<Worker>>,
}

/// The CPU's report of a task's last fault.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LastFault {
    /// The exception vector.
    pub vector: u64,
    /// Its error code.
    pub error: u64,
    /// The address of the last page fault.
    pub address: u64,
}

/// The alternate signal stack: see sigaltstack(2).
#[derive(Clone, Copy, Debug)]
pub(crate) struct AltStack {
    /// Its lowest address.
    pub start: u64,
    /// Its length in bytes; 0 if there is none.
    pub size: u64,
    /// The flags as set.
    pub flags: SsFlags,
}

impl Default for AltStack {
    fn default() -> Self {
        AltStack { start: 0, size: 0, flags: SsFlags::SS_DISABLE }
    }
}

impl AltStack {
    /// Whether a stack pointer is within it.
    pub(crate) fn holds(&self, sp: u64) -> bool {
        sp > self.start && sp - self.start <= self.size
    }

    /// Whether a task with this stack pointer runs on it. Never for a stack that disarms itself (`SS_AUTODISARM`).
    pub(crate) fn contains(&self, sp: u64) -> bool {
        !self.flags.contains(SsFlags::SS_AUTODISARM) && self.holds(sp)
    }
}

impl Deref for TaskContext {
    type Target = Arc<Task>;
    fn deref(&self) -> &Arc<Task> {
        &self.task
    }
}

impl TaskContext {
    /// The context of `task`, for its own host thread; `memory` is the task's.
    pub(crate) fn new(
        task: Arc<Task>,
        memory: Arc<MemoryManager>,
        registers: Registers,
        platform: Box<dyn Context>,
        thread: ThreadState,
    ) -> Self {
        TaskContext { task, memory, registers, platform, thread }
    }

    /// Drops the task and its memory, and returns the platform's context.
    pub(super) fn into_platform(self) -> Box<dyn Context> {
        self.platform
    }

    /// The task.
    pub(crate) fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// Its memory.
    pub(crate) fn mm(&self) -> &Arc<MemoryManager> {
        &self.memory
    }

    /// Replaces the task's memory, for execve(2); returns the old one.
    pub(crate) fn replace_memory(&mut self, memory: Arc<MemoryManager>) -> Arc<MemoryManager> {
        self.task.set_memory(Some(memory.clone()));
        std::mem::replace(&mut self.memory, memory)
    }

    /// Detaches the task from its memory for good.
    pub(crate) fn leave_space(&mut self) {
        // A broken host makes the next run fail as well.
        if let Err(fault) = self.platform.detach() {
            log::error!("{fault}");
        }
    }

    /// Runs guest code until it traps.
    pub(crate) fn run_guest(&mut self) -> Result<Trap, PlatformError> {
        self.task.stats().begin(Activity::Guest);
        self.task.group().timers().wake();
        let changes = self.task.seccomp().changes();
        let allowed_before = std::mem::replace(&mut self.thread.published_under, changes) == changes;
        if self.task.take_identity_change() || !allowed_before {
            set_constant_results(self);
        }
        let trap = self.platform.run(&**self.memory.space(), &mut self.registers);
        self.task.stats().begin(Activity::Kernel);
        trap
    }

    /// Sets the mask of blocked signals; SIGKILL and SIGSTOP stay out of it.
    pub(crate) fn set_blocked_signals(&self, mask: SignalSet) {
        let mut state = self.group().state();
        let mask = mask.difference(SignalSet::UNBLOCKABLE);
        let newly = mask.difference(self.signals().blocked);
        self.signals().blocked = mask;
        self.update_work_pending(&state);
        // The signal that woke this task may now have to go to another member.
        retarget_pending(&mut state, &self.task, newly);
    }

    /// Sets the mask for the duration of the running call (pselect, ppoll, sigsuspend, …). The old mask is restored
    /// when the call returns or, if a signal interrupts it, after that signal's handler.
    pub(crate) fn set_temporary_mask(&mut self, mask: SignalSet) {
        let old = self.blocked_signals();
        self.thread.saved_mask.get_or_insert(old);
        self.set_blocked_signals(mask);
    }

    /// Reads a structure from the guest.
    ///
    /// # Errors
    /// `EFAULT` if any of it cannot be read.
    pub(crate) fn read_object<T: FromBytes + IntoBytes>(&self, address: u64) -> Result<T, Errno> {
        assert_none_held();
        self.mm().read_object(address)
    }

    /// Writes a structure to the guest.
    ///
    /// # Errors
    /// `EFAULT` if any of it cannot be written.
    pub(crate) fn write_object<T: IntoBytes + Immutable>(&self, address: u64, object: &T) -> Result<(), Errno> {
        self.write_bytes(address, object.as_bytes())
    }

    /// Reads an array of `count` structures from the guest.
    ///
    /// # Errors
    /// `EFAULT` if any of it cannot be read; `ENOMEM` if it is longer than the memory limit permits.
    pub(crate) fn read_array<T: FromBytes + IntoBytes>(&self, address: u64, count: usize) -> Result<Vec<T>, Errno> {
        count.checked_mul(size_of::<T>()).ok_or_else(|| Errno::EFAULT.here())?;
        let mut list: Vec<T> = self.kernel().mm.frames.list(count)?;
        list.resize_with(count, T::new_zeroed);
        self.read_bytes(address, list.as_mut_slice().as_mut_bytes())?;
        Ok(list)
    }

    /// A buffer of `len` zeros, for bytes that a guest passes or is given.
    ///
    /// # Errors
    /// `ENOMEM` if it is longer than the memory limit permits.
    pub(crate) fn buffer(&self, len: usize) -> Result<Vec<u8>, Errno> {
        Ok(self.kernel().mm.frames.filled(len, 0)?)
    }

    /// Reads bytes from the guest, all or `EFAULT`.
    pub(crate) fn read_bytes(&self, address: u64, buf: &mut [u8]) -> Result<(), Errno> {
        assert_none_held();
        self.mm().read(address, buf)
    }

    /// Writes bytes to the guest, all or `EFAULT`.
    pub(crate) fn write_bytes(&self, address: u64, buf: &[u8]) -> Result<(), Errno> {
        assert_none_held();
        self.mm().write(address, buf)
    }

    /// Reads a string that ends with a zero byte, which is not part of the result.
    ///
    /// # Errors
    /// `EFAULT` if memory ends first; `ENAMETOOLONG` if `most` bytes hold no zero.
    pub(crate) fn read_string(&self, address: u64, most: usize) -> Result<Vec<u8>, Errno> {
        let mut text = Vec::new();
        self.append_string(address, most, &mut text)?;
        Ok(text)
    }

    /// Like [`read_string`](Self::read_string), appended to `text`.
    ///
    /// # Errors
    /// The same, and `ENOMEM` if it is longer than the memory limit permits.
    pub(crate) fn append_string(&self, address: u64, most: usize, text: &mut Vec<u8>) -> Result<(), Errno> {
        assert_none_held();
        let mm = &self.memory;
        let mut chunk = [0; 256];
        let mut len = 0;
        while len < most {
            let at = address.checked_add(len as u64).ok_or_else(|| Errno::EFAULT.here())?;
            // Stops at the end of an aligned block, so that a string just before unmapped memory is read in full.
            let want = (256 - (at % 256) as usize).min(most - len);
            let got = mm.read_partial(at, at_most_mut(&mut chunk, want));
            let part = filled(&chunk, got)?;
            let end = part.iter().position(|&b| b == 0);
            let part = at_most(part, end.unwrap_or(got));
            self.kernel().mm.frames.reserve(text, part.len())?;
            text.extend_from_slice(part);
            if end.is_some() {
                return Ok(());
            }
            if got < want {
                return Err(Errno::EFAULT.here());
            }
            len += got;
        }
        Err(Errno::ENAMETOOLONG.here())
    }

    /// Reads a path: a string of at most PATH_MAX (4096) bytes with its zero.
    pub(crate) fn read_path(&self, address: u64) -> Result<Vec<u8>, Errno> {
        self.read_string(address, 4096)
    }

    /// Sleeps until `ready` returns a value. Calls it first, and again after each event of the queues; a pending
    /// signal, stop or exit ends the wait.
    ///
    /// # Errors
    /// Why the wait ended without a value. A value takes precedence over deadline and interruption.
    pub(crate) fn wait<T>(
        &self,
        queues: &[(&WaitQueue, PollEvents)],
        deadline: Option<Instant>,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<T, WaitEnd> {
        assert_none_held();
        if let Some(answer) = ready() {
            return Ok(answer);
        }
        let parker: Arc<dyn Waiter> = self.parker().clone();
        let waiter: Weak<dyn Waiter> = Arc::downgrade(&parker);
        let others = queues.iter().filter(|(queue, _)| queue.sole_host_file().is_none());
        let _registrations: Vec<_> =
            others.map(|(queue, events)| queue.register_sleeper(waiter.clone(), *events)).collect();
        self.wait_registered(queues, deadline, ready)
    }

    /// Like [`wait`](Self::wait), for one queue whose waiters all await the same, and where each event serves one of
    /// them: an event wakes one, not all. These are Linux's exclusive waits.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub(crate) fn wait_in_turn<T>(
        &self,
        queue: &WaitQueue,
        events: PollEvents,
        deadline: Option<Instant>,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<T, WaitEnd> {
        assert_none_held();
        if let Some(answer) = ready() {
            return Ok(answer);
        }
        let parker: Arc<dyn Waiter> = self.parker().clone();
        let registration = queue.register_beside(Arc::downgrade(&parker), events, 0, true);
        let end = loop {
            if queue.host_file().is_some() {
                // The host's poll wakes all waiters of a descriptor.
                drop(registration);
                queue.pass_on(events);
                return self.wait(&[(queue, events)], deadline, ready);
            }
            self.parker().begin_check();
            if let Some(answer) = ready() {
                break Ok(answer);
            }
            if self.is_interrupted() {
                break Err(WaitEnd::Interrupted);
            }
            if !self.sleep(Activity::Sleeping, deadline) {
                break ready().ok_or(WaitEnd::TimedOut);
            }
        };
        // The waiter may have been notified of an event that it did not use, or of several.
        drop(registration);
        queue.pass_on(events);
        end
    }

    /// Like [`wait`](Self::wait), for a number of queues that the guest chooses.
    ///
    /// # Errors
    /// The outer one is `ENOMEM` if they exceed the memory limit.
    pub(crate) fn wait_for_many<T>(
        &self,
        queues: &[(&WaitQueue, PollEvents)],
        deadline: Option<Instant>,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<Result<T, WaitEnd>, Errno> {
        /// Number of registrations between two checks of the limit; no more than this need no check.
        const FEW: usize = 256;
        /// Bytes for each host descriptor while its poll lasts: the host's entry with its registration, and those of the
        /// lists that are passed to the host.
        const HOST_POLL_ENTRY: u64 = 104;
        if queues.len() <= FEW {
            return Ok(self.wait(queues, deadline, ready));
        }
        assert_none_held();
        if let Some(answer) = ready() {
            return Ok(Ok(answer));
        }
        let memory = &self.kernel().mm.frames;
        // Charged before it is there: many threads may get here at the same time.
        let on_host = queues.iter().filter(|(queue, _)| queue.host_file().is_some()).count() as u64;
        let _host_poll = memory.charge(KernelPart::Files, on_host.saturating_mul(HOST_POLL_ENTRY));
        memory.admit(0)?;
        let parker: Arc<dyn Waiter> = self.parker().clone();
        let waiter: Weak<dyn Waiter> = Arc::downgrade(&parker);
        let mut registrations = memory.list(queues.len())?;
        for part in queues.chunks(FEW) {
            memory.admit(0)?;
            let others = part.iter().filter(|(queue, _)| queue.sole_host_file().is_none());
            registrations.extend(others.map(|(queue, events)| queue.register_sleeper(waiter.clone(), *events)));
        }
        Ok(self.wait_registered(queues, deadline, ready))
    }

    /// Waits after the registration with the queues.
    fn wait_registered<T>(
        &self,
        queues: &[(&WaitQueue, PollEvents)],
        deadline: Option<Instant>,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<T, WaitEnd> {
        let mut futile = Futile::default();
        loop {
            // Checked after registering, so that no event since the first check is missed.
            if let Some(answer) = ready() {
                return Ok(answer);
            }
            if self.is_interrupted() {
                return Err(WaitEnd::Interrupted);
            }
            if !self.sleep_on(queues, deadline, &mut futile) {
                return ready().ok_or(WaitEnd::TimedOut);
            }
        }
    }

    /// Sleeps until woken or until a host descriptor of the queues is ready. Returns false at the deadline.
    fn sleep_on(&self, queues: &[(&WaitQueue, PollEvents)], deadline: Option<Instant>, futile: &mut Futile) -> bool {
        let files: Vec<_> =
            queues.iter().filter_map(|(queue, events)| Some((queue.host_file()?.clone(), *events))).collect();
        if files.is_empty() {
            return self.sleep(Activity::Sleeping, deadline);
        }
        if let Some(pause) = futile.pause() {
            let until = Instant::now() + pause;
            let first = deadline.map_or(until, |deadline| deadline.min(until));
            self.sleep(Activity::Sleeping, Some(first));
            return deadline.is_none_or(|deadline| Instant::now() < deadline);
        }
        let began = Instant::now();
        self.stats().begin(Activity::Sleeping);
        self.platform.set_waiting(true);
        let woken = self.parker().park_on(&files, deadline);
        self.platform.set_waiting(false);
        self.stats().begin(Activity::Kernel);
        futile.slept(began.elapsed());
        woken
    }

    /// Like [`wait`](Self::wait) without a deadline, but only a kill interrupts it.
    ///
    /// # Errors
    /// [`WaitEnd::Interrupted`] if the task is killed.
    pub(crate) fn wait_killable<T>(
        &self,
        queue: &WaitQueue,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<T, WaitEnd> {
        assert_none_held();
        let parker: Arc<dyn Waiter> = self.parker().clone();
        let _registration = queue.register(Arc::downgrade(&parker), PollEvents::all(), 0);
        loop {
            if let Some(answer) = ready() {
                return Ok(answer);
            }
            if self.is_killed() {
                return Err(WaitEnd::Interrupted);
            }
            self.sleep(Activity::Uninterruptible, None);
        }
    }

    /// Waits, at most for `most`, until a process has no tasks left. Only a kill of this task interrupts it.
    pub(crate) fn wait_for_end(&self, group: &ThreadGroup, most: Duration) {
        assert_none_held();
        let deadline = deadline_in(most);
        let parker: Arc<dyn Waiter> = self.parker().clone();
        let _registration = group.ended().register(Arc::downgrade(&parker), PollEvents::all(), 0);
        while group.task_count() > 0 && !self.is_killed() && self.sleep(Activity::Uninterruptible, deadline) {}
    }

    /// Sleeps until woken. Returns false at the deadline.
    fn sleep(&self, how: Activity, deadline: Option<Instant>) -> bool {
        self.stats().begin(how);
        self.platform.set_waiting(true);
        let woken = self.parker().park(deadline);
        self.platform.set_waiting(false);
        self.stats().begin(Activity::Kernel);
        woken
    }
}
