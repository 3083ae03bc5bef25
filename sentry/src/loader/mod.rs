//! Loading programs for execve(2): scripts to their interpreter, ELF files to an address space with a stack.
//!
//! Everything is built beside the caller's address space, so that a failure leaves the caller as it was.

mod elf;
mod image;
mod script;
mod stack;
mod strings;
mod vdso;

use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_platform::GuestMemory;

use crate::credentials::Credentials;
use crate::kernel::Kernel;
use crate::mm::{Layout, MemoryFlags, MemoryLimits, MemoryManager, Randomness};
use crate::vfs::FileDescription;
use elf::Image;
use stack::StackContents;
pub(crate) use strings::Strings;
pub(crate) use vdso::Vdso;

/// Opens a file for execution, by its path.
pub(crate) type Opener<'a> = dyn FnMut(&[u8]) -> Result<Arc<FileDescription>, Errno> + 'a;

/// How many interpreters of scripts may follow each other.
const MOST_INTERPRETERS: usize = 5;

/// A program found, its scripts followed: what will be mapped, and with which arguments.
pub(crate) struct Program {
    /// The ELF file.
    pub file: Arc<FileDescription>,
    /// The path it was opened by: that of the last interpreter for a script.
    pub path: Vec<u8>,
    /// The path given to execve(2).
    pub original_path: Vec<u8>,
    /// `argv`, with what scripts put before.
    pub arguments: Strings,
    /// `envp`.
    pub environment: Strings,
}

/// A program ready to run.
pub(crate) struct Loaded {
    /// Its memory.
    pub mm: Arc<MemoryManager>,
    /// Where it starts: in the interpreter if it has one.
    pub entry: u64,
    /// Its stack pointer.
    pub stack: u64,
}

/// How a program is to be loaded.
pub(crate) struct LoadOptions<'a> {
    /// Who it will run as.
    pub credentials: &'a Credentials,
    /// Whether it gains privileges by being executed (`AT_SECURE`).
    pub secure: bool,
    /// The limits that concern memory.
    pub limits: MemoryLimits,
    /// The rules of its memory.
    pub flags: MemoryFlags,
    /// Whether addresses are random (not under the personality `ADDR_NO_RANDOMIZE`).
    pub randomize: bool,
}

impl Program {
    /// Follows `#!` lines. `open` opens an interpreter for execution; `nameless` says that `path` cannot be opened again
    /// by the interpreter (a descriptor with close-on-exec given to execveat(2)).
    ///
    /// # Errors
    /// `ELOOP` for too many interpreters, `ENOEXEC`, `ENOENT` for a nameless script, `ENOMEM`, those of `open` and of
    /// reading.
    pub(crate) fn resolve(
        file: Arc<FileDescription>,
        path: Vec<u8>,
        arguments: Strings,
        environment: Strings,
        nameless: bool,
        memory: &GuestMemory,
        open: &mut Opener<'_>,
    ) -> Result<Program, Errno> {
        let mut program = Program { file, original_path: path.clone(), path, arguments, environment };
        if program.arguments.count() == 0 {
            // Since Linux 5.18 there is always an argument 0.
            program.arguments = Strings::new(memory, [&b""[..]])?;
        }
        for _ in 0..=MOST_INTERPRETERS {
            let mut head = [0; script::HEAD];
            elf::read_full(&mut |offset, buf| program.file.file().read_at(buf, offset), 0, &mut head)?;
            let Some(shebang) = script::parse(&head)? else { return Ok(program) };
            if nameless {
                return Err(Errno::ENOENT.here());
            }
            let interpreter = open(&shebang.interpreter)?;
            let script_path = std::mem::replace(&mut program.path, shebang.interpreter.clone());
            let before = [Some(&shebang.interpreter), shebang.argument.as_ref(), Some(&script_path)];
            let before = Strings::new(memory, before.into_iter().flatten().map(Vec::as_slice))?;
            program.arguments.replace_first(memory, &before)?;
            program.file = interpreter;
        }
        Err(Errno::ELOOP.here())
    }

