//! State that guest code leaves in the processor belongs to its thread, and affects no other.

use std::arch::x86_64::__cpuid_count;
use std::ops::Range;

use amber_platform::{PAGE_SIZE, Trap};

use crate::code;
use crate::guest::{CODE, DATA, Guest, Machine, READ_WRITE};

/// `si_code` of a SIGSEGV for an access that the thread's protection keys forbid.
const SEGV_PKUERR: i32 = 4;
/// PKRU that denies all access.
const NOTHING: u64 = 0xffff_ffff;
/// Address of an image of the vector state, and its maximum size in pages.
const IMAGE: u64 = 0x40_0000;
const IMAGE_PAGES: u64 = 4;
/// The XSAVE header of an image, and parts of the legacy area: MXCSR with its mask, and bytes without state.
const HEADER: Range<usize> = 512..576;
const MXCSR: Range<usize> = 24..32;
const NO_STATE: Range<usize> = 416..512;
/// The components of AMX, which a host may not offer.
const TILES: u64 = 1 << 17 | 1 << 18;
/// The component PKRU.
const KEYS: u64 = 1 << 9;

/// A guest at the first call of [`code::load_pkru`], if it can set protection keys.
fn with_keys<'a>(machine: &'a Machine, keys: u64) -> Option<Guest<'a>> {
    let mut guest = Guest::new(machine, code::load_pkru());
    guest.registers.rsi = keys;
    match guest.run() {
        Trap::Syscall => Some(guest),
        Trap::Exception { signal: libc::SIGILL, .. } => None,
        trap => panic!("wrpkru: {trap:x?}"),
    }
}

/// The PKRU of a guest in another process.
fn keys_of_another(machine: &Machine) -> u64 {
    let mut other = Guest::new(machine, code::report_pkru());
    other.run_to_call();
    other.registers.r8
}

/// A thread's keys deny all access. Changes of mappings, forks and new threads work nevertheless.
pub fn protection_keys_do_not_hinder_the_platform(machine: &Machine) {
    let Some(mut guest) = with_keys(machine, NOTHING) else { return };
    for changes in [1, 2, 300] {
        for i in 0..changes {
            guest.add(0x100_0000 + i * 2 * PAGE_SIZE, 1, READ_WRITE);
        }
        guest.run_to_call();
        assert_eq!(guest.registers.r8, NOTHING);
    }
    let _room = guest.context.prepare_thread(&*guest.space).unwrap();
    let mut thread = Guest::thread(machine, guest.space.clone());
    thread.registers.rip = guest.registers.rip;
    thread.run_to_call();
    let fork = guest.context.fork_space(&*guest.space).unwrap();
    let mut child = Guest::thread(machine, fork);
    child.context.set_fpu_state(&guest.context.fpu_state().unwrap()).unwrap();
    child.registers.rip = guest.registers.rip;
    for i in 0..9 {
        child.add(0x200_0000 + i * 2 * PAGE_SIZE, 1, READ_WRITE);
        child.run_to_call();
    }
    assert_eq!(child.registers.r8, NOTHING);
    for answers in [&[(39, 7)][..], &[]] {
        guest.context.set_constant_results(answers);
        guest.registers.rax = 39;
        guest.run_to_call();
    }
}

/// An access that the keys deny is the guest's fault, with the `si_code` for it.
pub fn protection_keys_make_faults_of_their_own(machine: &Machine) {
    let Some(mut guest) = with_keys(machine, NOTHING) else { return };
    for code in [code::read_byte(), code::write_byte()] {
        guest.load(code);
        guest.registers.rdi = DATA + 8;
        let denied = Trap::Exception { signal: libc::SIGSEGV, code: SEGV_PKUERR, address: DATA + 8 };
        assert_eq!(guest.run(), denied);
        assert_eq!(guest.registers.rip, CODE);
    }
}

