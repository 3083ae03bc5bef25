//! System call filters of a task: see seccomp(2).
//!
//! See docs/internals/exec-and-credentials.md.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use amber_abi::errno::Errno;
use amber_abi::seccomp::*;
use zerocopy::IntoBytes;

use crate::sync::{Mutex, Rank};

/// The most instructions of all filters of a task together, with an overhead for each filter.
const MOST_INSTRUCTIONS: usize = 1 << 15;
const COST_OF_A_FILTER: usize = 4;
/// The end of number and architecture in a filter's input.
const ARCHITECTURE_END: usize = 8;
/// For calls below this number, whether they are always allowed is computed in advance.
const KNOWN: usize = 512;
const DATA_SIZE: u32 = size_of::<SeccompData>() as u32;

/// A validated classic BPF program, and the filters installed before it.
pub struct Filter {
    program: Vec<SockFilter>,
    previous: Option<Arc<Filter>>,
    /// The calls that all these filters allow whatever their arguments, one bit each.
    allowed: [u64; KNOWN / 64],
    /// Number of filters including this one, and their total cost.
    count: u32,
    cost: usize,
}

impl Filter {
    /// Validates a program and puts it before other filters.
    ///
    /// # Errors
    /// `EINVAL` for an invalid program, `ENOMEM` for more instructions than may run for each call.
    pub fn new(program: Vec<SockFilter>, previous: Option<Arc<Filter>>) -> Result<Arc<Filter>, Errno> {
        check(&program)?;
        let (count, cost) = previous.as_ref().map_or((0, 0), |filter| (filter.count, filter.cost));
        let cost = cost + program.len() + if count > 0 { COST_OF_A_FILTER } else { 0 };
        if cost > MOST_INSTRUCTIONS {
            return Err(Errno::ENOMEM.here());
        }
        let mut allowed = [0; KNOWN / 64];
        for (word, first) in allowed.iter_mut().zip((0..).step_by(64)) {
            for number in first..first + 64 {
                let before = previous.as_ref().is_none_or(|filter| filter.always_allows(number));
                if before && allows_always(&program, number) {
                    *word |= 1 << (number % 64);
                }
            }
        }
        Ok(Arc::new(Filter { program, previous, allowed, count: count + 1, cost }))
    }

    /// Whether a call is known to be allowed, whatever its arguments.
    pub fn always_allows(&self, number: u32) -> bool {
        let word = self.allowed.get(number as usize / 64).copied().unwrap_or(0);
        word >> (number % 64) & 1 != 0
    }

    fn chain(&self) -> impl Iterator<Item = &Filter> {
        std::iter::successors(Some(self), |filter| filter.previous.as_deref())
    }

    /// The verdict of all filters on a call: the strictest; among equals, the newest filter's.
    pub fn evaluate(&self, data: &SeccompData) -> u32 {
        if data.arch == AUDIT_ARCH_X86_64 && self.always_allows(data.nr as u32) {
            return SeccompAction::SECCOMP_RET_ALLOW.raw();
        }
        let strictness = |answer: u32| (answer & SECCOMP_RET_ACTION_FULL) as i32;
        let answers = self.chain().map(|filter| run(&filter.program, data.as_bytes()));
        answers.fold(SeccompAction::SECCOMP_RET_ALLOW.raw(), |least, answer| {
            if strictness(answer) < strictness(least) { answer } else { least }
        })
    }

    fn is_ancestor_of(this: Option<&Arc<Filter>>, other: Option<&Arc<Filter>>) -> bool {
        let Some(this) = this else { return true };
        other.is_some_and(|other| other.chain().any(|filter| std::ptr::eq(filter, Arc::as_ptr(this))))
    }
}

impl Drop for Filter {
    /// Drops the earlier filters in a loop: recursion could overflow the stack.
    fn drop(&mut self) {
        let mut next = self.previous.take();
        while let Some(filter) = next {
            next = Arc::into_inner(filter).and_then(|mut filter| filter.previous.take());
        }
    }
}

