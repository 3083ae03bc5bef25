//! Lists of the system calls that a program needs, with their arguments and the reasons, from which seccomp filters are
//! generated. `amber-host` has such a list, and so does each platform.

/// The value that an argument is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Number(u64),
    /// The ID of this process.
    OwnProcess,
}

/// A condition on one argument.
#[derive(Clone, Copy, Debug)]
pub struct Condition {
    /// Index of the argument, from 0.
    pub argument: u8,
    /// The bits to compare.
    pub mask: u64,
    /// Their value.
    pub value: Value,
}

impl Condition {
    /// These bits of an argument have this value.
    pub const fn bits(argument: u8, mask: u64, value: u64) -> Condition {
        Condition { argument, mask, value: Value::Number(value) }
    }

    /// An argument, of which only the 32 bits of an `int` count, has this value.
    pub const fn int(argument: u8, value: u64) -> Condition {
        Condition::bits(argument, 0xffff_ffff, value)
    }

    /// An argument is a descriptor, neither `AT_FDCWD` nor another negative number.
    pub const fn descriptor(argument: u8) -> Condition {
        Condition::bits(argument, 0x8000_0000, 0)
    }
}

/// Permitted arguments of a call: all conditions must hold.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The conditions.
    pub conditions: &'static [Condition],
    /// A description of the conditions.
    pub meaning: &'static str,
}

/// A call on a list. A call that several parts need can be listed several times.
#[derive(Clone, Copy, Debug)]
pub struct HostCall {
    /// The x86-64 call number.
    pub number: i64,
    /// Its name.
    pub name: &'static str,
    /// What it is needed for.
    pub reason: &'static str,
    /// At least one of the rules must hold, if there are any.
    pub rules: &'static [Rule],
}

/// One `Rule` per line: its description and its conditions.
#[macro_export]
macro_rules! host_call_rules {
    ($($meaning:expr => [$($condition:expr),+ $(,)?];)+) => {
        &[$($crate::host_call::Rule { conditions: &[$($condition),+], meaning: $meaning }),+]
    };
}
