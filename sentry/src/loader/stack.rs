//! The first stack of a program: strings, the auxiliary vector, and pointers to both.

use amber_abi::elf::{
    AT_BASE, AT_CLKTCK, AT_EGID, AT_ENTRY, AT_EUID, AT_EXECFN, AT_FLAGS, AT_GID, AT_HWCAP, AT_HWCAP2, AT_MINSIGSTKSZ,
    AT_NULL, AT_PAGESZ, AT_PHDR, AT_PHENT, AT_PHNUM, AT_PLATFORM, AT_RANDOM, AT_SECURE, AT_SYSINFO_EHDR, AT_UID,
};
use amber_abi::errno::Errno;
use amber_abi::time::USER_HZ;
use amber_platform::{PAGE_SIZE, Protection, processor};

use super::Strings;
use crate::credentials::Credentials;
use crate::mm::{Backed, MapRequest, MemoryManager, Place, VmaFlags};

/// The longest single argument or environment string, with its zero.
const MOST_STRING: usize = 128 << 10;
/// Strings may always take this much, whatever the stack limit.
const LEAST_ROOM: u64 = 128 << 10;
/// Strings may never take more than this: three quarters of Linux's default stack.
const MOST_ROOM: u64 = (8 << 20) / 4 * 3;
/// How far the stack's area reaches below what is on it.
const FIRST_GROWTH: u64 = 128 << 10;

/// What the program will find.
pub(super) struct StackContents<'a> {
    /// `argv`.
    pub arguments: &'a Strings,
    /// `envp`.
    pub environment: &'a Strings,
    /// The path given to execve(2).
    pub path: &'a [u8],
    /// Who it runs as.
    pub credentials: &'a Credentials,
    /// Whether it gained privileges by being executed.
    pub secure: bool,
    /// For `AT_RANDOM` and the place of the stack pointer.
    pub random: [u8; 16],
    /// Whether the stack is executable.
    pub executable: bool,
    /// Whether the stack pointer is moved at random.
    pub randomize: bool,
    /// Where the program headers are.
    pub headers: u64,
    /// How many there are.
    pub header_count: u16,
    /// Where the interpreter is; 0 without one.
    pub base: u64,
    /// Where the program itself starts.
    pub entry: u64,
    /// Where the vDSO is; 0 without one.
    pub vdso: u64,
}

/// Checks the size of arguments and environment against the stack limit.
///
/// # Errors
/// `E2BIG`.
pub(super) fn check_size(
    arguments: &Strings,
    environment: &Strings,
    path: &[u8],
    stack_limit: u64,
) -> Result<(), Errno> {
    let room = MOST_ROOM.min(stack_limit / 4).max(LEAST_ROOM);
    let pointers = (arguments.count().max(1) as u64 + environment.count() as u64) * 8;
    if arguments.iter().chain(environment.iter()).any(|text| text.len() > MOST_STRING) {
        return Err(Errno::E2BIG.here());
    }
    let bytes = (arguments.bytes().len() + environment.bytes().len() + path.len() + 1) as u64;
    if pointers.saturating_add(bytes) > room { Err(Errno::E2BIG.here()) } else { Ok(()) }
}

/// Words on their way to the stack, some at a time.
struct Words<'a> {
    mm: &'a MemoryManager,
    at: u64,
    pending: Vec<u8>,
}

impl Words<'_> {
    fn push(&mut self, word: u64) -> Result<(), Errno> {
        self.pending.extend_from_slice(&word.to_le_bytes());
        if self.pending.len() < PAGE_SIZE as usize { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), Errno> {
        self.mm.write(self.at, &self.pending)?;
        self.at += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }
}