/// The calls that a task may make, and whether executing a program can grant it rights (`no_new_privs`, see prctl(2)).
/// Changed under the lock of the task's group, since `SECCOMP_FILTER_FLAG_TSYNC` changes it for other threads too; so
/// it is not part of the credentials, which only the task itself changes.
pub(crate) struct Seccomp {
    /// A [`SeccompMode`], readable without the lock.
    mode: AtomicU8,
    filter: Mutex<Option<Arc<Filter>>>,
    /// Number of changes.
    changes: AtomicU32,
    /// Never cleared.
    no_new_privs: AtomicBool,
}

impl Default for Seccomp {
    fn default() -> Self {
        Seccomp {
            mode: AtomicU8::new(0),
            filter: Mutex::new(Rank::Task, None),
            changes: AtomicU32::new(0),
            no_new_privs: AtomicBool::new(false),
        }
    }
}

impl Seccomp {
    /// The mode in force.
    pub(crate) fn mode(&self) -> SeccompMode {
        SeccompMode::from_raw(self.mode.load(Ordering::Acquire).into())
    }

    /// Number of changes.
    pub(crate) fn changes(&self) -> u32 {
        self.changes.load(Ordering::Acquire)
    }

    /// Whether a call is known to be allowed, whatever its arguments.
    pub(crate) fn always_allows(&self, number: u32) -> bool {
        match self.mode() {
            SeccompMode::SECCOMP_MODE_DISABLED => true,
            SeccompMode::SECCOMP_MODE_FILTER => self.filter().is_some_and(|filter| filter.always_allows(number)),
            _ => false,
        }
    }

    /// The filters.
    pub(crate) fn filter(&self) -> Option<Arc<Filter>> {
        self.filter.lock().clone()
    }

    /// Number of filters.
    pub(crate) fn count(&self) -> u32 {
        self.filter.lock().as_ref().map_or(0, |filter| filter.count)
    }

