//! The types that arguments have in the table: how each is made from a register, and how `--strace` prints it.

use std::fmt::Write;

use amber_abi::FromRegister;

use crate::error::SysResult;
use crate::task::TaskContext;

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

    /// Whether what the kernel writes has been written.
    fn succeeded(&self) -> bool {
        matches!(self.result, Some(Ok(_)))
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

/// Appends formatted text to a string, which cannot fail.
macro_rules! put {
    ($out:expr, $($text:tt)*) => {{
        let _ = write!($out, $($text)*);
    }};
}

/// Arguments that print as the type itself does.
macro_rules! plain {
    ($($kind:ty),*) => {$(
        impl Argument for $kind {
            fn from_raw(raw: u64) -> Self {
                raw as $kind
            }
            fn show(view: &View<'_>, out: &mut String) {
                put!(out, "{}", Self::from_raw(view.value()));
            }
        }
    )*};
}

plain!(i32, u32, i64, u64, usize);

/// Flag sets and enumerations of the abi, which know their names.
macro_rules! named {
    ($($kind:path),* $(,)?) => {$(
        impl Argument for $kind {
            fn from_raw(raw: u64) -> Self {
                <$kind>::from_register(raw)
            }
            fn show(view: &View<'_>, out: &mut String) {
                put!(out, "{}", Self::from_raw(view.value()));
            }
        }
    )*};
}

/// Pointers, which print in hexadecimal.
macro_rules! pointers {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub u64);

        impl Argument for $name {
            fn from_raw(raw: u64) -> Self {
                $name(raw)
            }
            fn show(view: &View<'_>, out: &mut String) {
                match view.value() {
                    0 => out.push_str("NULL"),
                    address => put!(out, "{address:#x}"),
                }
            }
        }
    )*};
}

pointers! {
    /// A pointer to something the kernel reads.
    PtrIn;
    /// A pointer to something the kernel writes.
    PtrOut;
}

/// A file descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fd(pub i32);

impl Argument for Fd {
    fn from_raw(raw: u64) -> Self {
        Fd(raw as i32)
    }
    fn show(view: &View<'_>, out: &mut String) {
        put!(out, "{}", view.value() as i32);
    }
}

named!(amber_abi::open::OpenFlags);