impl StackContents<'_> {
    /// Makes the stack's area with its contents; returns the stack pointer.
    ///
    /// # Errors
    /// `ENOMEM`, or `E2BIG` if it does not fit the stack limit.
    pub(super) fn build(&self, mm: &MemoryManager) -> Result<u64, Errno> {
        let top = mm.with_layout(|layout| layout.stack_top);
        // From the top down: a zero word, the path, the environment, the arguments.
        let path_at = top - 8 - (self.path.len() as u64 + 1);
        let env_start = path_at - self.environment.bytes().len() as u64;
        let arg_start = env_start - self.arguments.bytes().len() as u64;

        let shift =
            if self.randomize { u64::from(self.random[0]) << 4 | u64::from(self.random[1] & 0x1) << 12 } else { 0 };
        let platform_at = (arg_start - shift - 7) & !15;
        let random_at = platform_at - 16;
        let auxv = self.auxiliary_vector(platform_at, random_at, path_at);
        let words = 1 + self.arguments.count() + 1 + self.environment.count() + 1 + auxv.len();
        let pointer = (random_at - words as u64 * 8) & !15;

        let limit = mm.limits().stack().max(PAGE_SIZE * 32);
        let used = top - pointer;
        if used > limit {
            return Err(Errno::E2BIG.here());
        }
        let len = (used + FIRST_GROWTH).min(limit.max(used)).next_multiple_of(PAGE_SIZE);
        mm.map(MapRequest {
            place: Place::FixedFree(top - len),
            len,
            protection: Protection { read: true, write: true, execute: self.executable },
            flags: VmaFlags::MAY_ALL | VmaFlags::GROWS_DOWN,
            backed: Backed::Anonymous,
            populate: false,
            may_lock_any: true,
        })
        .map_err(|_| Errno::ENOMEM.here())?;

        let mut table = Words { mm, at: pointer, pending: Vec::new() };
        table.push(self.arguments.count() as u64)?;
        for (start, list) in [(arg_start, self.arguments), (env_start, self.environment)] {
            let mut at = start;
            for text in list.iter() {
                table.push(at)?;
                at += text.len() as u64;
            }
            table.push(0)?;
        }
        auxv.iter().try_for_each(|&word| table.push(word))?;
        table.flush()?;
        mm.write(random_at, &self.random)?;
        mm.write(platform_at, b"x86_64\0")?;
        mm.write(arg_start, self.arguments.bytes())?;
        mm.write(env_start, self.environment.bytes())?;
        mm.write(path_at, self.path)?;
        mm.with_layout(|layout| {
            layout.start_stack = pointer;
            (layout.arg_start, layout.arg_end) = (arg_start, env_start);
            (layout.env_start, layout.env_end) = (env_start, path_at);
            layout.auxv = auxv;
        });
        Ok(pointer)
    }

    fn auxiliary_vector(&self, platform: u64, random: u64, path: u64) -> Vec<u64> {
        let mut auxv = Vec::new();
        let mut put = |kind: u64, value: u64| auxv.extend_from_slice(&[kind, value]);
        if self.vdso != 0 {
            put(AT_SYSINFO_EHDR, self.vdso);
        }
        let frame = processor::signal_frame_size();
        if frame != 0 {
            put(AT_MINSIGSTKSZ, frame);
        }
        put(AT_HWCAP, processor::capabilities());
        put(AT_PAGESZ, PAGE_SIZE);
        put(AT_CLKTCK, USER_HZ);
        put(AT_PHDR, self.headers);
        put(AT_PHENT, 56);
        put(AT_PHNUM, u64::from(self.header_count));
        put(AT_BASE, self.base);
        put(AT_FLAGS, 0);
        put(AT_ENTRY, self.entry);
        put(AT_UID, u64::from(self.credentials.uid));
        put(AT_EUID, u64::from(self.credentials.euid));
        put(AT_GID, u64::from(self.credentials.gid));
        put(AT_EGID, u64::from(self.credentials.egid));
        put(AT_SECURE, u64::from(self.secure));
        put(AT_RANDOM, random);
        put(AT_HWCAP2, processor::further_capabilities());
        put(AT_EXECFN, path);
        put(AT_PLATFORM, platform);
        put(AT_NULL, 0);
        auxv
    }
}
