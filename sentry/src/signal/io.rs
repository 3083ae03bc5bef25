//! Signal-driven I/O: SIGIO of files with `O_ASYNC`, and SIGURG of sockets (fcntl(2), socket(7)).

use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::open::{FOwnerEx, OpenFlags, OwnerType};
use amber_abi::poll::PollEvents;
use amber_abi::siginfo::{POLL_ERR, POLL_HUP, POLL_IN, POLL_OUT, POLL_PRI, SI_SIGIO};
use amber_abi::{SigInfo, Signal};

use crate::credentials::Credentials;
use crate::kernel::Kernel;
use crate::signal::OutgoingSignal;
use crate::task::{ProcessTable, Task, TaskContext, ThreadGroup};
use crate::vfs::FileDescription;
use crate::vfs::sigio::{SignalIo, SignalOwner};
use crate::wait::{SigioEvent, SignalSource};

/// The `si_code` of an event's signal, and the events in `si_band`.
fn code_and_band(event: SigioEvent) -> (i32, PollEvents) {
    let normal_in = PollEvents::POLLIN | PollEvents::POLLRDNORM;
    let normal_out = PollEvents::POLLOUT | PollEvents::POLLWRNORM;
    match event {
        SigioEvent::Input => (POLL_IN, normal_in),
        SigioEvent::Output => (POLL_OUT, normal_out | PollEvents::POLLWRBAND),
        SigioEvent::Error => (POLL_ERR, PollEvents::POLLERR),
        SigioEvent::Urgent => (POLL_PRI, PollEvents::POLLPRI | PollEvents::POLLRDBAND),
        SigioEvent::HangUp => (POLL_HUP, PollEvents::POLLHUP | PollEvents::POLLERR),
    }
}

/// The owner of a file, and the user IDs of the task that set it.
struct Recipient {
    kernel: Weak<Kernel>,
    kind: OwnerType,
    /// The ID of a thread, a process or a process group; 0 for none.
    number: i32,
    /// The process that had the ID. A later process with the same ID gets no signals.
    group: Weak<ThreadGroup>,
    uid: u32,
    euid: u32,
}

impl Recipient {
    /// The owner with this ID, or with 0 none.
    ///
    /// # Errors
    /// `ESRCH` if the ID is not in use.
    fn of(ctx: &TaskContext, kind: OwnerType, number: i32) -> Result<Self, Errno> {
        let group = {
            let table = ctx.kernel().processes.lock();
            if number != 0 && (number < 0 || !table.is_taken(number)) {
                return Err(Errno::ESRCH.here());
            }
            table.task(number).map(|task| Arc::downgrade(task.group())).unwrap_or_default()
        };
        let (uid, euid) = if number == 0 {
            (0, 0)
        } else {
            let credentials = ctx.credentials();
            (credentials.uid, credentials.euid)
        };
        Ok(Recipient { kernel: Arc::downgrade(ctx.kernel()), kind, number, group, uid, euid })
    }

    fn task<'a>(&self, table: &'a ProcessTable) -> Option<&'a Arc<Task>> {
        table.task(self.number).filter(|task| std::ptr::eq(self.group.as_ptr(), Arc::as_ptr(task.group())))
    }

    /// Whether the owner still exists.
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

    /// Signals all recipients that the owner's setter may signal. `choose` returns the signals to try, preferred ones
    /// first.
    fn send(&self, choose: impl Fn() -> Vec<OutgoingSignal>) {
        for task in self.recipients() {
            if !self.may_signal(&task.credentials()) {
                continue;
            }
            let send = |sending| {
                if self.kind == OwnerType::F_OWNER_TID { task.send(sending) } else { task.group().send(sending) }
            };
            // If the queue is full, try the next signal.
            let _ = choose().into_iter().find_map(|sending| send(sending).ok());
        }
    }
}

impl SignalOwner for Recipient {
    fn signal(&self, chosen: Option<Signal>, fd: i32, event: SigioEvent) {
        self.send(|| signals(chosen, fd, event));
    }

    fn signal_urgent(&self) {
        self.send(|| vec![OutgoingSignal::kernel(Signal::SIGURG)]);
    }

