//! Single steps, and hardware breakpoints.

use std::io::ErrorKind;

use amber_platform::{Breakpoint, PAGE_SIZE, Trap, Watch};

use crate::code;
use crate::guest::{CODE, DATA, Guest, Machine, READ_EXECUTE, READ_WRITE};

const TRAP_FLAG: u64 = 0x100;
const RESUME_FLAG: u64 = 0x1_0000;
const TRAP_BRKPT: i32 = 1;
const TRAP_TRACE: i32 = 2;
const TRAP_HWBKPT: i32 = 4;

/// Addresses of the instructions of [`code::store_load_rest`].
const STORE: u64 = CODE;
const LOAD: u64 = CODE + 3;
const REST: u64 = CODE + 7;
const MORE: u64 = CODE + 8;
const CALL: u64 = CODE + 9;
const JUMP: u64 = CODE + 11;

fn stop(code: i32, address: u64) -> Trap {
    Trap::Exception { signal: libc::SIGTRAP, code, address }
}

fn execute(address: u64) -> Breakpoint {
    Breakpoint { address, len: 1, watch: Watch::Execute }
}

fn write(address: u64, len: u64) -> Breakpoint {
    Breakpoint { address, len, watch: Watch::Write }
}

fn access(address: u64, len: u64) -> Breakpoint {
    Breakpoint { address, len, watch: Watch::ReadWrite }
}

/// A guest whose code and data were accessed before: some emulated processors count the fault of a first access as a
/// step.
fn walker(machine: &Machine) -> Guest<'_> {
    let mut guest = Guest::new(machine, code::store_load_rest());
    guest.run_to_call();
    guest.registers.rip = CODE;
    guest
}

