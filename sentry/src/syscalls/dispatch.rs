//! Dispatch of system calls by number.

use amber_abi::errno::Errno;
use amber_abi::release::Release;

use crate::error::{SysError, SysResult};
use crate::interruption::check_killed;
use crate::syscalls::args::View;
use crate::syscalls::table::TABLE;
use crate::task::TaskContext;

/// A handler, which gets the registers of all arguments.
pub(super) type Handler = fn(&mut TaskContext, [u64; 6]) -> SysResult;

/// A parameter of a call.
pub struct Parameter {
    /// Its name, as in the man page.
    pub name: &'static str,
    /// Its type, as in the table: a name from [`args`](crate::syscalls::args) or of a flag set.
    pub kind: &'static str,
    /// Whether the kernel writes to the address.
    pub is_out: bool,
    /// Prints it in the format of strace(1).
    pub(crate) show: fn(&View<'_>, &mut String),
}

/// A line of the table.
pub struct Entry {
    /// Its x86-64 number.
    pub number: u32,
    /// Its i386 number, if it has one.
    pub i386: Option<u32>,
    /// Its name.
    pub name: &'static str,
    /// Its parameters.
    pub parameters: &'static [Parameter],
    /// The handler, or the errno of a Linux without the feature.
    pub(crate) handler: Result<Handler, Errno>,
    /// What an implemented call does not support; empty if it is complete.
    pub missing: &'static str,
    /// The first release with the call, and the first later one without it. Empty for no bound.
    pub releases: (&'static str, &'static str),
}

impl Entry {
    /// Whether it resolves a path, also that of a socket.
    fn takes_path(&self) -> bool {
        self.parameters.iter().any(|parameter| matches!(parameter.kind, "Path" | "SockaddrIn"))
    }

    /// Whether a release has this call.
    pub fn exists_in(&self, release: Release) -> bool {
        let (since, until) = self.releases;
        let open = |text: &str| text.parse::<Release>().ok();
        open(since).is_none_or(|r| r <= release) && open(until).is_none_or(|r| release < r)
    }

    /// The errno of a call that is not implemented.
    pub fn refusal(&self) -> Option<Errno> {
        self.handler.as_ref().err().copied()
    }

    /// The state of implementation.
    pub fn state(&self) -> CallState {
        match self.handler {
            Err(errno) => CallState::Refused(errno),
            Ok(_) if self.missing.is_empty() => CallState::Implemented,
            Ok(_) => CallState::Partial(self.missing),
        }
    }
}

/// The state of implementation of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallState {
    /// As on Linux.
    Implemented,
    /// Except for what is named.
    Partial(&'static str),
    /// Not implemented: fails with the errno of a Linux without the feature.
    Refused(Errno),
}

/// All lines by number.
pub fn entries() -> impl Iterator<Item = &'static Entry> {
    TABLE.iter()
}

/// The calls of one release by number.
pub(crate) struct CallTable(Vec<Option<&'static Entry>>);

impl CallTable {
    /// The calls of a release.
    pub(crate) fn of(release: Release) -> Self {
        let mut calls = Vec::new();
        for entry in entries().filter(|entry| entry.exists_in(release)) {
            calls.resize(entry.number as usize, None);
            calls.push(Some(entry));
        }
        CallTable(calls)
    }

    /// The line for an x86-64 number.
    pub(crate) fn get(&self, number: u64) -> Option<&'static Entry> {
        self.0.get(usize::try_from(number).ok()?).copied().flatten()
    }
}

/// Handles a system call with the arguments in the registers.
pub(crate) fn dispatch(ctx: &mut TaskContext, number: u64) -> SysResult {
    let arguments = ctx.registers.syscall_arguments();
    let Some(entry) = ctx.kernel().calls.get(number) else {
        return Err(Errno::ENOSYS.here().into());
    };
    match ctx.kernel().tracer.clone() {
        Some(tracer) => tracer.call(ctx, entry, arguments),
        None if log::log_enabled!(log::Level::Debug) => serve_logged(ctx, entry, arguments),
        None => serve(ctx, entry, arguments),
    }
}

/// Handles a call, and logs an error with the place in the source that returned it.
#[cold]
fn serve_logged(ctx: &mut TaskContext, entry: &'static Entry, arguments: [u64; 6]) -> SysResult {
    Errno::forget_place();
    let result = serve(ctx, entry, arguments);
    if let Err(SysError::Errno(errno)) = &result
        && let Some(place) = errno.place()
    {
        log::logger().log(
            &log::Record::builder()
                .level(log::Level::Debug)
                .target(module_path!())
                .file_static(Some(place.file()))
                .line(Some(place.line()))
                .args(format_args!("task {}: {}: {errno} at {place}", ctx.tid(), entry.name))
                .build(),
        );
    }
    result
}

/// Handles a call, or refuses it.
pub(super) fn serve(ctx: &mut TaskContext, entry: &'static Entry, arguments: [u64; 6]) -> SysResult {
    match entry.handler {
        Ok(handler) => match handler(ctx, arguments) {
            Err(SysError::Errno(Errno::ESTALE)) if entry.takes_path() => serve_again(ctx, handler, arguments),
            result => result,
        },
        Err(errno) => refuse(ctx, entry, errno),
    }
}

/// The most times that a path is resolved after a file in it was replaced. Each time, lookups in one more of its
/// directories pin the files that they find.
const RESOLUTIONS: usize = 40;

/// Handles a call again from the start, after a file of the host was replaced between its lookup and its use. Linux's
/// calls on paths do the same on `ESTALE`. The call has changed nothing yet.
#[cold]
fn serve_again(ctx: &mut TaskContext, handler: Handler, arguments: [u64; 6]) -> SysResult {
    for _ in 0..RESOLUTIONS {
        check_killed()?;
        match handler(ctx, arguments) {
            Err(SysError::Errno(Errno::ESTALE)) => {}
            result => return result,
        }
    }
    Err(Errno::ESTALE.here().into())
}

/// Refuses an unimplemented call, and logs the first occurrence.
fn refuse(ctx: &TaskContext, entry: &Entry, errno: Errno) -> SysResult {
    if ctx.kernel().refused.lock().insert(entry.number) {
        log::info!("the guest used {}, which is not offered: {}", entry.name, errno.name());
    }
    Err(errno.here().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        assert!(entries().zip(entries().skip(1)).all(|(a, b)| a.number < b.number));
    }

    #[test]
    fn releases_have_their_calls() {
        let old = CallTable::of("2.6.32".parse().unwrap());
        let new = CallTable::of("6.12".parse().unwrap());
        assert!(old.get(156).is_some() && new.get(156).is_none(), "_sysctl went with 5.5");
        assert!(old.get(435).is_none() && new.get(435).is_some(), "clone3 came with 5.3");
        assert!(new.get(463).is_none() && new.get(u64::MAX).is_none());
    }
}
