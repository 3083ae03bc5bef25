//! The types that arguments have in the table: how each is made from a register, and how `--strace` prints it.

mod buffers;
mod lists;
mod numbers;
mod pointers;

use crate::error::SysResult;
use crate::task::TaskContext;

pub use amber_abi::ioctl::IoctlRequest;
pub use amber_abi::signal::SignalNumber;
pub use amber_abi::stat::{DeviceNumber, FileMode};
pub use buffers::{BufIn, BufOut, Path, Str, StrOut};
pub use lists::{Envp, FdPair, FdSet, IovecIn, IovecOut, Pollfds, SockaddrIn, SockaddrOut, StringList};
pub use numbers::{DirFd, Fd};
pub use pointers::{In, Out, PtrIn, PtrOut, WaitStatusOut};

/// Appends formatted text to a string, which cannot fail.
macro_rules! put {
    ($out:expr, $($text:tt)*) => {{
        use std::fmt::Write;
        let _ = write!($out, $($text)*);
    }};
}
pub(crate) use put;

/// Types of arguments that are guest addresses: whether the kernel writes what is there, and how that is printed.
macro_rules! addresses {
    ($($(#[$doc:meta])* $name:ident, out $out:literal, $show:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub u64);

        impl $name {
            /// Whether the guest passed NULL.
            pub fn is_null(self) -> bool {
                self.0 == 0
            }
        }

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

/// What printing an argument may look at.
pub struct View<'a> {
    /// The task, for its memory.
    pub ctx: &'a TaskContext,
    /// All arguments, for those whose length is the next one.
    pub raw: [u64; 6],
    /// Which argument this is.
    pub index: usize,
    /// How the call ended; none while it has not.
    pub result: Option<&'a SysResult>,
}

impl View<'_> {
    /// The argument itself.
    pub fn value(&self) -> u64 {
        self.raw.get(self.index).copied().unwrap_or_default()
    }

    /// The argument behind it.
    pub fn next(&self) -> u64 {
        self.raw.get(self.index + 1).copied().unwrap_or_default()
    }

    /// Whether the kernel has written what it writes.
    pub fn succeeded(&self) -> bool {
        matches!(self.result, Some(Ok(_)))
    }

    /// Prints the argument as an address.
    pub fn show_address(&self, out: &mut String) {
        match self.value() {
            0 => out.push_str("NULL"),
            address => put!(out, "{address:#x}"),
        }
    }
}

/// A type of argument.
pub trait Argument: Sized {
    /// Whether the kernel writes what it points to, so that it is printed when the call is over.
    const OUT: bool = false;

    /// Takes what the type holds out of the register, as the kernel's own prototype would (an `int` is the low half).
    fn from_raw(raw: u64) -> Self;

    /// Prints the argument as strace(1) would.
    fn show(view: &View<'_>, out: &mut String);
}
