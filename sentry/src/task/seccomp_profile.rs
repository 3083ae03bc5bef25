//! Compiles a container's list of rules to a filter program.
//!
//! The program finds a call's number by binary search and then tries the rules for it, so that it takes few steps
//! however many calls a profile names.

use std::collections::BTreeMap;
use std::sync::Arc;

use amber_abi::Errno;
use amber_abi::seccomp::*;

use crate::config::{SeccompCondition, SeccompProfile, SeccompRule, SeccompTest};
use crate::task::Filter;

/// Offsets of the number and of the first argument in a filter's input; an argument's lower half comes first.
const NUMBER: u32 = 0;
const ARGUMENTS: u32 = 16;

type Code = Vec<SockFilter>;

fn op(code: u16, jt: u8, jf: u8, k: u32) -> SockFilter {
    SockFilter { code, jt, jf, k }
}

fn load(at: u32) -> SockFilter {
    op(BPF_LD | BPF_ABS, 0, 0, at)
}

fn branch(how: u16, k: u32, holds: u8, fails: u8) -> SockFilter {
    op(BPF_JMP | how, holds, fails, k)
}

fn answer(value: u32) -> SockFilter {
    op(BPF_RET, 0, 0, value)
}

/// The test of one argument. If it fails, the `rest` instructions after it are skipped.
fn test(condition: &SeccompCondition, rest: u8) -> Code {
    let low_at = ARGUMENTS + u32::from(condition.argument) * 8;
    let (high, low) = (load(low_at + 4), load(low_at));
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    match condition.test {
        SeccompTest::Masked(mask, value) => {
            let ((mask_high, mask_low), (value_high, value_low)) = (halves(mask), halves(value));
            let and = |k| op(BPF_ALU | BPF_AND, 0, 0, k);
            let first = branch(BPF_JEQ, value_high, 0, rest + 3);
            vec![high, and(mask_high), first, low, and(mask_low), branch(BPF_JEQ, value_low, 0, rest)]
        }
        SeccompTest::Equal(value) => {
            let (h, l) = halves(value);
            vec![high, branch(BPF_JEQ, h, 0, rest + 2), low, branch(BPF_JEQ, l, 0, rest)]
        }
        SeccompTest::NotEqual(value) => {
            let (h, l) = halves(value);
            vec![high, branch(BPF_JEQ, h, 0, 2), low, branch(BPF_JEQ, l, rest, 0)]
        }
        SeccompTest::Greater(value) | SeccompTest::GreaterOrEqual(value) => {
            let (h, l) = halves(value);
            let how = if matches!(condition.test, SeccompTest::Greater(_)) { BPF_JGT } else { BPF_JGE };
            let decided = [branch(BPF_JGT, h, 3, 0), branch(BPF_JEQ, h, 0, rest + 2)];
            vec![high, decided[0], decided[1], low, branch(how, l, 0, rest)]
        }
        SeccompTest::Less(value) | SeccompTest::LessOrEqual(value) => {
            let (h, l) = halves(value);
            let how = if matches!(condition.test, SeccompTest::Less(_)) { BPF_JGE } else { BPF_JGT };
            let decided = [branch(BPF_JGT, h, rest + 3, 0), branch(BPF_JEQ, h, 0, 2)];
            vec![high, decided[0], decided[1], low, branch(how, l, rest, 0)]
        }
    }
}

/// The rules of one call, in order: the first whose conditions all hold decides. A rule without conditions always
/// decides.
fn rules(own: &[&SeccompRule], default: u32) -> Code {
    if let Some(rule) = own.iter().find(|rule| rule.conditions.is_empty()) {
        return vec![answer(rule.answer)];
    }
    let mut code = Code::new();
    for rule in own {
        let mut part = vec![answer(rule.answer)];
        for condition in rule.conditions.iter().rev() {
            // At most six conditions of at most six instructions.
            let mut longer = test(condition, u8::try_from(part.len()).unwrap_or(u8::MAX));
            longer.append(&mut part);
            part = longer;
        }
        code.append(&mut part);
    }
    code.push(answer(default));
    code
}

/// Selects among ranges of numbers by binary search; each ends where the next begins.
fn choose(ranges: &[(u32, Code)]) -> Code {
    match ranges.split_at(ranges.len() / 2) {
        (_, []) => Code::new(),
        ([], [(_, code), ..]) => code.clone(),
        (below, above @ [(middle, _), ..]) => {
            let left = choose(below);
            let mut code = vec![branch(BPF_JGE, *middle, 0, 1), op(BPF_JMP | BPF_JA, 0, 0, left.len() as u32)];
            code.extend(left);
            code.extend(choose(above));
            code
        }
    }
}

