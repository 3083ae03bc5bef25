//! The seccomp filter, made from the list of host calls.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use amber_host::calls::{self, Condition, HostCall, Rule, Value};
use amber_host::refusal;
use amber_sentry::syscalls::entries;
use anyhow::{Context, Result};
use nix::sys::prctl::set_dumpable;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter, apply_filter_all_threads, sock_filter,
};

/// Restricts all threads of this process to these host calls. Any other call is reported on `log` and ends the process.
///
/// # Errors
/// The host has no seccomp filters.
pub fn install(needed: &[&HostCall], log: OwnedFd) -> Result<()> {
    let absent = compile(
        calls::ABSENT.iter().map(entry).collect::<Result<_>>()?,
        SeccompAction::Allow,
        SeccompAction::Errno(nix::errno::Errno::ENOSYS as u32),
    )?;
    let listed = compile(rules(needed)?, SeccompAction::Trap, SeccompAction::Allow)?;
    refusal::prepare(log, name_of).context("handling SIGSYS")?;
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

/// So many calls are looked for one after the other.
const CHAIN: usize = 8;
/// Instructions of classic BPF, see the kernel's `Documentation/networking/filter.rst`: load a word, jump if the number is
/// not below a constant, jump.
const LOAD: u16 = 0x20;
const JUMP_NOT_BELOW: u16 = 0x35;
const JUMP: u16 = 0x05;

/// A filter as a program: one of the library for every few calls, and before them the jumps to the one that a number is in.
/// The library's look at all calls one after the other, and the host runs a new filter once for every number there is.
fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matching: SeccompAction,
) -> Result<BpfProgram> {
    let rules: Vec<_> = rules.into_iter().collect();
    let mut parts = Vec::new();
    for chain in rules.chunks(CHAIN) {
        let first = chain.first().map_or(0, |(number, _)| *number as u32);
        let chain = chain.iter().cloned().collect();
        let filter = SeccompFilter::new(chain, otherwise.clone(), matching.clone(), TargetArch::x86_64)?;
        parts.push((first, BpfProgram::try_from(filter)?));
    }
    let instruction = |code, jf, k| sock_filter { code, jt: 0, jf, k };
    // The number is the first word of what a filter looks at.
    let mut program = vec![instruction(LOAD, 0, 0)];
    let others = parts.len().saturating_sub(1);
    let mut before: usize = parts.iter().take(others).map(|(_, part)| part.len()).sum();
    for (index, (first, _)) in parts.iter().enumerate().skip(1).rev() {
        program.push(instruction(JUMP_NOT_BELOW, 1, *first));
        // Two instructions for each of the parts that come before it are still to come.
        program.push(instruction(JUMP, 0, (2 * (index - 1) + before) as u32));
        before -= parts.get(index - 1).map_or(0, |(_, part)| part.len());
    }
    program.extend(parts.into_iter().flat_map(|(_, part)| part));
    Ok(program)
}

/// The rules for each number, of which one must hold; none for a call with any arguments.
fn rules(needed: &[&HostCall]) -> Result<BTreeMap<i64, Vec<SeccompRule>>> {
    let mut all: BTreeMap<i64, Vec<SeccompRule>> = calls::ABSENT.iter().map(entry).collect::<Result<_>>()?;
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

    fn needed() -> Vec<&'static HostCall> {
        calls::needed(&[]).chain(amber_platform_ptrace::HOST_CALLS).collect()
    }

    /// In a process of its own: confines it, and makes the call that the environment names.
    #[test]
    fn forbidden() {
        let Ok(call) = std::env::var("AMBER_TEST_FORBIDDEN_CALL") else { return };
        let log = io::stderr().as_fd().try_clone_to_owned().unwrap();
        let other = std::thread::spawn(std::thread::park);
        install(&needed(), log).unwrap();
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

    /// Runs a program for a call without arguments; as much of classic BPF as the library uses.
    fn decision(program: &BpfProgram, number: u32) -> u32 {
        let (mut at, mut value) = (0, 0u32);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let jump = |holds: bool| usize::from(if holds { jt } else { jf });
            match code {
                LOAD => value = [number, 0xc000_003e].get(k as usize / 4).copied().unwrap_or(0),
                0x54 => value &= k,
                JUMP => at += k as usize,
                0x15 => at += jump(value == k),
                0x25 => at += jump(value > k),
                JUMP_NOT_BELOW => at += jump(value >= k),
                0x06 => return k,
                _ => panic!("instruction {code:#x}"),
            }
        }
    }

    #[test]
    fn every_number_is_decided_as_by_the_library() {
        let needed = needed();
        let (trap, allow) = (SeccompAction::Trap, SeccompAction::Allow);
        let whole =
            SeccompFilter::new(rules(&needed).unwrap(), trap.clone(), allow.clone(), TargetArch::x86_64).unwrap();
        let whole = BpfProgram::try_from(whole).unwrap();
        let quick = compile(rules(&needed).unwrap(), trap, allow).unwrap();
        let numbers = (0..600).chain([0x4000_0000, u32::MAX]);
        let decided: Vec<_> = numbers.map(|number| (decision(&whole, number), decision(&quick, number))).collect();
        assert!(decided.iter().all(|(whole, quick)| whole == quick), "{decided:x?}");
        assert_eq!(decided.iter().collect::<std::collections::BTreeSet<_>>().len(), 2);
    }

    #[test]
    fn what_is_listed_works() {
        let (status, text) = run("allowed");
        assert_eq!(status, Some(7), "{text}");
    }
}
