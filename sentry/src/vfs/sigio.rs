//! Signal-driven I/O: who gets SIGIO of a file with `O_ASYNC`, and SIGURG of a socket (fcntl(2), socket(7)).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::open::{FOwnerEx, OpenFlags, OwnerType};
use amber_abi::poll::PollEvents;
use amber_abi::siginfo::{POLL_ERR, POLL_HUP, POLL_IN, POLL_OUT, POLL_PRI, SI_SIGIO};
use amber_abi::{SigInfo, Signal};

use crate::kernel::Kernel;
use crate::signal::Sending;
use crate::sync::{Mutex, Rank};
use crate::task::{Credentials, ProcessTable, Task, TaskContext, ThreadGroup};
use crate::vfs::FileDescription;

/// What a kind of file does with `O_ASYNC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalIo {
    /// Nothing: `F_SETFL` leaves the flag as it is, and `FIOASYNC` is refused.
    Absent,
    /// It tells of whatever becomes possible.
    Whole,
    /// The end of a pipe: it tells a reader of what it can read, a writer of what it can write.
    End,
    /// A terminal: if nobody is named, the foreground process group is told, or the caller where there is none.
    Terminal(Option<i32>),
}

/// What a signal tells of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// Something can be read.
    Input,
    /// Something can be written.
    Output,
    /// An error waits.
    Error,
    /// Urgent data has come.
    Urgent,
    /// The other end is gone.
    HangUp,
}

impl Happening {
    /// The code of its signal, and the events in `si_band`.
    fn code_and_band(self) -> (i32, PollEvents) {
        let normal_in = PollEvents::POLLIN | PollEvents::POLLRDNORM;
        let normal_out = PollEvents::POLLOUT | PollEvents::POLLWRNORM;
        match self {
            Happening::Input => (POLL_IN, normal_in),
            Happening::Output => (POLL_OUT, normal_out | PollEvents::POLLWRBAND),
            Happening::Error => (POLL_ERR, PollEvents::POLLERR),
            Happening::Urgent => (POLL_PRI, PollEvents::POLLPRI | PollEvents::POLLRDBAND),
            Happening::HangUp => (POLL_HUP, PollEvents::POLLHUP | PollEvents::POLLERR),
        }
    }
}

/// Who gets the signals of a file (`F_SETOWN`), with the rights of whoever said so.
#[derive(Clone)]
pub struct SignalOwner {
    kernel: Weak<Kernel>,
    kind: OwnerType,
    /// A thread, a process or a process group; 0 for nobody.
    number: i32,
    /// The process that had the number then: another that gets it later is not meant.
    group: Weak<ThreadGroup>,
    uid: u32,
    euid: u32,
}

impl SignalOwner {
    /// Whom the caller names: a thread, a process or a group by number, or with 0 nobody.
    ///
    /// # Errors
    /// `ESRCH` if nothing has that number.
    pub fn named(ctx: &TaskContext, kind: OwnerType, number: i32) -> Result<Self, Errno> {
        let group = {
            let table = ctx.kernel().processes.lock();
            if number != 0 && (number < 0 || !table.is_taken(number)) {
                return Err(Errno::ESRCH);
            }
            table.task(number).map(|task| Arc::downgrade(task.group())).unwrap_or_default()
        };
        let (uid, euid) = if number == 0 {
            (0, 0)
        } else {
            let credentials = ctx.credentials();
            (credentials.uid, credentials.euid)
        };
        Ok(SignalOwner { kernel: Arc::downgrade(ctx.kernel()), kind, number, group, uid, euid })
    }