/// The same on hosts that support breakpoints in guests; otherwise `None`.
fn debugged(machine: &Machine) -> Option<Guest<'_>> {
    let mut guest = walker(machine);
    match guest.context.set_breakpoints(&[execute(CODE + PAGE_SIZE)]) {
        Ok(()) => Some(guest),
        Err(error) if error.source.kind() == ErrorKind::Unsupported => {
            eprintln!("SKIPPED: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Each instruction is one step. A system call traps as such, and the next step ends after the following instruction.
pub fn single_steps_stop_after_each_instruction(machine: &Machine) {
    let mut guest = walker(machine);
    guest.registers.eflags |= TRAP_FLAG;
    for _ in 0..3 {
        for next in [LOAD, REST, MORE, CALL] {
            assert_eq!(guest.run(), stop(TRAP_TRACE, next));
            assert_eq!(guest.registers.rip, next);
            assert_eq!(guest.context.breakpoints_hit(), 0);
        }
        guest.run_to_call();
        assert_eq!((guest.registers.rip, guest.registers.eflags & TRAP_FLAG), (JUMP, TRAP_FLAG));
        assert_eq!(guest.run(), stop(TRAP_TRACE, STORE));
    }
    guest.registers.eflags &= !TRAP_FLAG;
    guest.run_to_call();

    // An instruction that faults does not complete the step.
    let mut guest = walker(machine);
    guest.registers.rdi = DATA + 5 * PAGE_SIZE;
    guest.registers.eflags |= TRAP_FLAG;
    assert!(matches!(guest.run(), Trap::PageFault { address, .. } if address == guest.registers.rdi));
    assert_eq!(guest.registers.rip, STORE);
    guest.add(DATA + 5 * PAGE_SIZE, 1, READ_WRITE);
    assert_eq!(guest.run(), stop(TRAP_TRACE, LOAD));

    // `int1` is neither a step nor a breakpoint.
    guest.registers.eflags &= !TRAP_FLAG;
    guest.load(code::debug_trap());
    let trap = guest.run();
    // Some nested hosts report the instruction's own address.
    assert!([CODE, CODE + 1].map(|address| stop(TRAP_BRKPT, address)).contains(&trap), "{trap:?}");
}

/// An instruction breakpoint stops before the instruction, which is executed if the resume flag is set.
pub fn breakpoints_stop_where_they_are_set(machine: &Machine) {
    let Some(mut guest) = debugged(machine) else { return };
    guest.context.set_breakpoints(&[execute(MORE), execute(LOAD)]).unwrap();
    for round in 0..3u8 {
        (guest.registers.rsi, guest.registers.r8) = (u64::from(round), 99);
        assert_eq!(guest.run(), stop(TRAP_HWBKPT, LOAD));
        assert_eq!(guest.context.breakpoints_hit(), 0b10);
        assert_eq!((guest.registers.rip, guest.registers.r8), (LOAD, 99));
        assert_ne!(guest.registers.eflags & RESUME_FLAG, 0);
        assert_eq!(guest.run(), stop(TRAP_HWBKPT, MORE));
        assert_eq!(guest.context.breakpoints_hit(), 0b01);
        assert_eq!(guest.registers.r8, u64::from(round));
        guest.run_to_call();
        assert_eq!(guest.registers.rip, JUMP);
    }
    // Without the resume flag, it stops again; with other breakpoints, it does not.
    assert_eq!(guest.run(), stop(TRAP_HWBKPT, LOAD));
    guest.registers.eflags &= !RESUME_FLAG;
    assert_eq!(guest.run(), stop(TRAP_HWBKPT, LOAD));
    guest.registers.eflags &= !RESUME_FLAG;
    guest.context.set_breakpoints(&[]).unwrap();
    guest.run_to_call();

    // On an unmapped page, the page fault comes first.
    guest.context.set_breakpoints(&[execute(CODE + PAGE_SIZE)]).unwrap();
    guest.registers.rip = CODE + PAGE_SIZE;
    let trap = guest.run();
    if trap != stop(TRAP_HWBKPT, CODE + PAGE_SIZE) {
        assert!(matches!(trap, Trap::PageFault { address, .. } if address == CODE + PAGE_SIZE), "{trap:?}");
        let frames = guest.add(CODE + PAGE_SIZE, 1, READ_EXECUTE);
        machine.memory.write(frames.start, code::nothing());
        assert_eq!(guest.run(), stop(TRAP_HWBKPT, CODE + PAGE_SIZE));
    }
}

/// Watchpoints of all lengths and at all positions.
pub fn watchpoints_tell_stores_from_loads(machine: &Machine) {
    let Some(mut guest) = debugged(machine) else { return };
    for len in [1, 2, 4, 8] {
        // The last watched byte.
        guest.registers.rdi = DATA + 64 + len - 1;
        guest.context.set_breakpoints(&[write(DATA, 8), write(DATA + 64, len)]).unwrap();
        assert_eq!(guest.run(), stop(TRAP_HWBKPT, LOAD));
        assert_eq!((guest.context.breakpoints_hit(), guest.registers.rip), (0b10, LOAD));
        guest.run_to_call();
        guest.context.set_breakpoints(&[access(DATA + 64, len)]).unwrap();
        for next in [LOAD, REST] {
            assert_eq!(guest.run(), stop(TRAP_HWBKPT, next));
            assert_eq!(guest.context.breakpoints_hit(), 1);
        }
        guest.run_to_call();
        // The adjacent bytes, which are not watched.
        for beside in [DATA + 64 + len, DATA + 63] {
            guest.registers.rdi = beside;
            guest.run_to_call();
        }
    }
    // Four breakpoints, of which one access triggers two.
    let four = [execute(MORE), write(DATA + 8, 8), access(DATA + 12, 4), write(DATA + 16, 1)];
    guest.context.set_breakpoints(&four).unwrap();
    guest.registers.rdi = DATA + 12;
    assert_eq!(guest.run(), stop(TRAP_HWBKPT, LOAD));
    // Some emulated processors report only one of them.
    let hit = guest.context.breakpoints_hit();
    assert!([0b0110, 0b0010, 0b0100].contains(&hit), "{hit:#b}");
    assert_eq!(guest.run(), stop(TRAP_HWBKPT, REST));
    assert_eq!(guest.context.breakpoints_hit(), 0b0100);
    assert_eq!(guest.run(), stop(TRAP_HWBKPT, MORE));
    assert_eq!(guest.context.breakpoints_hit(), 0b0001);
    guest.run_to_call();
}

/// If both occur at once, the single step reports the breakpoint too.
pub fn breakpoints_and_single_steps_go_together(machine: &Machine) {
    let Some(mut guest) = debugged(machine) else { return };
    guest.context.set_breakpoints(&[write(DATA, 1), execute(MORE)]).unwrap();
    guest.registers.eflags |= TRAP_FLAG;
    assert_eq!(guest.run(), stop(TRAP_TRACE, LOAD));
    assert_eq!(guest.context.breakpoints_hit(), 0b01);
    assert_eq!(guest.run(), stop(TRAP_TRACE, REST));
    assert_eq!(guest.context.breakpoints_hit(), 0);
    // The step ends at the breakpoint. One stop or two are correct, but the instruction is executed once.
    assert!(matches!(guest.run(), Trap::Exception { signal: libc::SIGTRAP, address: MORE, .. }));
    let mut trap = guest.run();
    if trap == stop(TRAP_HWBKPT, MORE) {
        assert_eq!(guest.context.breakpoints_hit(), 0b10);
        trap = guest.run();
    }
    assert_eq!(trap, stop(TRAP_TRACE, CALL));
    guest.run_to_call();
    // Without single steps, only the breakpoints remain.
    guest.registers.eflags &= !TRAP_FLAG;
    assert_eq!(guest.run(), stop(TRAP_HWBKPT, LOAD));
    assert_eq!(guest.run(), stop(TRAP_HWBKPT, MORE));
    guest.run_to_call();
}

/// Breakpoints stay with their thread in another space. Its children, other threads, and the context's next thread do
/// not have them.
pub fn breakpoints_belong_to_one_thread(machine: &Machine) {
    let Some(mut guest) = debugged(machine) else { return };
    guest.context.set_breakpoints(&[execute(REST)]).unwrap();
    assert_eq!(guest.run(), stop(TRAP_HWBKPT, REST));

    let space = guest.context.fork_space(&*guest.space).unwrap();
    let mut child = Guest::thread(machine, space);
    child.registers = guest.registers;
    child.registers.rip = CODE;
    child.run_to_call();
    let room = guest.context.prepare_thread(&*guest.space).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut sibling = Guest::thread(machine, guest.space.clone());
            sibling.registers = guest.registers;
            sibling.registers.rip = CODE;
            sibling.run_to_call();
        });
    });
    drop(room);

    guest.run_to_call();
    assert_eq!(guest.run(), stop(TRAP_HWBKPT, REST));
    guest.run_to_call();
    // As after `execve`: another instruction is at the address.
    let mut other = walker(machine);
    other.registers.eflags &= !RESUME_FLAG;
    let _room = other.context.prepare_thread(&*other.space).unwrap();
    std::mem::swap(&mut other.space, &mut guest.space);
    assert_eq!(guest.run(), stop(TRAP_HWBKPT, REST));
    guest.context.recycle(&*guest.space);
    assert_eq!(guest.context.breakpoints_hit(), 0);
    guest.registers.eflags &= !RESUME_FLAG;
    guest.registers.rip = CODE;
    guest.run_to_call();
}

