//! Address spaces.

use amber_platform::{Access, AddressSpace, Frames, PAGE_SIZE, Trap};

use crate::code;
use crate::guest::{CODE, DATA, Guest, Machine, READ, READ_EXECUTE, READ_WRITE};

/// Many changes of all kinds at once, more than fit in one batch.
pub fn changes_come_in_batches(machine: &Machine) {
    const BASE: u64 = 0x4000_0000;
    const PAGES: u64 = 1000;
    let at = |page: u64| BASE + page * PAGE_SIZE;
    let mut guest = Guest::new(machine, code::write_pages());
    // In descending order, so that none can be merged.
    let frames = guest.allocate(PAGES);
    for page in (0..PAGES).rev() {
        let frame = amber_platform::FrameRange { start: frames.start + page * PAGE_SIZE, len: PAGE_SIZE };
        guest.space.map(at(page), frame, READ_WRITE);
    }
    guest.registers.rdi = BASE;
    guest.registers.r9 = PAGES;
    guest.run_to_call();
    for page in 0..PAGES {
        let mut word = [0; 8];
        machine.memory.read(frames.start + page * PAGE_SIZE, &mut word);
        assert_eq!(u64::from_le_bytes(word), PAGES - page);
    }

    // The last change of a page wins.
    guest.space.protect(at(0)..at(PAGES), READ);
    guest.remove(at(10)..at(20));
    guest.space.protect(at(0)..at(PAGES), READ_WRITE);
    guest.remove(at(500)..at(501));
    guest.add(at(500), 1, READ);
    for (page, mapped) in [(10, false), (500, true)] {
        let trap = guest.run();
        assert!(
            matches!(trap, Trap::PageFault { address, access } if address == at(page)
            && (access == Access::Write || !mapped && access == Access::Read)),
            "{trap:?}"
        );
        guest.remove(at(page)..at(page + 10));
        guest.add(at(page), 10, READ_WRITE);
    }
    guest.run_to_call();
    guest.remove(0..machine.platform.address_limit());
    assert_eq!(
        guest.run(),
        Trap::PageFault { address: CODE + code::write_pages().len() as u64 - 2, access: Access::Execute }
    );
}

/// More mappings than the host may allow. Some may be lost, but the guest can get each again.
pub fn mappings_without_number(machine: &Machine) {
    const BASE: u64 = 0x1_0000_0000;
    const PAGES: u64 = 70_000;
    let mut guest = Guest::new(machine, code::write_pages());
    // The same page everywhere, so that no two mappings can be merged.
    let frames = guest.allocate(1);
    for page in 0..PAGES {
        guest.space.map(BASE + page * PAGE_SIZE, frames, READ_WRITE);
    }
    (guest.registers.rip, guest.registers.rdi, guest.registers.r9) = (CODE, BASE + (PAGES - 500) * PAGE_SIZE, 500);
    let code_frames = guest.frames[0].range();
    loop {
        match guest.run() {
            Trap::Syscall => break,
            Trap::PageFault { address, .. } if address / PAGE_SIZE == CODE / PAGE_SIZE => {
                guest.space.map(CODE, code_frames, READ_EXECUTE);
            }
            Trap::PageFault { address, .. } => guest.space.map(address & !(PAGE_SIZE - 1), frames, READ_WRITE),
            trap => panic!("{trap:?}"),
        }
    }
    let child = guest.context.fork_space(&*guest.space).unwrap();
    let mut child = Guest::thread(machine, child);
    child.registers = guest.registers;
    child.run_to_call();
}

/// Maps a new page at [`DATA`] and lets the guest read from it. Returns its frames.
fn read_from_new_page(machine: &Machine, guest: &mut Guest) -> Frames {
    let frames = machine.memory.allocate(PAGE_SIZE, PAGE_SIZE).unwrap();
    guest.space.map(DATA, frames.range(), READ_WRITE);
    guest.registers.rip = CODE;
    guest.run_to_call();
    frames
}

/// Frames passed to `unmap` are freed when no guest can reach them: at the latest after the next run.
pub fn released_frames_are_held_until_out_of_reach(machine: &Machine) {
    let mut guest = Guest::new(machine, code::read_byte());
    guest.run_to_call();
    let before = machine.memory.allocated();
    let frames = read_from_new_page(machine, &mut guest);
    guest.space.unmap(DATA..DATA + PAGE_SIZE, vec![frames]);
    let held = machine.memory.allocated() - before;
    assert!([0, PAGE_SIZE].contains(&held));
    // A second time, where nothing is mapped. Not freed before the first change took effect.
    let more = machine.memory.allocate(PAGE_SIZE, PAGE_SIZE).unwrap();
    guest.space.unmap(DATA..DATA + PAGE_SIZE, vec![more]);
    assert_eq!(machine.memory.allocated(), before + 2 * held);
    guest.registers.rip = CODE;
    assert_eq!(guest.run(), Trap::PageFault { address: DATA, access: Access::Read });
    assert_eq!(machine.memory.allocated(), before);
    let last = machine.memory.allocate(PAGE_SIZE, PAGE_SIZE).unwrap();
    guest.space.unmap(DATA..DATA + PAGE_SIZE, vec![last]);
    assert_eq!(machine.memory.allocated(), before);
}

