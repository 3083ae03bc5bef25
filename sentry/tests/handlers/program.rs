//! What a guest task runs: it does what a test sends it, one command at a time.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use amber_platform_fake::{Processor, Program, Step};

/// Where handlers of signals are said to be; they do nothing but return.
pub(crate) const HANDLER: u64 = 0x50_0000;
/// Bytes of a page.
const PAGE: u64 = 4096;
/// How long a task without commands waits until it looks for signals.
const TICK: Duration = Duration::from_millis(1);

/// What a task is to do. It answers with the register of the result, or with the bytes that it read.
pub(crate) enum Command {
    /// A system call.
    Call(u64, [u64; 6]),
    /// A store of these bytes.
    Store(u64, Vec<u8>),
    /// A load of so many bytes.
    Load(u64, usize),
}

/// The answer to a command.
pub(crate) type Answer = (u64, Vec<u8>);

/// A task's program.
pub(crate) struct Obedient {
    commands: Receiver<Command>,
    answers: Sender<Answer>,
    /// What is not answered yet.
    current: Option<Command>,
    /// Where the instruction of the current call is.
    call_site: u64,
}

impl Obedient {
    pub(crate) fn new(commands: Receiver<Command>, answers: Sender<Answer>) -> Obedient {
        Obedient { commands, answers, current: None, call_site: 0 }
    }

    /// Goes on with a command that was begun: the step that it still needs, if any.
    fn go_on(&mut self, command: &Command, processor: &Processor<'_>) -> Option<Step> {
        let answer = match *command {
            // A handler has returned to the instruction.
            Command::Call(number, arguments) if processor.registers.rip == self.call_site => {
                return Some(Step::Call(number, arguments));
            }
            Command::Call(..) => (processor.registers.rax, Vec::new()),
            Command::Store(..) => (0, Vec::new()),
            Command::Load(at, len) => {
                let pages = std::iter::once(at).chain((at / PAGE + 1..).map(|page| page * PAGE));
                let mut missing = pages.take_while(|&page| page < at + len as u64);
                if let Some(page) = missing.find(|&page| !processor.load(page, &mut [0])) {
                    return Some(Step::Load(page));
                }
                let mut bytes = vec![0; len];
                processor.load(at, &mut bytes);
                (0, bytes)
            }
        };
        // A test that has failed waits for no answer.
        let _ = self.answers.send(answer);
        None
    }

    fn begin(&mut self, command: &Command, processor: &Processor<'_>) -> Step {
        match command {
            Command::Call(number, arguments) => {
                self.call_site = processor.registers.rip;
                Step::Call(*number, *arguments)
            }
            Command::Store(at, bytes) => Step::Store(*at, bytes.clone()),
            Command::Load(..) => Step::Pass,
        }
    }
}

impl Program for Obedient {
    fn step(&mut self, processor: &mut Processor<'_>) -> Step {
        if processor.registers.rip == HANDLER {
            // As `ret` to the restorer does, which makes the call.
            processor.registers.rsp += 8;
            return Step::Call(libc::SYS_rt_sigreturn as u64, [0; 6]);
        }
        if let Some(command) = self.current.take()
            && let Some(step) = self.go_on(&command, processor)
        {
            self.current = Some(command);
            return step;
        }
        match self.commands.recv_timeout(TICK) {
            Ok(command) => {
                let step = self.begin(&command, processor);
                self.current = Some(command);
                step
            }
            Err(RecvTimeoutError::Timeout) => Step::Pass,
            Err(RecvTimeoutError::Disconnected) => Step::Call(libc::SYS_exit_group as u64, [0; 6]),
        }
    }
}
