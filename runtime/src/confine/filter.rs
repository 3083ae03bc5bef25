//! The seccomp filter, made from the list of host calls.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use amber_host::calls::{self, Condition, HostCall, Part, Rule, Value};
use amber_host::processor::limit_arenas;
use amber_host::refusal;
use amber_sentry::syscalls::entries;
use anyhow::{Context, Result};
use nix::sys::prctl::set_dumpable;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter, apply_filter_all_threads,
};

/// From now on this process, all threads of it, makes only calls that these parts need. Any other is told to `log` and
/// ends the process.
///
/// # Errors
/// The host has no seccomp filters.
pub fn install(parts: &[Part], log: OwnedFd) -> Result<()> {
    let absent = compile(
        calls::ABSENT.iter().map(entry).collect::<Result<_>>()?,
        SeccompAction::Allow,
        SeccompAction::Errno(nix::errno::Errno::ENOSYS as u32),
    )?;
    let listed = compile(rules(parts)?, SeccompAction::Trap, SeccompAction::Allow)?;
    refusal::prepare(log, name_of).context("handling SIGSYS")?;
    limit_arenas();
    // Nobody of the same user shall look into the guests' memory, and no core file shall have it.
    set_dumpable(false)?;
    // The second filter does not let a third be installed.
    apply_filter_all_threads(&absent)?;
    apply_filter_all_threads(&listed)?;
    Ok(())
}

/// A filter that lets its process make the calls of the reader only, to be installed by the returned function; any other
/// ends the process.
///
/// # Errors
/// The list is no filter.
pub fn for_reader() -> Result<impl FnOnce() -> io::Result<()>> {
    let rules = calls::READER.iter().map(entry).collect::<Result<_>>()?;
    let program = compile(rules, SeccompAction::KillProcess, SeccompAction::Allow)?;
    Ok(move || apply_filter(&program).map_err(io::Error::other))
}

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matching: SeccompAction,
) -> Result<BpfProgram> {
    Ok(SeccompFilter::new(rules, otherwise, matching, TargetArch::x86_64)?.try_into()?)
}

/// The rules for each number, of which one must hold; none for a call with any arguments.
fn rules(parts: &[Part]) -> Result<BTreeMap<i64, Vec<SeccompRule>>> {
    let mut all: BTreeMap<i64, Vec<SeccompRule>> = calls::ABSENT.iter().map(entry).collect::<Result<_>>()?;
    let needed: Vec<&HostCall> = calls::needed(parts).collect();
    // What comes last in the list is tried first: the calls of a platform are made most often. What is absent is left to
    // the other filter.
    for call in needed.iter().rev() {
        let rules = call.rules.iter().map(rule).collect::<Result<Vec<_>>>()?;
        all.entry(call.number).or_default().extend(rules);
    }
    for call in needed.iter().filter(|call| call.rules.is_empty()) {
        all.insert(call.number, Vec::new());
    }
    Ok(all)
}

/// The number of a call, and the arguments with which it is meant.
fn entry(call: &HostCall) -> Result<(i64, Vec<SeccompRule>)> {
    Ok((call.number, call.rules.iter().map(rule).collect::<Result<_>>()?))
}

fn rule(rule: &Rule) -> Result<SeccompRule> {
    Ok(SeccompRule::new(rule.conditions.iter().map(condition).collect::<Result<_>>()?)?)
}

fn condition(condition: &Condition) -> Result<SeccompCondition> {
    let value = match condition.value {
        Value::Number(number) => number,
        Value::OwnProcess => std::process::id().into(),
    };
    let (len, operator) = match condition.mask {
        u64::MAX => (SeccompCmpArgLen::Qword, SeccompCmpOp::Eq),
        0xffff_ffff => (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq),
        mask => (SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(mask)),
    };
    Ok(SeccompCondition::new(condition.argument, len, operator, value)?)
}

/// The name of a call that is not on the list: the table of the guest's calls has it.
fn name_of(number: i64) -> Option<&'static str> {
    entries().find(|entry| i64::from(entry.number) == number).map(|entry| entry.name)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};

    use super::*;

    /// In a process of its own: confines it, and makes the call that the environment names.
    #[test]
    fn forbidden() {
        let Ok(call) = std::env::var("AMBER_TEST_FORBIDDEN_CALL") else { return };
        let log = io::stderr().as_fd().try_clone_to_owned().unwrap();
        let other = std::thread::spawn(std::thread::park);
        install(&[Part::Ptrace], log).unwrap();
        // What is on the list works: memory, threads (with the older call), files.
        assert_eq!(std::thread::spawn(|| vec![1u8; 1 << 22].len()).join().unwrap(), 1 << 22);
        match &*call {
            "mkdir" => drop(nix::unistd::mkdir("/tmp/amber-forbidden", nix::sys::stat::Mode::empty())),
            "setfl" => drop(nix::unistd::setsid()),
            "absolute" => {
                let refused = std::fs::File::open("/etc/passwd").unwrap_err();
                assert_eq!(refused.raw_os_error(), Some(nix::errno::Errno::ENOSYS as i32));
                std::process::exit(9);
            }
            "kill" => drop(nix::sys::signal::kill(nix::unistd::getppid(), None)),
            "allowed" => {
                other.thread().unpark();
                other.join().unwrap();
                std::process::exit(7);
            }
            _ => unreachable!(),
        }
        std::process::exit(0);
    }

    fn run(call: &str) -> (Option<i32>, String) {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "confine::filter::tests::forbidden", "--nocapture"])
            .env("AMBER_TEST_FORBIDDEN_CALL", call)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    #[test]
    fn a_forbidden_call_is_named_and_ends_the_process() {
        let (status, text) = run("mkdir");
        assert_eq!(status, Some(125), "{text}");
        assert!(text.contains("host call mkdir (83)") && text.contains("amber host-calls"), "{text}");
        let (status, text) = run("setfl");
        assert_eq!(status, Some(125), "{text}");
        assert!(text.contains("host call setsid (112)"), "{text}");
    }

    #[test]
    fn arguments_that_are_not_listed_are_forbidden_too() {
        let (status, text) = run("kill");
        assert_eq!(status, Some(125), "{text}");
        assert!(text.contains("host call "), "{text}");
        let (status, text) = run("absolute");
        assert_eq!(status, Some(9), "{text}");
    }

    #[test]
    fn what_is_listed_works() {
        let (status, text) = run("allowed");
        assert_eq!(status, Some(7), "{text}");
    }
}
