//! A minimal sentry.

use std::ops::Range;
use std::sync::Arc;

use amber_platform::{
    AddressSpace, Context, FrameRange, Frames, GuestMemory, PAGE_SIZE, Platform, Protection, Registers, Trap,
};

use crate::code::Code;

/// Loads only.
pub const READ: Protection = Protection { read: true, write: false, execute: false };
/// Loads and stores.
pub const READ_WRITE: Protection = Protection { read: true, write: true, execute: false };
/// Loads and instruction fetches.
pub const READ_EXECUTE: Protection = Protection { read: true, write: false, execute: true };

/// Address of the guests' code.
pub const CODE: u64 = 0x10_0000;
/// Address of the guests' data.
pub const DATA: u64 = 0x20_0000;
/// Address of the guests' stack.
const STACK: u64 = 0x30_0000;

/// A platform and the memory it was made for.
pub struct Machine {
    /// The platform under test.
    pub platform: Arc<dyn Platform>,
    /// The memory of its guests.
    pub memory: Arc<GuestMemory>,
}

/// A guest process with one thread, or another thread of such a process.
pub struct Guest<'a> {
    /// The machine that it runs on.
    pub machine: &'a Machine,
    /// The address space.
    pub space: Arc<dyn AddressSpace>,
    /// The thread's context.
    pub context: Box<dyn Context>,
    /// The thread's registers.
    pub registers: Registers,
    /// The frames that it owns.
    pub frames: Vec<Frames>,
}

impl<'a> Guest<'a> {
    /// A guest that is about to run `code`, with a page of data and a page of stack.
    pub fn new(machine: &'a Machine, code: Code) -> Self {
        let space = machine.platform.new_address_space().unwrap();
        let context = machine.platform.new_context().unwrap();
        let registers = Registers { rdi: DATA, ..Registers::for_program(CODE, STACK + PAGE_SIZE - 64) };
        let mut guest = Guest { machine, space, context, registers, frames: Vec::new() };
        guest.load(code);
        guest.add(DATA, 1, READ_WRITE);
        guest.add(STACK, 1, READ_WRITE);
        guest
    }

    /// Another thread in `space`, about to run the code that is mapped there.
    pub fn thread(machine: &'a Machine, space: Arc<dyn AddressSpace>) -> Self {
        let context = machine.platform.new_context().unwrap();
        let registers = Registers { rdi: DATA, ..Registers::for_program(CODE, STACK + PAGE_SIZE - 64) };
        Guest { machine, space, context, registers, frames: Vec::new() }
    }

    /// Maps a page with `code` at [`CODE`], and sets `rip` to it.
    pub fn load(&mut self, code: Code) {
        let frames = self.add(CODE, 1, READ_EXECUTE);
        self.machine.memory.write(frames.start, code);
        self.registers.rip = CODE;
    }

    /// Allocates zeroed frames.
    pub fn allocate(&mut self, pages: u64) -> FrameRange {
        let frames = self.machine.memory.allocate(pages * PAGE_SIZE, PAGE_SIZE).unwrap();
        let range = frames.range();
        self.frames.push(frames);
        range
    }

    /// Maps newly allocated frames.
    pub fn add(&mut self, at: u64, pages: u64, protection: Protection) -> FrameRange {
        let frames = self.allocate(pages);
        self.space.map(at, frames, protection);
        frames
    }

    /// Unmaps pages.
    pub fn remove(&self, range: Range<u64>) {
        self.space.unmap(range, Vec::new());
    }

    /// Runs until a trap.
    pub fn run(&mut self) -> Trap {
        self.context.run(&*self.space, &mut self.registers).unwrap()
    }

    /// Runs until a system call.
    pub fn run_to_call(&mut self) {
        assert_eq!(self.run(), Trap::Syscall, "at {:#x}", self.registers.rip);
    }
}