    fn task<'a>(&self, table: &'a ProcessTable) -> Option<&'a Arc<Task>> {
        table.task(self.number).filter(|task| std::ptr::eq(self.group.as_ptr(), Arc::as_ptr(task.group())))
    }

    /// Whether there still is whom it names.
    fn exists(&self, table: &ProcessTable) -> bool {
        match self.kind {
            OwnerType::F_OWNER_PGRP => table.members(self.number).next().is_some(),
            OwnerType::F_OWNER_TID => self.task(table).is_some(),
            _ => self.task(table).is_some_and(|task| task.is_leader()),
        }
    }

    fn recipients(&self) -> Vec<Arc<Task>> {
        let Some(kernel) = self.kernel.upgrade().filter(|_| self.number != 0) else { return Vec::new() };
        let table = kernel.processes.lock();
        if self.kind == OwnerType::F_OWNER_PGRP {
            table.members(self.number).filter_map(|p| table.task(p.group.pid()).cloned()).collect()
        } else {
            self.task(&table).cloned().into_iter().collect()
        }
    }

    fn may_signal(&self, target: &Credentials) -> bool {
        self.euid == 0 || [self.euid, self.uid].iter().any(|&user| user == target.suid || user == target.uid)
    }

    /// Sends to all who are meant and whom the signal may reach; `choose` answers what to send, best first.
    fn send(&self, choose: impl Fn() -> Vec<Sending>) {
        for task in self.recipients() {
            if !self.may_signal(&task.credentials()) {
                continue;
            }
            let send = |sending| {
                if self.kind == OwnerType::F_OWNER_TID { task.send(sending) } else { task.group().send(sending) }
            };
            // One that finds no room in the queue gives way to the next, plainer one.
            let _ = choose().into_iter().find_map(|sending| send(sending).ok());
        }
    }
}

/// The signals that a file's owner is sent for a happening, best first: the plain SIGIO is what remains when the queue of
/// the one asked for is full.
fn signals(asked: Option<Signal>, fd: i32, happening: Happening) -> Vec<Sending> {
    const WITH_CODES_OF_THEIR_OWN: [Signal; 7] = [
        Signal::SIGILL,
        Signal::SIGFPE,
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGTRAP,
        Signal::SIGCHLD,
        Signal::SIGSYS,
    ];
    let full = asked.map(|signal| {
        let (code, band) = happening.code_and_band();
        let code = if WITH_CODES_OF_THEIR_OWN.contains(&signal) { SI_SIGIO } else { code };
        Sending::new(signal, SigInfo::poll(signal, code, i64::from(band.bits()), fd))
    });
    full.into_iter().chain([Sending::kernel(Signal::SIGIO)]).collect()
}

struct Entry {
    description: Weak<FileDescription>,
    /// The descriptor that `O_ASYNC` was set by; none if it is not set, and only SIGURG is to be sent.
    fd: Option<i32>,
    input: bool,
    output: bool,
}

/// The open file descriptions of an object whose owners are sent signals.
pub struct SignalList {
    used: AtomicBool,
    /// Somebody found no room for output, and so is told of room.
    full: AtomicBool,
    entries: Mutex<Vec<Entry>>,
}

impl Default for SignalList {
    fn default() -> Self {
        let entries = Mutex::new(Rank::Wait, Vec::new());
        SignalList { used: AtomicBool::new(false), full: AtomicBool::new(false), entries }
    }
}

impl SignalList {
    fn change(&self, description: &Arc<FileDescription>, enter: bool, change: impl FnOnce(&mut Entry)) {
        let me = Arc::downgrade(description);
        let mut entries = self.entries.lock();
        entries.retain(|entry| entry.description.strong_count() > 0);
        if enter && !entries.iter().any(|entry| entry.description.ptr_eq(&me)) {
            entries.push(Entry { description: me.clone(), fd: None, input: true, output: true });
            self.used.store(true, Ordering::Release);
        }
        if let Some(entry) = entries.iter_mut().find(|entry| entry.description.ptr_eq(&me)) {
            change(entry);
        }
    }

