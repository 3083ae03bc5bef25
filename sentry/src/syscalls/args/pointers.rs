//! Arguments that are pointers to structures.

use std::fmt::Debug;
use std::marker::PhantomData;

use amber_abi::errno::Errno;
use amber_abi::stat::{FileMode, Stat};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Argument, View, addresses, nullable, put};
use crate::task::TaskContext;

addresses! {
    /// An address, or a pointer to something that the kernel reads and `--strace` does not print.
    PtrIn, out false, |view, out| view.show_address(out);
    /// A pointer to something that the kernel writes and `--strace` does not print.
    PtrOut, out false, |view, out| view.show_address(out);
}

nullable! { PtrIn, PtrOut }

/// A pointer to a `T` that the kernel reads.
pub(crate) struct In<T>(pub u64, PhantomData<T>);

/// A pointer to a `T` that the kernel writes.
pub(crate) struct Out<T>(pub u64, PhantomData<T>);

macro_rules! copyable {
    ($($name:ident),*) => {$(
        impl<T> Clone for $name<T> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<T> Copy for $name<T> {}

        impl<T> $name<T> {
            /// A pointer with this guest address.
            pub(crate) fn new(address: u64) -> Self {
                $name(address, PhantomData)
            }

            /// Whether the guest passed NULL.
            pub(crate) fn is_null(self) -> bool {
                self.0 == 0
            }
        }
    )*};
}

copyable!(In, Out);

impl<T: FromBytes + IntoBytes> In<T> {
    /// Reads the structure, or fails with `EFAULT`.
    pub(crate) fn read(self, ctx: &TaskContext) -> Result<T, Errno> {
        ctx.read_object(self.0)
    }

    /// Reads the structure unless the pointer is NULL.
    pub(crate) fn read_if_given(self, ctx: &TaskContext) -> Result<Option<T>, Errno> {
        if self.is_null() { Ok(None) } else { self.read(ctx).map(Some) }
    }
}

impl<T: IntoBytes + Immutable> Out<T> {
    /// Writes the structure, or fails with `EFAULT`.
    pub(crate) fn write(self, ctx: &TaskContext, object: &T) -> Result<(), Errno> {
        ctx.write_object(self.0, object)
    }

    /// Writes the structure unless the pointer is NULL.
    pub(crate) fn write_if_given(self, ctx: &TaskContext, object: &T) -> Result<(), Errno> {
        if self.is_null() { Ok(()) } else { self.write(ctx, object) }
    }
}

impl<T: FromBytes + IntoBytes + Debug + 'static> Argument for In<T> {
    fn from_raw(raw: u64) -> Self {
        In::new(raw)
    }
    fn show(view: &View<'_>, out: &mut String) {
        show_object::<T>(view, out);
    }
}

impl<T: FromBytes + IntoBytes + Debug + 'static> Argument for Out<T> {
    const OUT: bool = true;

    fn from_raw(raw: u64) -> Self {
        Out::new(raw)
    }
    fn show(view: &View<'_>, out: &mut String) {
        if view.succeeded() { show_object::<T>(view, out) } else { view.show_address(out) }
    }
}

fn show_object<T: FromBytes + IntoBytes + Debug + 'static>(view: &View<'_>, out: &mut String) {
    match view.ctx.read_object::<T>(view.value()) {
        Ok(object) if view.value() != 0 => show_fields(&object, out),
        _ => view.show_address(out),
    }
}

/// Prints a structure as `{field=value, …}`.
fn show_fields<T: Debug + 'static>(object: &T, out: &mut String) {
    if let Some(stat) = (object as &dyn std::any::Any).downcast_ref::<Stat>() {
        out.push_str("{st_mode=");
        put!(out, "{}", FileMode(stat.st_mode));
        put!(out, ", st_size={}, ...}}", stat.st_size);
        return;
    }
    let text = format!("{object:?}");
    match text.split_once(" { ") {
        // Convert the derived format `Name { field: value }`.
        Some((_, fields)) => put!(out, "{{{}}}", fields.trim_end_matches(" }").replace(": ", "=")),
        None => out.push_str(&text),
    }
}

/// The address for wait4(2)'s status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WaitStatusOut(pub u64);

impl Argument for WaitStatusOut {
    const OUT: bool = true;

    fn from_raw(raw: u64) -> Self {
        WaitStatusOut(raw)
    }
    fn show(view: &View<'_>, out: &mut String) {
        match view.ctx.read_object::<i32>(view.value()) {
            Ok(status) if matches!(view.result, Some(Ok(1..))) => show_status(status, out),
            _ => view.show_address(out),
        }
    }
}

fn show_status(status: i32, out: &mut String) {
    let signal = status & 0x7f;
    match (signal, status & 0xff) {
        (0, _) => put!(out, "[{{WIFEXITED(s) && WEXITSTATUS(s) == {}}}]", (status >> 8) & 0xff),
        (_, 0x7f) if status == 0xffff => out.push_str("[{WIFCONTINUED(s)}]"),
        (_, 0x7f) => put!(out, "[{{WIFSTOPPED(s) && WSTOPSIG(s) == {}}}]", (status >> 8) & 0xff),
        _ => put!(out, "[{{WIFSIGNALED(s) && WTERMSIG(s) == {signal}}}]"),
    }
}