/// A child has the keys it is given, a program after `execve` has the initial ones, and other threads do not see what
/// one has set.
pub fn protection_keys_belong_to_one_thread(machine: &Machine) {
    let Some(first) = with_keys(machine, NOTHING) else { return };
    drop(first);
    let usual = keys_of_another(machine);
    assert_ne!(usual, NOTHING);
    for _ in 0..3 {
        let Some(mut guest) = with_keys(machine, NOTHING) else { return };
        assert_eq!(keys_of_another(machine), usual);
        let state = guest.context.fpu_state().unwrap();
        let fork = guest.context.fork_space(&*guest.space).unwrap();
        let mut child = Guest::thread(machine, fork);
        child.context.set_fpu_state(&state).unwrap();
        child.load(code::report_pkru());
        child.run_to_call();
        assert_eq!(child.registers.r8, NOTHING);
        drop(child);
        assert_eq!(keys_of_another(machine), usual);

        guest.context.reset_fpu_state().unwrap();
        guest.load(code::report_pkru());
        guest.run_to_call();
        assert_eq!(guest.registers.r8, usual);
        guest.context.set_fpu_state(&state).unwrap();
        guest.run_to_call();
        assert_eq!(guest.registers.r8, NOTHING);
        guest.context.recycle(&*guest.space);
        guest.registers.rip = CODE;
        guest.run_to_call();
        assert_eq!(guest.registers.r8, usual);
    }
}

/// Runs code that restores or saves an image of all vector state, in a new process.
fn with_image<'a>(machine: &'a Machine, code: code::Code, image: &[u8]) -> (Guest<'a>, u64, Trap) {
    let mut guest = Guest::new(machine, code);
    let frames = guest.add(IMAGE, IMAGE_PAGES, READ_WRITE);
    machine.memory.write(frames.start, image);
    guest.registers.rdi = IMAGE;
    let trap = guest.run();
    (guest, frames.start, trap)
}

/// The vector state of a new process, without the XSAVE header.
fn fresh_state(machine: &Machine) -> Option<Vec<u8>> {
    let mut image = vec![0; (IMAGE_PAGES * PAGE_SIZE) as usize];
    let (_guest, start, trap) = with_image(machine, code::store_state(), &image);
    if trap != Trap::Syscall {
        assert!(matches!(trap, Trap::Exception { signal: libc::SIGILL, .. }), "{trap:x?}");
        return None;
    }
    machine.memory.read(start, &mut image);
    image[HEADER].fill(0);
    Some(image)
}

/// An image in which every component in `components` differs from the initial state.
fn used_state(components: u64, fresh: &[u8]) -> Vec<u8> {
    let mut image: Vec<u8> = (0..fresh.len()).map(|i| (i % 255) as u8 | 1).collect();
    image[..2].copy_from_slice(&0x0f7fu16.to_le_bytes());
    image[MXCSR].copy_from_slice(&fresh[MXCSR]);
    image[MXCSR.start + 1] ^= 0x60;
    image[HEADER].fill(0);
    image[HEADER.start..HEADER.start + 8].copy_from_slice(&components.to_le_bytes());
    if components & TILES != 0 {
        // Palette 1, with eight tiles of one row each.
        let at = __cpuid_count(0xd, 17).ebx as usize;
        image[at..at + 64].fill(0);
        image[at] = 1;
        for tile in 0..8 {
            image[at + 16 + 2 * tile] = 64;
            image[at + 48 + tile] = 1;
        }
    }
    if components & KEYS != 0 {
        let at = __cpuid_count(0xd, 9).ebx as usize;
        image[at..at + 4].fill(0xff);
    }
    image
}

/// Whatever vector state a thread has used, with permission or not, the next thread finds none of it.
pub fn vector_state_is_nobody_elses(machine: &Machine) {
    let Some(fresh) = fresh_state(machine) else { return };
    let mut asked = Guest::new(machine, code::report_xcr0());
    asked.run_to_call();
    let components = asked.registers.r8;
    let mut loaded = 0;
    for components in [components, components & !TILES, components & 7] {
        let (mut guest, _, trap) = with_image(machine, code::load_state(), &used_state(components, &fresh));
        if trap != Trap::Syscall {
            assert!(matches!(trap, Trap::Exception { .. }), "{trap:x?}");
            continue;
        }
        loaded += 1;
        let left = |what: &str| {
            let found = fresh_state(machine).unwrap();
            let differ: Vec<usize> =
                (0..fresh.len()).filter(|i| !NO_STATE.contains(i) && found[*i] != fresh[*i]).collect();
            assert!(differ.is_empty(), "{what}, components {components:#x}: bytes {differ:?}");
        };
        left("beside it");
        guest.run_to_call();
        guest.context.recycle(&*guest.space);
        left("after it rested");
        drop(guest);
        left("after it ended");
    }
    assert!(loaded > 0);
}