    fn chosen(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<(Arc<FileDescription>, Option<i32>)> {
        if !self.used.load(Ordering::Acquire) {
            return Vec::new();
        }
        let entries = self.entries.lock();
        let wanted = entries.iter().filter(|entry| wanted(entry));
        wanted.filter_map(|entry| Some((entry.description.upgrade()?, entry.fd))).collect()
    }

    /// Something happened: tells the owners of the files with `O_ASYNC`. No lock may be held.
    pub fn tell(&self, happening: Happening) {
        let wanted = |entry: &Entry| {
            let suits = match happening {
                Happening::Input => entry.input,
                Happening::Output => entry.output,
                _ => true,
            };
            entry.fd.is_some() && suits
        };
        for (description, fd) in self.chosen(wanted) {
            if let (Some(owner), Some(fd)) = (description.owner(), fd) {
                let asked = description.owner_signal();
                owner.send(|| signals(asked, fd, happening));
            }
        }
    }

    /// Somebody finds no room for output: [`tell_room`](Self::tell_room) will tell of it.
    pub fn note_full(&self) {
        if self.used.load(Ordering::Acquire) {
            self.full.store(true, Ordering::Release);
        }
    }

    /// There is room for output, which is told if somebody missed it before. No lock may be held.
    pub fn tell_room(&self) {
        if self.used.load(Ordering::Acquire) && self.full.swap(false, Ordering::AcqRel) {
            self.tell(Happening::Output);
        }
    }

    /// Urgent data has come: sends SIGURG to every owner, and to those of files with `O_ASYNC` the signal they asked for.
    /// No lock may be held.
    pub fn tell_urgent(&self) {
        for (description, fd) in self.chosen(|_| true) {
            let Some(owner) = description.owner() else { continue };
            owner.send(|| vec![Sending::kernel(Signal::SIGURG)]);
            if let (Some(fd), Some(asked)) = (fd, description.owner_signal()) {
                owner.send(|| signals(Some(asked), fd, Happening::Urgent));
            }
        }
    }
}

/// Sets or clears `O_ASYNC`, through the descriptor `fd`; files that cannot have it are left as they are.
pub fn switch(ctx: &TaskContext, description: &Arc<FileDescription>, fd: i32, on: bool) {
    let kind = description.file().signal_io();
    let mut flags = description.flags();
    if flags.contains(OpenFlags::FASYNC) == on || (on && kind == SignalIo::Absent) {
        return;
    }
    flags.set(OpenFlags::FASYNC, on);
    description.set_flags(flags);
    if let Some(queue) = description.file().wait_queue().filter(|_| kind != SignalIo::Absent) {
        queue.follow_host();
        queue.signals().change(description, on, |entry| {
            entry.fd = on.then_some(fd);
            entry.input = kind != SignalIo::End || description.is_readable();
            entry.output = kind != SignalIo::End || description.is_writable();
        });
    }
    if let SignalIo::Terminal(foreground) = kind
        && on
        && description.owner().is_none_or(|owner| owner.number == 0)
    {
        let owner = match foreground {
            Some(pgid) => SignalOwner::named(ctx, OwnerType::F_OWNER_PGRP, pgid),
            None => SignalOwner::named(ctx, OwnerType::F_OWNER_PID, ctx.group().pid()),
        };
        // A foreground group whose members are all gone gets nothing, as on Linux.
        if let Ok(owner) = owner {
            description.set_owner(owner);
        }
    }
}

/// Names who gets a file's signals: a thread, a process or a group by number, or with 0 nobody.
///
/// # Errors
/// `ESRCH` if nothing has that number.
pub fn set_owner(
    ctx: &TaskContext,
    description: &Arc<FileDescription>,
    kind: OwnerType,
    number: i32,
) -> Result<(), Errno> {
    description.set_owner(SignalOwner::named(ctx, kind, number)?);
    if let (SignalIo::Whole, Some(queue)) = (description.file().signal_io(), description.file().wait_queue()) {
        queue.follow_host();
        queue.signals().change(description, true, |_| {});
    }
    Ok(())
}

/// Like [`set_owner`], by the signed number of `F_SETOWN` and `FIOSETOWN`: negative for a group.
///
/// # Errors
/// `EINVAL` for the least number; `ESRCH` if nothing has that number.
pub fn set_signed_owner(ctx: &TaskContext, description: &Arc<FileDescription>, number: i32) -> Result<(), Errno> {
    let kind = if number < 0 { OwnerType::F_OWNER_PGRP } else { OwnerType::F_OWNER_PID };
    set_owner(ctx, description, kind, number.checked_abs().ok_or(Errno::EINVAL)?)
}

/// Who gets a file's signals, as `F_GETOWN_EX` tells it: 0 if nobody, or if whoever it was is gone.
pub fn owner(ctx: &TaskContext, description: &FileDescription) -> FOwnerEx {
    let Some(owner) = description.owner() else { return FOwnerEx { type_: OwnerType::F_OWNER_TID.raw(), pid: 0 } };
    let exists = owner.exists(&ctx.kernel().processes.lock());
    FOwnerEx { type_: owner.kind.raw(), pid: if exists { owner.number } else { 0 } }
}

/// The same as `F_GETOWN` tells it: negative for a group.
pub fn signed_owner(ctx: &TaskContext, description: &FileDescription) -> i32 {
    let owner = owner(ctx, description);
    if owner.type_ == OwnerType::F_OWNER_PGRP.raw() { owner.pid.wrapping_neg() } else { owner.pid }
}

/// The real and effective user of whoever named the owner (`F_GETOWNER_UIDS`).
pub fn owner_users(description: &FileDescription) -> [u32; 2] {
    description.owner().map_or([0, 0], |owner| [owner.uid, owner.euid])
}
