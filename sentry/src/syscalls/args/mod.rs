//! The types of arguments in the table, with conversions from registers and the formats of `--strace`.

mod buffers;
mod lists;
mod numbers;
mod pointers;

use crate::error::SysResult;
use crate::task::TaskContext;

pub(crate) use amber_abi::ioctl::IoctlRequest;
pub(crate) use amber_abi::signal::SignalNumber;
pub(crate) use amber_abi::stat::{DeviceNumber, FileMode};
pub(crate) use buffers::{BufIn, BufOut, Path, Str, StrOut};
pub(crate) use lists::{Envp, FdPair, FdSet, IovecIn, IovecOut, Pollfds, SockaddrIn, SockaddrOut, StringList};
pub(crate) use numbers::{DirFd, Fd};
pub(crate) use pointers::{In, Out, PtrIn, PtrOut, WaitStatusOut};

/// Appends formatted text to a string, which cannot fail.
macro_rules! put {
    ($out:expr, $($text:tt)*) => {{
        use std::fmt::Write;
        let _ = write!($out, $($text)*);
    }};
}
pub(crate) use put;

/// Defines argument types that are guest addresses: whether the kernel writes to them, and their format.
macro_rules! addresses {
    ($($(#[$doc:meta])* $name:ident, out $out:literal, $show:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) struct $name(pub u64);

        impl $crate::syscalls::args::Argument for $name {
            const OUT: bool = $out;

            fn from_raw(raw: u64) -> Self {
                $name(raw)
            }
            fn show(view: &View<'_>, out: &mut String) {
                let show: fn(&View<'_>, &mut String) = $show;
                show(view, out);
            }
        }
    )*};
}
pub(crate) use addresses;

/// Adds the test for NULL to argument types that may be NULL.
macro_rules! nullable {
    ($($name:ident),*) => {$(
        impl $name {
            /// Whether the guest passed NULL.
            pub(crate) fn is_null(self) -> bool {
                self.0 == 0
            }
        }
    )*};
}
pub(crate) use nullable;

/// The information for printing an argument.
pub(crate) struct View<'a> {
    /// The task, for its memory.
    pub ctx: &'a TaskContext,
    /// All arguments, since the length of one may be the next.
    pub raw: [u64; 6],
    /// The index of this argument.
    pub index: usize,
    /// The result of the call; none before its end.
    pub result: Option<&'a SysResult>,
}

impl View<'_> {
    /// The argument itself.
    pub(crate) fn value(&self) -> u64 {
        self.raw.get(self.index).copied().unwrap_or_default()
    }

    /// The next argument.
    pub(crate) fn next(&self) -> u64 {
        self.raw.get(self.index + 1).copied().unwrap_or_default()
    }

    /// Whether the call has succeeded, so that its outputs are valid.
    pub(crate) fn succeeded(&self) -> bool {
        matches!(self.result, Some(Ok(_)))
    }

    /// Prints the argument as an address.
    pub(crate) fn show_address(&self, out: &mut String) {
        match self.value() {
            0 => out.push_str("NULL"),
            address => put!(out, "{address:#x}"),
        }
    }
}

/// An argument type.
pub(crate) trait Argument: Sized {
    /// Whether the kernel writes to the address, so that the argument is printed after the call.
    const OUT: bool = false;

    /// Converts the register as the kernel's own prototype does (an `int` is the lower half).
    fn from_raw(raw: u64) -> Self;

    /// Prints the argument in the format of strace(1).
    fn show(view: &View<'_>, out: &mut String);
}
