//! The list of host calls that Amber makes once guest code runs, with a reason for each.
//!
//! The seccomp filter of the sandbox process is generated from it, and `amber host-calls` prints it. Calls made before
//! the first guest instruction (opening files, making namespaces and mounts, starting the first stub) are not on it.

mod list;
mod rules;

pub use list::{ABSENT, CALLS, READER};

/// The part of Amber that needs a host call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Every sandbox.
    Always,
    /// The ptrace platform.
    Ptrace,
    /// The KVM platform.
    Kvm,
    /// Standard streams, or other inherited descriptors, that are host files.
    HandedFiles,
    /// Host file trees that the guest may change.
    WritableFiles,
    /// The host's network.
    Network,
    /// The host's network, in a network namespace of the sandbox.
    OwnNetwork,
    /// A control socket, by which other processes are started and queries answered.
    Control,
}

impl Part {
    /// Its name in lists.
    pub fn name(self) -> &'static str {
        match self {
            Part::Always => "always",
            Part::Ptrace => "ptrace",
            Part::Kvm => "kvm",
            Part::HandedFiles => "handed files",
            Part::WritableFiles => "writable files",
            Part::Network => "network",
            Part::OwnNetwork => "own network",
            Part::Control => "control socket",
        }
    }
}

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

/// Permitted arguments of a call: all conditions must hold.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The conditions.
    pub conditions: &'static [Condition],
    /// A description of the conditions.
    pub meaning: &'static str,
}

/// A call on the list. A call that several parts need can be listed several times.
#[derive(Clone, Copy, Debug)]
pub struct HostCall {
    /// The x86-64 call number.
    pub number: i64,
    /// Its name.
    pub name: &'static str,
    /// The part that needs it.
    pub part: Part,
    /// What it is needed for.
    pub reason: &'static str,
    /// At least one of the rules must hold, if there are any.
    pub rules: &'static [Rule],
}

/// The calls that these parts of Amber need, and those of [`Part::Always`].
pub fn needed(parts: &[Part]) -> impl Iterator<Item = &'static HostCall> {
    CALLS.iter().filter(move |call| call.part == Part::Always || parts.contains(&call.part))
}

/// The name of a call on the list.
pub fn name(number: i64) -> Option<&'static str> {
    CALLS.iter().find(|call| call.number == number).map(|call| call.name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn nothing_is_there_twice() {
        for (i, call) in CALLS.iter().enumerate() {
            assert!(!CALLS[..i].iter().any(|other| (other.number, other.part) == (call.number, call.part)), "{call:?}");
            // Calls that are absent with any arguments must not be on the list.
            let absent = ABSENT.iter().any(|absent| absent.number == call.number && absent.rules.is_empty());
            assert!(!call.reason.is_empty() && !absent, "{call:?}");
        }
    }

    /// The number of different calls with these parts.
    fn count(parts: &[Part]) -> usize {
        needed(parts).map(|call| call.number).collect::<HashSet<_>>().len()
    }

    #[test]
    fn the_list_stays_short() {
        for platform in [Part::Ptrace, Part::Kvm] {
            assert!(count(&[platform]) <= 50, "{}", count(&[platform]));
            assert!(count(&[platform, Part::Network]) <= 60, "{}", count(&[platform, Part::Network]));
        }
    }

    #[test]
    fn names_are_looked_up_beneath_descriptors_only() {
        let beneath = |call: &HostCall| {
            let descriptor = |c: &Condition| c.argument < 2 && c.mask == 0x8000_0000 && c.value == Value::Number(0);
            !call.rules.is_empty() && call.rules.iter().all(|rule| rule.conditions.iter().any(descriptor))
        };
        let by_name = CALLS.iter().chain(READER).filter(|call| call.name.ends_with("at") || call.name.ends_with("at2"));
        assert!(by_name.clone().count() > 10);
        by_name.for_each(|call| assert!(beneath(call), "{call:?}"));
    }

    #[test]
    fn nothing_makes_processes_or_reaches_the_network_always() {
        let forbidden = [libc::SYS_execve, libc::SYS_fork, libc::SYS_socket, libc::SYS_mount, libc::SYS_open];
        assert!(needed(&[Part::Ptrace, Part::Kvm]).all(|call| !forbidden.contains(&call.number)));
        assert!(CALLS.windows(2).all(|pair| pair[0].part <= pair[1].part), "one part after the other");
    }
}