/// Frames passed to `unmap` are free after `synchronize`, also if the guest does not run again.
pub fn a_guest_that_does_not_run_keeps_no_released_frames(machine: &Machine) {
    let mut guest = Guest::new(machine, code::read_byte());
    guest.run_to_call();
    let before = machine.memory.allocated();
    let frames = read_from_new_page(machine, &mut guest);
    guest.space.unmap(DATA..DATA + PAGE_SIZE, vec![frames]);
    guest.space.synchronize();
    assert_eq!(machine.memory.allocated(), before);
    // They may be another guest's by now.
    guest.registers.rip = CODE;
    assert_eq!(guest.run(), Trap::PageFault { address: DATA, access: Access::Read });
}

/// `fork`: the same frames, separate mappings.
pub fn a_fork_copies_mappings_and_shares_frames(machine: &Machine) {
    const EXTRA: u64 = 0x6000_0000;
    let mut parent = Guest::new(machine, code::write_byte());
    parent.run_to_call();
    let shared = parent.add(EXTRA, 1, READ_WRITE);
    // The space has not run since, so the fork must include pending changes.
    let space = parent.context.fork_space(&*parent.space).unwrap();
    let registers = parent.registers;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut child = Guest::thread(machine, space);
            child.registers = registers;
            (child.registers.rip, child.registers.rdi, child.registers.rsi) = (CODE, EXTRA, 42);
            child.run_to_call();
            child.remove(EXTRA..EXTRA + PAGE_SIZE);
            child.registers.rip = CODE;
            // On an unmapped page, not every platform distinguishes stores from loads.
            assert!(matches!(child.run(), Trap::PageFault { address: EXTRA, access: Access::Read | Access::Write }));
        });
    });
    let mut byte = [0];
    machine.memory.read(shared.start, &mut byte);
    assert_eq!(byte, [42]);
    (parent.registers.rip, parent.registers.rdi) = (CODE, EXTRA);
    parent.run_to_call();
}

/// Several generations, after the older ones have ended.
pub fn a_fork_of_a_fork_outlives_its_parent(machine: &Machine) {
    let mut guest = Guest::new(machine, code::call_forever());
    for i in 0..20 {
        guest.registers.rax = i;
        guest.run_to_call();
        assert_eq!(guest.registers.orig_rax, i);
        let space = guest.context.fork_space(&*guest.space).unwrap();
        let mut next = Guest::thread(machine, space);
        next.registers = guest.registers;
        next.frames = std::mem::take(&mut guest.frames);
        guest = next;
    }
}

/// No resource leaks.
pub fn many_spaces_come_and_go(machine: &Machine) {
    for i in 0..200 {
        let mut guest = Guest::new(machine, code::call_forever());
        guest.registers.rax = i;
        guest.run_to_call();
        assert_eq!(guest.registers.orig_rax, i);
        let unused = guest.context.fork_space(&*guest.space).unwrap();
        drop(unused);
    }
    // Spaces that never run.
    for _ in 0..20 {
        machine.platform.new_address_space().unwrap();
        machine.platform.new_context().unwrap();
    }
}

/// As when processes fork, exit and execute: the frames of a space that is gone are reused at once, and those it shared
/// with other spaces stay intact.
pub fn what_was_abandoned_serves_others(machine: &Machine) {
    const OWN: u64 = 0x6000_0000;
    let value = |guest: &mut Guest<'_>, space: &dyn AddressSpace, at: u64| {
        (guest.registers.rip, guest.registers.rdi) = (CODE, at);
        assert_eq!(guest.context.run(space, &mut guest.registers).unwrap(), Trap::Syscall);
        guest.registers.r8 as u8
    };
    let mut parent = Guest::new(machine, code::read_byte());
    let shared = parent.frames[1].range();
    let parents = parent.space.clone();
    for i in 0..100u8 {
        machine.memory.write(shared.start, &[i]);
        assert_eq!(value(&mut parent, &*parents, DATA), i);
        let space = parent.context.fork_space(&*parents).unwrap();
        let mut child = Guest::thread(machine, space.clone());
        let own = machine.memory.allocate_to_fill(PAGE_SIZE, u64::MAX).unwrap();
        machine.memory.write(own.range().start, &[i + 100]);
        space.map(OWN, own.range(), READ_WRITE);
        assert_eq!(value(&mut child, &*space, DATA), i);
        assert_eq!(value(&mut child, &*space, OWN), i + 100);
        child.context.detach().unwrap();
        // The thread of every second space moves to another one first, as after `execve`.
        if i % 2 == 0 {
            let next = Guest::new(machine, code::read_byte());
            assert_eq!(value(&mut child, &*next.space, DATA), 0);
        }
        space.teardown(0..machine.platform.address_limit(), vec![own]);
        drop(space);
        drop(child);
    }
    assert_eq!(value(&mut parent, &*parents, DATA), 99);
}