/// An access whose debug exception is deferred until after the next instruction, which is a system call.
pub fn breakpoints_put_off_do_no_harm(machine: &Machine) {
    let mut guest = Guest::new(machine, code::load_stack_segment_and_call());
    let frames = guest.add(DATA, 1, READ_WRITE);
    machine.memory.write(frames.start, &0x2bu16.to_le_bytes());
    guest.run_to_call();
    let set: [&[Breakpoint]; 2] = [&[access(DATA, 2)], &[]];
    for (breakpoints, flags) in [(set[0], 0), (set[1], TRAP_FLAG), (set[0], TRAP_FLAG)] {
        guest.registers.rip = CODE;
        guest.registers.eflags = guest.registers.eflags & !TRAP_FLAG | flags;
        if guest.context.set_breakpoints(breakpoints).is_err() {
            continue;
        }
        // Hosts differ in whether and where they report the breakpoint. The call traps once in any case.
        let mut calls = 0;
        while calls < 2 {
            match guest.run() {
                Trap::Syscall => calls += 1,
                Trap::Exception { signal: libc::SIGTRAP, .. } => {}
                trap => panic!("{trap:?}"),
            }
        }
        assert_eq!(guest.registers.rip, CODE + code::load_stack_segment_and_call().len() as u64);
    }
}

/// Unsupported breakpoints are refused, and the old ones stay.
pub fn bad_breakpoints_are_refused(machine: &Machine) {
    let Some(mut guest) = debugged(machine) else { return };
    guest.context.set_breakpoints(&[execute(REST)]).unwrap();
    let limit = machine.platform.address_limit();
    let bad: [&[Breakpoint]; 6] = [
        &[execute(0xffff_ffff_8000_0000)],
        &[write(limit, 8)],
        &[write(DATA + 1, 2)],
        &[write(DATA, 3)],
        &[Breakpoint { len: 8, ..execute(CODE) }],
        &[execute(CODE); 5],
    ];
    for breakpoints in bad {
        let error = guest.context.set_breakpoints(breakpoints).unwrap_err();
        assert_eq!(error.source.kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(guest.run(), stop(TRAP_HWBKPT, REST));
    guest.run_to_call();
}
