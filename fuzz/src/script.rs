//! Guests that do one thing after the other, whatever comes of it.

use std::sync::mpsc::{Receiver, Sender};

use amber_platform::Registers;
use amber_platform_fake::{Processor, Program, Step};

/// Memory that a guest has for what its calls point to.
pub const ARENA: u64 = 0x1000_0000;
/// Bytes of it.
pub const ARENA_SIZE: u64 = 1 << 18;
/// Where in it a path may be put that the rest does not overwrite.
pub const PATH: u64 = ARENA + ARENA_SIZE - 8192;

/// An argument of a call.
#[derive(Clone, Copy, Debug)]
pub enum Arg {
    /// This value.
    Value(u64),
    /// What the operation with this index in the script had as its result.
    Result(usize),
}

impl From<u64> for Arg {
    fn from(value: u64) -> Arg {
        Arg::Value(value)
    }
}

/// One operation of a script.
#[derive(Clone, Debug)]
pub enum Op {
    /// A system call with these arguments; those that are left out are zero.
    Call(i64, Vec<Arg>),
    /// A store; its result is 0.
    Store(u64, Vec<u8>),
    /// Sets the stack pointer; the result is 0.
    Stack(u64),
    /// A child as of `vfork`, which does this and then exits.
    Child(Vec<Op>),
}

impl Op {
    /// A call whose arguments are all known.
    pub fn call<const N: usize>(number: i64, arguments: [u64; N]) -> Op {
        Op::Call(number, arguments.map(Arg::Value).to_vec())
    }

    /// A call on the descriptor that the operation `fd` resulted in.
    pub fn on<const N: usize>(number: i64, fd: usize, arguments: [u64; N]) -> Op {
        let mut all = vec![Arg::Result(fd)];
        all.extend(arguments.map(Arg::Value));
        Op::Call(number, all)
    }
}

/// Plays one script.
struct Player {
    ops: std::vec::IntoIter<Op>,
    results: Vec<i64>,
    /// The last operation was a call, of which the result is still to come.
    called: bool,
}

/// What a player does next.
enum Next {
    Step(Step),
    Child(Vec<Op>),
    End(Vec<i64>),
}

impl Player {
    fn new(ops: Vec<Op>) -> Player {
        Player { ops: ops.into_iter(), results: Vec::new(), called: false }
    }

    fn next(&mut self, registers: &mut Registers) -> Next {
        if std::mem::take(&mut self.called) {
            self.results.push(registers.rax as i64);
        }
        let Some(op) = self.ops.next() else { return Next::End(std::mem::take(&mut self.results)) };
        match op {
            Op::Call(number, arguments) => {
                self.called = true;
                let mut values = [0; 6];
                for (value, argument) in values.iter_mut().zip(arguments) {
                    *value = match argument {
                        Arg::Value(value) => value,
                        Arg::Result(index) => self.results.get(index).copied().unwrap_or(-1) as u64,
                    };
                }
                Next::Step(Step::Call(number as u64, values))
            }
            Op::Store(at, bytes) => {
                self.results.push(0);
                Next::Step(Step::Store(at, bytes))
            }
            Op::Stack(at) => {
                self.results.push(0);
                registers.rsp = at;
                Next::Step(Step::Pass)
            }
            Op::Child(ops) => {
                self.called = true;
                Next::Child(ops)
            }
        }
    }
}

/// The first thread: plays the scripts it is sent, and answers with the results.
pub(crate) struct First {
    pub scripts: Receiver<Vec<Op>>,
    pub results: Sender<Vec<i64>>,
    pub children: Sender<Vec<Op>>,
    player: Option<Player>,
}

impl First {
    pub fn new(scripts: Receiver<Vec<Op>>, results: Sender<Vec<i64>>, children: Sender<Vec<Op>>) -> First {
        First { scripts, results, children, player: None }
    }
}

fn exit() -> Step {
    Step::Call(libc::SYS_exit_group as u64, [0; 6])
}

impl Program for First {
    fn step(&mut self, processor: &mut Processor<'_>) -> Step {
        let Some(player) = &mut self.player else {
            let Ok(script) = self.scripts.recv() else { return exit() };
            self.player = Some(Player::new(script));
            return Step::Pass;
        };
        match player.next(processor.registers) {
            Next::Step(step) => step,
            Next::Child(ops) => {
                let flags = libc::CLONE_VFORK | libc::CLONE_VM | libc::SIGCHLD;
                // Taken by the child's thread before this one goes on.
                let _ = self.children.send(ops);
                Step::Call(libc::SYS_clone as u64, [flags as u64, 0, 0, 0, 0, 0])
            }
            Next::End(results) => {
                self.player = None;
                // If nobody waits any more, the sandbox is about to end.
                let _ = self.results.send(results);
                Step::Pass
            }
        }
    }
}

/// A thread that plays one script and exits.
pub(crate) struct Once(Player);

impl Once {
    pub fn new(ops: Vec<Op>) -> Once {
        Once(Player::new(ops))
    }
}

impl Program for Once {
    fn step(&mut self, processor: &mut Processor<'_>) -> Step {
        match self.0.next(processor.registers) {
            Next::Step(step) => step,
            Next::Child(_) => Step::Pass,
            Next::End(_) => exit(),
        }
    }
}