    /// Forbids all but the few calls of the strict mode.
    pub(crate) fn set_strict(&self) {
        self.mode.store(SeccompMode::SECCOMP_MODE_STRICT.raw() as u8, Ordering::Release);
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Sets the filters.
    pub(crate) fn set_filter(&self, filter: Arc<Filter>) {
        *self.filter.lock() = Some(filter);
        self.mode.store(SeccompMode::SECCOMP_MODE_FILTER.raw() as u8, Ordering::Release);
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Whether programs that the task executes gain no rights (`PR_GET_NO_NEW_PRIVS`).
    pub(crate) fn no_new_privs(&self) -> bool {
        self.no_new_privs.load(Ordering::Acquire)
    }

    /// Sets `no_new_privs`.
    pub(crate) fn set_no_new_privs(&self) {
        self.no_new_privs.store(true, Ordering::Release);
    }

    /// Takes over the filters of another task: the parent's, or with `SECCOMP_FILTER_FLAG_TSYNC` the caller's. The lock
    /// of the other's group is held.
    pub(crate) fn follow(&self, other: &Seccomp) {
        // Set first, so that the task is never seen with another's filter but without this.
        if other.no_new_privs() {
            self.set_no_new_privs();
        }
        let (filter, mode) = (other.filter(), other.mode());
        *self.filter.lock() = filter;
        self.mode.store(mode.raw() as u8, Ordering::Release);
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Whether a task with these filters may take over the other's: they must contain its own.
    pub(crate) fn may_follow(&self, other: &Seccomp) -> bool {
        let strict = self.mode() == SeccompMode::SECCOMP_MODE_STRICT;
        !strict && Filter::is_ancestor_of(self.filter().as_ref(), other.filter().as_ref())
    }
}

const MASK_OF_CLASS: u16 = 0x7;

/// Checks that a program ends, jumps only forward and within itself, reads only valid words, and has no instructions
/// forbidden in filters.
fn check(program: &[SockFilter]) -> Result<(), Errno> {
    let len = program.len();
    if len == 0 || len > BPF_MAXINSNS {
        return Err(Errno::EINVAL.here());
    }
    // The words of scratch memory that every path to an instruction has written.
    let mut written = vec![u16::MAX; len];
    let mut now = 0u16;
    for (at, op) in program.iter().enumerate() {
        now &= written.get(at).copied().unwrap_or(0);
        let k = op.k as usize;
        let bit = |k: usize| if k < BPF_MEMWORDS { Ok(1u16 << k) } else { Err(Errno::EINVAL.here()) };
        let mut jump = |by: usize, now: u16| {
            let slot = written.get_mut(at.saturating_add(1).saturating_add(by)).ok_or_else(|| Errno::EINVAL.here())?;
            *slot &= now;
            Ok::<(), Errno>(())
        };
        match Step::of(op).ok_or_else(|| Errno::EINVAL.here())? {
            Step::Load if k as u32 >= DATA_SIZE || !k.is_multiple_of(4) => return Err(Errno::EINVAL.here()),
            Step::Compute(BPF_DIV, false) if k == 0 => return Err(Errno::EINVAL.here()),
            Step::Compute(BPF_LSH | BPF_RSH, false) if k >= 32 => return Err(Errno::EINVAL.here()),
            Step::Store | Step::StoreX => now |= bit(k)?,
            Step::Recall | Step::RecallX if now & bit(k)? == 0 => return Err(Errno::EINVAL.here()),
            Step::Jump => {
                jump(k, now)?;
                now = u16::MAX;
            }
            Step::Branch(..) => {
                jump(op.jt.into(), now)?;
                jump(op.jf.into(), now)?;
                now = u16::MAX;
            }
            _ => {}
        }
    }
    let ends = program.last().and_then(Step::of).is_some_and(|step| matches!(step, Step::Answer | Step::AnswerA));
    if ends { Ok(()) } else { Err(Errno::EINVAL.here()) }
}

/// An instruction. The flag is whether the operand is `X`.
#[derive(Clone, Copy)]
enum Step {
    Load,
    LoadLen,
    LoadLenX,
    LoadImm,
    LoadImmX,
    Recall,
    RecallX,
    Store,
    StoreX,
    Compute(u16, bool),
    Negate,
    Jump,
    Branch(u16, bool),
    Answer,
    AnswerA,
    ToX,
    FromX,
}

impl Step {
    fn of(op: &SockFilter) -> Option<Step> {
        const ALU: [u16; 9] = [BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_AND, BPF_OR, BPF_XOR, BPF_LSH, BPF_RSH];
        const BRANCHES: [u16; 4] = [BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JSET];
        let (class, rest) = (op.code & MASK_OF_CLASS, op.code & !MASK_OF_CLASS);
        let (operation, x) = (rest & !BPF_X, rest & BPF_X != 0);
        Some(match (class, rest) {
            (BPF_LD, BPF_ABS) => Step::Load,
            (BPF_LD, BPF_LEN) => Step::LoadLen,
            (BPF_LDX, BPF_LEN) => Step::LoadLenX,
            (BPF_LD, BPF_IMM) => Step::LoadImm,
            (BPF_LDX, BPF_IMM) => Step::LoadImmX,
            (BPF_LD, BPF_MEM) => Step::Recall,
            (BPF_LDX, BPF_MEM) => Step::RecallX,
            (BPF_ST, 0) => Step::Store,
            (BPF_STX, 0) => Step::StoreX,
            (BPF_RET, BPF_K) => Step::Answer,
            (BPF_RET, BPF_A) => Step::AnswerA,
            (BPF_MISC, BPF_TAX) => Step::ToX,
            (BPF_MISC, BPF_TXA) => Step::FromX,
            (BPF_ALU, BPF_NEG) => Step::Negate,
            (BPF_ALU, _) if ALU.contains(&operation) => Step::Compute(operation, x),
            (BPF_JMP, BPF_JA) => Step::Jump,
            (BPF_JMP, _) if BRANCHES.contains(&operation) => Step::Branch(operation, x),
            _ => return None,
        })
    }
}

/// Whether a validated program allows a call without reading its arguments or instruction pointer.
fn allows_always(program: &[SockFilter], number: u32) -> bool {
    let data = SeccompData { nr: number as i32, arch: AUDIT_ARCH_X86_64, ..SeccompData::default() };
    // A program that reads further fails, which kills.
    let known = data.as_bytes().get(..ARCHITECTURE_END).unwrap_or_default();
    run(program, known) & SECCOMP_RET_ACTION_FULL == SeccompAction::SECCOMP_RET_ALLOW.raw()
}

/// Runs a validated program; an instruction that validation would refuse kills.
fn run(program: &[SockFilter], data: &[u8]) -> u32 {
    const KILL: u32 = SeccompAction::SECCOMP_RET_KILL_THREAD.raw();
    let (mut a, mut x) = (0u32, 0u32);
    let mut memory = [0u32; BPF_MEMWORDS];
    let mut at = 0usize;
    // Jumps only lead forward, so there are at most as many steps as instructions.
    while let Some((op, step)) = program.get(at).and_then(|op| Some((op, Step::of(op)?))) {
        at += 1;
        let k = op.k as usize;
        match step {
            Step::Load => match data.get(k..).and_then(|rest| rest.first_chunk()) {
                Some(word) => a = u32::from_ne_bytes(*word),
                None => return KILL,
            },
            Step::LoadLen => a = DATA_SIZE,
            Step::LoadLenX => x = DATA_SIZE,
            Step::LoadImm => a = op.k,
            Step::LoadImmX => x = op.k,
            Step::Recall => a = memory.get(k).copied().unwrap_or(0),
            Step::RecallX => x = memory.get(k).copied().unwrap_or(0),
            Step::Store => memory.iter_mut().skip(k).take(1).for_each(|word| *word = a),
            Step::StoreX => memory.iter_mut().skip(k).take(1).for_each(|word| *word = x),
            Step::Negate => a = a.wrapping_neg(),
            Step::Jump => at = at.saturating_add(k),
            Step::Answer => return op.k,
            Step::AnswerA => return a,
            Step::ToX => x = a,
            Step::FromX => a = x,
            Step::Compute(operation, by_x) => {
                let value = if by_x { x } else { op.k };
                a = match operation {
                    BPF_ADD => a.wrapping_add(value),
                    BPF_SUB => a.wrapping_sub(value),
                    BPF_MUL => a.wrapping_mul(value),
                    BPF_DIV => match a.checked_div(value) {
                        Some(quotient) => quotient,
                        None => return KILL,
                    },
                    BPF_AND => a & value,
                    BPF_OR => a | value,
                    BPF_XOR => a ^ value,
                    BPF_LSH => a.wrapping_shl(value),
                    _ => a.wrapping_shr(value),
                };
            }
            Step::Branch(operation, by_x) => {
                let value = if by_x { x } else { op.k };
                let holds = match operation {
                    BPF_JEQ => a == value,
                    BPF_JGE => a >= value,
                    BPF_JGT => a > value,
                    _ => a & value != 0,
                };
                at += usize::from(if holds { op.jt } else { op.jf });
            }
        }
    }
    KILL
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn op(code: u16, jt: u8, jf: u8, k: u32) -> SockFilter {
        SockFilter { code, jt, jf, k }
    }

    const ALLOW: u32 = SeccompAction::SECCOMP_RET_ALLOW.raw();
    const ERRNO: u32 = SeccompAction::SECCOMP_RET_ERRNO.raw();

    /// A program that returns an errno for one call, and allows the others.
    fn refusing(nr: u32, errno: u32) -> Vec<SockFilter> {
        vec![
            op(BPF_LD | BPF_ABS, 0, 0, 0),
            op(BPF_JMP | BPF_JEQ, 0, 1, nr),
            op(BPF_RET, 0, 0, ERRNO | errno),
            op(BPF_RET, 0, 0, ALLOW),
        ]
    }

    #[test]
    fn the_strictest_answer_counts() {
        let first = Filter::new(refusing(1, 5), None).unwrap();
        let both = Filter::new(refusing(1, 6), Some(first.clone())).unwrap();
        let call = |nr| SeccompData { nr, ..SeccompData::default() };
        assert_eq!(both.evaluate(&call(2)), ALLOW);
        assert_eq!(both.evaluate(&call(1)), ERRNO | 6);
        assert_eq!(first.evaluate(&call(1)), ERRNO | 5);
        let kill = Filter::new(vec![op(BPF_RET, 0, 0, 0x8000_0000)], Some(both.clone())).unwrap();
        assert_eq!(kill.evaluate(&call(2)), 0x8000_0000);
        assert_eq!(kill.count, 3);
        assert!(
            Filter::is_ancestor_of(Some(&first), Some(&kill)) && !Filter::is_ancestor_of(Some(&kill), Some(&first))
        );
    }

    #[test]
    fn a_task_takes_over_both_or_keeps_its_own() {
        let (parent, child) = (Seccomp::default(), Seccomp::default());
        child.set_no_new_privs();
        child.follow(&parent);
        assert!(child.no_new_privs(), "it never goes away");
        parent.set_no_new_privs();
        parent.set_filter(Filter::new(vec![op(BPF_RET, 0, 0, ALLOW)], None).unwrap());
        let other = Seccomp::default();
        other.follow(&parent);
        assert!(other.no_new_privs() && other.mode() == SeccompMode::SECCOMP_MODE_FILTER);
    }

    #[test]
    fn the_longest_chain_goes_on_a_small_stack() {
        let allow = || vec![op(BPF_RET, 0, 0, ALLOW)];
        let mut filter = Filter::new(allow(), None).unwrap();
        while let Ok(next) = Filter::new(allow(), Some(filter.clone())) {
            filter = next;
        }
        assert_eq!(filter.count as usize, (MOST_INSTRUCTIONS - 1) / (1 + COST_OF_A_FILTER) + 1);
        let thread = std::thread::Builder::new().stack_size(64 << 10).spawn(move || drop(filter)).unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn bad_programs_are_refused() {
        let ends = op(BPF_RET, 0, 0, 0);
        let refused = |ops: Vec<SockFilter>| assert_eq!(Filter::new(ops, None).err(), Some(Errno::EINVAL));
        refused(vec![]);
        refused(vec![op(BPF_LD | BPF_ABS, 0, 0, 0)]);
        refused(vec![op(BPF_LD | BPF_ABS, 0, 0, 2), ends]);
        refused(vec![op(BPF_LD | BPF_ABS, 0, 0, 64), ends]);
        refused(vec![op(BPF_LD | BPF_H | BPF_ABS, 0, 0, 0), ends]);
        refused(vec![op(BPF_ALU | BPF_DIV, 0, 0, 0), ends]);
        refused(vec![op(BPF_ALU | BPF_MOD, 0, 0, 3), ends]);
        refused(vec![op(BPF_JMP, 0, 0, 1), ends]);
        refused(vec![op(BPF_JMP | BPF_JEQ, 1, 0, 1), ends]);
        refused(vec![op(BPF_LD | BPF_MEM, 0, 0, 0), ends]);
        refused(vec![op(BPF_ST, 0, 0, 16), ends]);
        refused(vec![ends; BPF_MAXINSNS + 1]);
        assert!(Filter::new(vec![op(BPF_ST, 0, 0, 0), op(BPF_LD | BPF_MEM, 0, 0, 0), ends], None).is_ok());
    }

    proptest! {
        #[test]
        fn any_program_ends(raw in prop::collection::vec((any::<u16>(), any::<u8>(), any::<u8>(), any::<u32>()), 1..40)) {
            let program: Vec<SockFilter> = raw.into_iter().map(|(code, jt, jf, k)| op(code & 0xff, jt & 7, jf & 7, k & 0x3f)).collect();
            if let Ok(filter) = Filter::new(program.clone(), None) {
                filter.evaluate(&SeccompData::default());
            }
            run(&program, &[0; 64]);
        }
    }
}
