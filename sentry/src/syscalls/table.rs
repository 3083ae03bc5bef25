//! The table of system calls: one line a call, from which everything else about calls is derived.

use super::args::*;
use super::dispatch::{Entry, Parameter};
use amber_abi::errno::Errno;

/// One line: x86-64 number, i386 number or `-`, name and typed parameters, handler or `!` and the errno of a Linux
/// without the feature, and the releases that have the call (`since..until`, either may be missing).
macro_rules! table {
    ($($number:literal, $i386:tt, $name:ident($($arg:ident: $kind:ident),*) => $(! $errno:ident)? $($handler:path)?,
        $since:literal..$until:literal;)*) => {
        pub(super) static TABLE: &[Entry] = &[$(
            Entry {
                number: $number,
                i386: table!(@i386 $i386),
                name: stringify!($name),
                parameters: &[$(Parameter { name: stringify!($arg), kind: stringify!($kind) }),*],
                handler: table!(@handler $($errno)? $($handler)?; $($kind),*),
                releases: ($since, $until),
            },
        )*];
    };
    (@i386 -) => { None };
    (@i386 $number:literal) => { Some($number) };
    (@handler $errno:ident; $($kind:ident),*) => { Err(Errno::$errno) };
    (@handler $handler:path; $($kind:ident),*) => {
        Ok(|ctx, raw| {
            let mut raw = raw.into_iter();
            let _ = &mut raw;
            $handler(ctx, $(<$kind as Argument>::from_raw(raw.next().unwrap_or_default())),*)
        })
    };
}

table! {
    39, 20, getpid() => super::task::identity::getpid, "1.0".."";
    156, 149, _sysctl(args: PtrIn) => !ENOSYS, "1.0".."5.5";
}