/// As after `execve`, and back.
pub fn a_context_moves_between_spaces(machine: &Machine) {
    let mut first = Guest::new(machine, code::call_forever());
    let mut second = Guest::new(machine, code::int80());
    for i in 0..20 {
        first.run_to_call();
        second.registers.rax = i;
        assert_eq!(first.context.run(&*second.space, &mut second.registers).unwrap(), Trap::Syscall32);
        assert_eq!(second.registers.orig_rax, i);
    }
    drop(second);
    first.run_to_call();
}

/// After a fork, changes on one side do not affect the other: pages, protections and whole ranges.
pub fn forks_part_when_either_changes(machine: &Machine) {
    const PLACES: [u64; 4] = [0x4000_0000, 0x4020_0000, 0x9000_0000, 0x70_0000_0000];
    const PAGES: u64 = 3;
    let tell = |guest: &mut Guest<'_>, address: u64| -> Result<u8, Trap> {
        guest.load(code::read_byte());
        guest.registers.rdi = address;
        match guest.run() {
            Trap::Syscall => Ok(guest.registers.r8 as u8),
            trap => Err(trap),
        }
    };
    let fill = |guest: &mut Guest<'_>, place: u64, value: u8| {
        let frames = guest.add(place, PAGES, READ_WRITE);
        (0..PAGES).for_each(|page| machine.memory.write(frames.start + page * PAGE_SIZE, &[value + page as u8]));
    };
    let fork = |parent: &mut Guest<'_>| {
        let space = parent.context.fork_space(&*parent.space).unwrap();
        let mut child = Guest::thread(machine, space);
        child.registers = parent.registers;
        child
    };
    let mut parent = Guest::new(machine, code::read_byte());
    for (i, place) in (0..).zip(PLACES) {
        fill(&mut parent, place, 10 * (i + 1));
    }
    assert_eq!(tell(&mut parent, PLACES[0]), Ok(10));
    let mut child = fork(&mut parent);
    let mut grandchild = fork(&mut child);
    // The child: one page unmapped, one replaced, one range unmapped.
    child.remove(PLACES[0] + PAGE_SIZE..PLACES[0] + 2 * PAGE_SIZE);
    fill(&mut child, PLACES[1], 100);
    child.remove(0x8000_0000..0xc000_0000);
    // The parent: a protection, and a new page next to it.
    parent.space.protect(PLACES[3]..PLACES[3] + PAGES * PAGE_SIZE, READ);
    fill(&mut parent, PLACES[0] + PAGES * PAGE_SIZE, 200);
    for round in 0..3 {
        for (i, place) in (0..).zip(PLACES) {
            assert_eq!(tell(&mut parent, place + PAGE_SIZE), Ok(10 * (i + 1) + 1), "round {round}");
            assert_eq!(tell(&mut grandchild, place + 2 * PAGE_SIZE), Ok(10 * (i + 1) + 2), "round {round}");
        }
        assert_eq!(tell(&mut child, PLACES[0]), Ok(10));
        assert!(matches!(tell(&mut child, PLACES[0] + PAGE_SIZE), Err(Trap::PageFault { .. })));
        assert_eq!(tell(&mut child, PLACES[1] + 2 * PAGE_SIZE), Ok(102));
        assert!(matches!(tell(&mut child, PLACES[2]), Err(Trap::PageFault { .. })));
        assert!(matches!(tell(&mut grandchild, PLACES[0] + PAGES * PAGE_SIZE), Err(Trap::PageFault { .. })));
        assert_eq!(tell(&mut parent, PLACES[0] + PAGES * PAGE_SIZE), Ok(200));
        for (guest, may) in [(&mut parent, false), (&mut child, true), (&mut grandchild, true)] {
            guest.load(code::write_byte());
            (guest.registers.rdi, guest.registers.rsi) = (PLACES[3], 40);
            let trap = guest.run();
            let refused = Trap::PageFault { address: PLACES[3], access: Access::Write };
            assert_eq!(trap, if may { Trap::Syscall } else { refused });
        }
        // Another generation is created and ends.
        let mut passing = fork(&mut grandchild);
        passing.remove(0..machine.platform.address_limit());
        fill(&mut passing, PLACES[2], 77);
        assert_eq!(tell(&mut passing, PLACES[2] + PAGE_SIZE), Ok(78));
    }
    // The parent's mappings are gone; the others stay.
    drop(parent);
    assert_eq!(tell(&mut grandchild, PLACES[3] + PAGE_SIZE), Ok(41));
    assert_eq!(tell(&mut child, PLACES[3] + PAGE_SIZE), Ok(41));
}
