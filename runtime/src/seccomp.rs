//! A bundle's seccomp rules in the sentry's form.

use std::collections::{HashMap, HashSet};

use amber_abi::errno::Errno;
use amber_abi::seccomp::SeccompAction;
use amber_sentry::config::{SeccompCondition, SeccompProfile, SeccompRule, SeccompTest};
use amber_sentry::entries;
use anyhow::{Result, bail, ensure};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator};

/// Converts `linux.seccomp`. Skips calls that x86-64 does not have, since profiles are written for all architectures.
///
/// # Errors
/// A rule is invalid, or needs a listener.
pub(crate) fn profile(seccomp: &LinuxSeccomp) -> Result<SeccompProfile> {
    let default = answer(seccomp.default_action(), seccomp.default_errno_ret())?;
    let numbers: HashMap<&str, u32> = entries().map(|entry| (entry.name, entry.number)).collect();
    let mut rules = Vec::new();
    for entry in seccomp.syscalls().iter().flatten() {
        let answer = answer(entry.action(), entry.errno_ret().or(seccomp.default_errno_ret()))?;
        let alternatives = alternatives(entry.args().as_deref().unwrap_or_default())?;
        for name in entry.names() {
            let Some(&number) = numbers.get(name.as_str()) else {
                log::debug!("`linux.seccomp`: there is no system call {name} on x86-64");
                continue;
            };
            let rule = |conditions: &Vec<_>| SeccompRule { number, conditions: conditions.clone(), answer };
            // Rules that repeat the default are not needed.
            rules.extend(alternatives.iter().map(rule).filter(|rule| rule.answer != default));
        }
    }
    Ok(SeccompProfile { default, newer: newer(seccomp, &numbers, default), rules })
}

/// The answer to calls newer than all that the profile names: ENOSYS, so that programs use older ones.
fn newer(seccomp: &LinuxSeccomp, numbers: &HashMap<&str, u32>, default: u32) -> Option<(u32, u32)> {
    let allows = [LinuxSeccompAction::ScmpActAllow, LinuxSeccompAction::ScmpActLog, LinuxSeccompAction::ScmpActTrace];
    let named = seccomp.syscalls().iter().flatten().flat_map(|entry| entry.names());
    let newest = named.filter_map(|name| numbers.get(name.as_str())).max()?;
    let missing = SeccompAction::SECCOMP_RET_ERRNO.raw() | Errno::ENOSYS.raw() as u32;
    (!allows.contains(&seccomp.default_action()) && default != missing).then_some((*newest, missing))
}

/// The filter result for an action.
fn answer(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32> {
    if action == LinuxSeccompAction::ScmpActNotify {
        bail!("`linux.seccomp`: SCMP_ACT_NOTIFY is not offered, since it needs a listener");
    }
    let errno = errno.unwrap_or(Errno::EPERM.raw() as u32);
    ensure!(errno <= 4095, "`linux.seccomp`: there is no error number {errno}");
    Ok(action.as_u32(Some(errno)))
}

/// Sets of conditions, one of which must hold: all conditions together, unless two concern the same argument.
fn alternatives(args: &[LinuxSeccompArg]) -> Result<Vec<Vec<SeccompCondition>>> {
    let conditions = args.iter().map(condition).collect::<Result<Vec<_>>>()?;
    let arguments: HashSet<u8> = conditions.iter().map(|condition| condition.argument).collect();
    Ok(if arguments.len() == conditions.len() {
        vec![conditions]
    } else {
        conditions.into_iter().map(|condition| vec![condition]).collect()
    })
}

fn condition(arg: &LinuxSeccompArg) -> Result<SeccompCondition> {
    ensure!(arg.index() < 6, "`linux.seccomp`: no system call has an argument {}", arg.index());
    let value = arg.value();
    let test = match arg.op() {
        LinuxSeccompOperator::ScmpCmpEq => SeccompTest::Equal(value),
        LinuxSeccompOperator::ScmpCmpNe => SeccompTest::NotEqual(value),
        LinuxSeccompOperator::ScmpCmpLt => SeccompTest::Less(value),
        LinuxSeccompOperator::ScmpCmpLe => SeccompTest::LessOrEqual(value),
        LinuxSeccompOperator::ScmpCmpGt => SeccompTest::Greater(value),
        LinuxSeccompOperator::ScmpCmpGe => SeccompTest::GreaterOrEqual(value),
        LinuxSeccompOperator::ScmpCmpMaskedEq => SeccompTest::Masked(value, arg.value_two().unwrap_or(0)),
    };
    Ok(SeccompCondition { argument: arg.index() as u8, test })
}