    fn named(&self) -> FOwnerEx {
        let exists = self.kernel.upgrade().is_some_and(|kernel| self.exists(&kernel.processes.lock()));
        FOwnerEx { type_: self.kind.raw(), pid: if exists { self.number } else { 0 } }
    }

    fn is_none(&self) -> bool {
        self.number == 0
    }

    fn users(&self) -> [u32; 2] {
        [self.uid, self.euid]
    }
}

/// The signals to try for an event, preferred ones first: SIGIO needs no queue space, so it is the last.
fn signals(chosen: Option<Signal>, fd: i32, event: SigioEvent) -> Vec<OutgoingSignal> {
    const WITH_SPECIFIC_CODES: [Signal; 7] = [
        Signal::SIGILL,
        Signal::SIGFPE,
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGTRAP,
        Signal::SIGCHLD,
        Signal::SIGSYS,
    ];
    let full = chosen.map(|signal| {
        let (code, band) = code_and_band(event);
        let code = if WITH_SPECIFIC_CODES.contains(&signal) { SI_SIGIO } else { code };
        OutgoingSignal::new(signal, SigInfo::poll(signal, code, i64::from(band.bits()), fd))
    });
    full.into_iter().chain([OutgoingSignal::kernel(Signal::SIGIO)]).collect()
}

/// The file as it is registered in signal lists.
fn source(description: &Arc<FileDescription>) -> Weak<dyn SignalSource> {
    let source: Weak<FileDescription> = Arc::downgrade(description);
    source
}

/// Sets or clears `O_ASYNC` through the descriptor `fd`. Files without support for it are left unchanged.
pub(crate) fn switch(ctx: &TaskContext, description: &Arc<FileDescription>, fd: i32, on: bool) {
    let kind = description.file().signal_io();
    let mut flags = description.flags();
    if flags.contains(OpenFlags::FASYNC) == on || (on && kind == SignalIo::Absent) {
        return;
    }
    flags.set(OpenFlags::FASYNC, on);
    description.set_flags(flags);
    if let Some(queue) = description.file().wait_queue().filter(|_| kind != SignalIo::Absent) {
        queue.follow_host();
        queue.signals().change(&source(description), on, |entry| {
            entry.fd = on.then_some(fd);
            entry.input = kind != SignalIo::End || description.is_readable();
            entry.output = kind != SignalIo::End || description.is_writable();
        });
    }
    if let SignalIo::Terminal(foreground) = kind
        && on
        && description.owner().is_none_or(|owner| owner.is_none())
    {
        let owner = match foreground {
            Some(pgid) => Recipient::of(ctx, OwnerType::F_OWNER_PGRP, pgid),
            None => Recipient::of(ctx, OwnerType::F_OWNER_PID, ctx.group().pid()),
        };
        // As on Linux, an empty foreground group gets no signals.
        if let Ok(owner) = owner {
            description.set_owner(Arc::new(owner));
        }
    }
}

/// Sets the owner of a file: a thread, a process or a group by its ID, or with 0 none.
///
/// # Errors
/// `ESRCH` if the ID is not in use.
pub(crate) fn set_owner(
    ctx: &TaskContext,
    description: &Arc<FileDescription>,
    kind: OwnerType,
    number: i32,
) -> Result<(), Errno> {
    description.set_owner(Arc::new(Recipient::of(ctx, kind, number)?));
    if let (SignalIo::Whole, Some(queue)) = (description.file().signal_io(), description.file().wait_queue()) {
        queue.follow_host();
        queue.signals().change(&source(description), true, |_| {});
    }
    Ok(())
}

/// Like [`set_owner`], with the signed ID of `F_SETOWN` and `FIOSETOWN`: negative for a group.
///
/// # Errors
/// `EINVAL` for the minimum; `ESRCH` if the ID is not in use.
pub(crate) fn set_signed_owner(
    ctx: &TaskContext,
    description: &Arc<FileDescription>,
    number: i32,
) -> Result<(), Errno> {
    let kind = if number < 0 { OwnerType::F_OWNER_PGRP } else { OwnerType::F_OWNER_PID };
    set_owner(ctx, description, kind, number.checked_abs().ok_or_else(|| Errno::EINVAL.here())?)
}