/// Compiles a profile.
///
/// # Errors
/// `EINVAL` for a condition on an argument beyond the sixth; `ENOMEM` for a profile that is too long.
pub(crate) fn compile(profile: &SeccompProfile) -> Result<Arc<Filter>, Errno> {
    let bad = |condition: &SeccompCondition| condition.argument > 5;
    if profile.rules.iter().any(|rule| rule.conditions.len() > 6 || rule.conditions.iter().any(bad)) {
        return Err(Errno::EINVAL.here());
    }
    let mut ranges: BTreeMap<u32, Code> = BTreeMap::from([(0, vec![answer(profile.default)])]);
    let mut by_number: BTreeMap<u32, Vec<&SeccompRule>> = BTreeMap::new();
    for rule in &profile.rules {
        by_number.entry(rule.number).or_default().push(rule);
    }
    for (number, own) in by_number {
        ranges.insert(number, rules(&own, profile.default));
        ranges.entry(number.saturating_add(1)).or_insert_with(|| vec![answer(profile.default)]);
    }
    if let Some((above, newer)) = profile.newer {
        ranges.insert(above.saturating_add(1), vec![answer(newer)]);
    }
    let mut ranges: Vec<(u32, Code)> = ranges.into_iter().collect();
    ranges.dedup_by(|next, before| next.1 == before.1);
    let mut program = vec![load(NUMBER)];
    program.extend(choose(&ranges));
    Filter::new(program, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALLOW: u32 = SeccompAction::SECCOMP_RET_ALLOW.raw();
    const REFUSE: u32 = SeccompAction::SECCOMP_RET_ERRNO.raw() | 1;

    fn holds(test: SeccompTest, argument: u64) -> bool {
        match test {
            SeccompTest::Equal(value) => argument == value,
            SeccompTest::NotEqual(value) => argument != value,
            SeccompTest::Less(value) => argument < value,
            SeccompTest::LessOrEqual(value) => argument <= value,
            SeccompTest::Greater(value) => argument > value,
            SeccompTest::GreaterOrEqual(value) => argument >= value,
            SeccompTest::Masked(mask, value) => argument & mask == value,
        }
    }

    /// Values around which halves carry over.
    fn word() -> impl Strategy<Value = u64> {
        prop_oneof![0..4u64, (1u64 << 32) - 2..(1 << 32) + 2, Just(u64::MAX), Just(3 << 32), any::<u64>()]
    }

    fn tests() -> impl Strategy<Value = SeccompTest> {
        (0..7, word(), word()).prop_map(|(kind, a, b)| match kind {
            0 => SeccompTest::Equal(a),
            1 => SeccompTest::NotEqual(a),
            2 => SeccompTest::Less(a),
            3 => SeccompTest::LessOrEqual(a),
            4 => SeccompTest::Greater(a),
            5 => SeccompTest::GreaterOrEqual(a),
            _ => SeccompTest::Masked(a, b & a),
        })
    }

    proptest! {
        #[test]
        fn the_program_says_what_the_rules_say(
            list in prop::collection::vec((0..30u32, prop::collection::vec((0..6u8, tests()), 0..4), 2..9u32), 0..40),
            number in 0..40i32,
            args in [word(), word(), word(), word(), word(), word()],
        ) {
            let rules: Vec<SeccompRule> = list
                .into_iter()
                .map(|(number, list, answer)| SeccompRule {
                    number,
                    conditions: list.into_iter().map(|(argument, test)| SeccompCondition { argument, test }).collect(),
                    answer: SeccompAction::SECCOMP_RET_ERRNO.raw() | answer,
                })
                .collect();
            let profile = SeccompProfile { default: ALLOW, newer: Some((34, REFUSE)), rules };
            let mine: Vec<&SeccompRule> = profile.rules.iter().filter(|rule| rule.number == number as u32).collect();
            let meets = |rule: &SeccompRule| rule.conditions.iter().all(|c| holds(c.test, args[usize::from(c.argument)]));
            let always = mine.iter().find(|rule| rule.conditions.is_empty());
            let found = always.or_else(|| mine.iter().find(|rule| meets(rule))).map(|rule| rule.answer);
            let expected = if number > 34 { REFUSE } else { found.unwrap_or(ALLOW) };
            let filter = compile(&profile).unwrap();
            let data = SeccompData { nr: number, arch: AUDIT_ARCH_X86_64, args, ..SeccompData::default() };
            prop_assert_eq!(filter.evaluate(&data), expected);
        }
    }

    #[test]
    fn no_call_has_a_seventh_argument() {
        let condition = SeccompCondition { argument: 6, test: SeccompTest::Equal(0) };
        let rule = SeccompRule { number: 1, conditions: vec![condition], answer: ALLOW };
        let profile = SeccompProfile { default: REFUSE, newer: None, rules: vec![rule] };
        assert_eq!(compile(&profile).err(), Some(Errno::EINVAL));
    }
}