    /// Builds the program's memory. `open` opens the ELF interpreter for execution.
    ///
    /// # Errors
    /// `ENOEXEC`, `ELIBBAD` for a bad interpreter, `E2BIG`, `ENOMEM`, `EINVAL` for segments that cannot be mapped, those of
    /// `open` and of reading.
    pub(crate) fn load(
        &self,
        kernel: &Kernel,
        options: &LoadOptions<'_>,
        open: &mut Opener<'_>,
    ) -> Result<Loaded, Errno> {
        let limit = kernel.platform.address_limit();
        stack::check_size(&self.arguments, &self.environment, &self.original_path, options.limits.stack())?;
        let image = read_image(&self.file, limit)?;
        let interpreter = match image.interpreter {
            Some((offset, len)) => Some(self.open_interpreter(offset, len, limit, open)?),
            None => None,
        };
        let random: [u8; 48] = random_bytes()?;
        let mut seed = [0; 32];
        seed.copy_from_slice(&random[..32]);
        let level = if options.randomize { kernel.tunables.randomize.get() } else { 0 };
        let mut randomness = if level > 0 { Randomness::from_bytes(seed) } else { Randomness::default() };
        if level == 1 {
            randomness.heap = 0;
        }
        let space = kernel.platform.new_address_space().map_err(|fault| {
            log::warn!("execve: {fault}");
            Errno::ENOMEM.here()
        })?;
        let layout = Layout::new(limit, options.limits.stack(), &randomness);
        let mm =
            MemoryManager::new(space, kernel.mm.frames.clone(), limit, options.limits.clone(), options.flags, layout);

        let placed = image::map_program(&mm, &self.file, &image, interpreter.is_some(), &randomness)?;
        let (base, entry) = match &interpreter {
            Some((file, image)) => {
                let bias = image::map_interpreter(&mm, file, image)?;
                (bias, bias.wrapping_add(image.entry))
            }
            None => (0, placed.entry),
        };
        if entry >= limit {
            return Err(Errno::EINVAL.here());
        }
        let vdso = kernel.time.vdso.map(&mm)?;
        let mut at_random = [0; 16];
        at_random.copy_from_slice(&random[32..]);
        let contents = StackContents {
            arguments: &self.arguments,
            environment: &self.environment,
            path: &self.original_path,
            credentials: options.credentials,
            secure: options.secure,
            random: at_random,
            executable: image.executable_stack,
            randomize: level > 0,
            headers: placed.headers,
            header_count: image.header_count,
            base,
            entry: placed.entry,
            vdso,
        };
        let stack = contents.build(&mm)?;
        mm.with_layout(|layout| layout.executable = Some(self.file.clone()));
        Ok(Loaded { mm, entry, stack })
    }

    fn open_interpreter(
        &self,
        offset: u64,
        len: u64,
        limit: u64,
        open: &mut Opener<'_>,
    ) -> Result<(Arc<FileDescription>, Image), Errno> {
        let mut path = vec![0; len as usize];
        let got = elf::read_full(&mut |offset, buf| self.file.file().read_at(buf, offset), offset, &mut path)?;
        if got < path.len() {
            return Err(Errno::EIO.here());
        }
        if path.pop() != Some(0) {
            return Err(Errno::ENOEXEC.here());
        }
        let file = open(path.split(|&byte| byte == 0).next().unwrap_or_default())?;
        let image = read_image(&file, limit).map_err(|errno| match errno {
            Errno::ENOEXEC => Errno::ELIBBAD.here(),
            other => other,
        })?;
        if image.segments.is_empty() {
            return Err(Errno::EINVAL.here());
        }
        Ok((file, image))
    }
}

fn read_image(file: &Arc<FileDescription>, limit: u64) -> Result<Image, Errno> {
    Image::parse(limit, |offset, buf| file.file().read_at(buf, offset))
}

/// Bytes no one can guess.
fn random_bytes() -> Result<[u8; 48], Errno> {
    let mut bytes = [0; 48];
    getrandom::fill(&mut bytes).map_err(|_| Errno::EIO.here())?;
    Ok(bytes)
}
