//! The list of host calls that Amber makes once guest code runs, with a reason for each. Calls that only one platform needs
//! are listed in that platform's crate.
//!
//! The seccomp filter of the sandbox process is generated from both lists, and `amber host-calls` prints them. Calls made
//! before the first guest instruction (opening files, making namespaces and mounts, starting the first stub) are not listed.

mod list;
mod rules;

pub use amber_abi::host_call::{Condition, HostCall, Rule, Value};

pub use list::{ABSENT, CALLS, READER};

/// The part of Amber that needs a host call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Every sandbox.
    Always,
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
            Part::HandedFiles => "handed files",
            Part::WritableFiles => "writable files",
            Part::Network => "network",
            Part::OwnNetwork => "own network",
            Part::Control => "control socket",
        }
    }
}

/// The calls that these parts of Amber need, and those of [`Part::Always`], without the platform's.
pub fn needed(parts: &[Part]) -> impl Iterator<Item = &'static HostCall> {
    let is_needed = |part: Part| part == Part::Always || parts.contains(&part);
    CALLS.iter().filter(move |(part, _)| is_needed(*part)).map(|(_, call)| call)
}

/// The name of a call on the list.
pub fn name(number: i64) -> Option<&'static str> {
    CALLS.iter().map(|(_, call)| call).find(|call| call.number == number).map(|call| call.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_there_twice() {
        for (i, (part, call)) in CALLS.iter().enumerate() {
            let again = CALLS[..i].iter().any(|(other, before)| (before.number, other) == (call.number, part));
            assert!(!again, "{call:?}");
            // Calls that are absent with any arguments must not be on the list.
            let absent = ABSENT.iter().any(|absent| absent.number == call.number && absent.rules.is_empty());
            assert!(!call.reason.is_empty() && !absent, "{call:?}");
        }
    }

    #[test]
    fn names_are_looked_up_beneath_descriptors_only() {
        let beneath = |call: &HostCall| {
            let descriptor = |c: &Condition| c.argument < 2 && c.mask == 0x8000_0000 && c.value == Value::Number(0);
            !call.rules.is_empty() && call.rules.iter().all(|rule| rule.conditions.iter().any(descriptor))
        };
        let calls = CALLS.iter().map(|(_, call)| call).chain(READER);
        let by_name = calls.filter(|call| call.name.ends_with("at") || call.name.ends_with("at2"));
        assert!(by_name.clone().count() > 10);
        by_name.for_each(|call| assert!(beneath(call), "{call:?}"));
    }

    #[test]
    fn nothing_makes_processes_or_reaches_the_network_always() {
        let forbidden = [libc::SYS_execve, libc::SYS_fork, libc::SYS_socket, libc::SYS_mount, libc::SYS_open];
        assert!(needed(&[]).all(|call| !forbidden.contains(&call.number)));
        assert!(CALLS.windows(2).all(|pair| pair[0].0 <= pair[1].0), "one part after the other");
    }
}
