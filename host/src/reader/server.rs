//! The reader's side of the connection.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use amber_abi::errno::Errno;
use amber_abi::stat::{S_IFDIR, S_IFMT, S_IFREG};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::alarm;
use rustix::fs::{Mode, OFlags, RawDir, ResolveFlags, openat2, readlinkat_raw};

use super::wire::{
    ANSWER_BYTES, ATTRIBUTES_BYTES, Kind, REQUEST_BYTES, Request, write_attributes, write_entry, write_head,
};
use super::{MAX_PATH, MAX_READ, OPEN_FILES};
use crate::fs::{self, Result, dirent_kind, of_rustix};

/// How many seconds the host may take for what one request asks; then the call is interrupted.
const PATIENCE: u32 = 2;
/// Room for entries as the host returns them. In an answer each is shorter.
const LISTING: usize = 16 << 10;

/// A tree that is read.
#[derive(Debug)]
pub struct Tree {
    /// Paths begin here.
    pub directory: OwnedFd,
}

/// The files that are open, with the number each has; a number stands for one file ever.
struct Files {
    open: [Option<(u64, OwnedFd)>; OPEN_FILES],
    next: u64,
}

impl Files {
    fn add(&mut self, file: OwnedFd) -> u64 {
        let handle = self.next;
        self.next += 1;
        self.open[handle as usize % OPEN_FILES] = Some((handle, file));
        handle
    }

    fn get(&self, handle: u64) -> Result<BorrowedFd<'_>> {
        match &self.open[handle as usize % OPEN_FILES] {
            Some((number, file)) if *number == handle => Ok(file.as_fd()),
            _ => Err(Errno::ESTALE),
        }
    }

    fn close(&mut self, handle: u64) {
        let slot = &mut self.open[handle as usize % OPEN_FILES];
        if slot.as_ref().is_some_and(|(number, _)| *number == handle) {
            *slot = None;
        }
    }
}

/// Has a call that takes longer than [`PATIENCE`] interrupted. To be called before [`serve`], which makes no such call.
fn prepare() -> io::Result<()> {
    extern "C" fn nothing(_signal: libc::c_int) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, so whatever it interrupts may be in any state.
    unsafe { sigaction(Signal::SIGALRM, &action) }?;
    SigSet::from(Signal::SIGALRM).thread_unblock()?;
    Ok(())
}

/// Makes this process the reader, and nothing else until its end: closes all descriptors but those given, serves the
/// connection, and ends with it. `enter` drops privileges and returns the function that installs the filter ([`serve`]).
/// The text of an error is sent over the connection.
pub fn serve_alone<C: FnOnce() -> io::Result<()>>(
    socket: &OwnedFd,
    trees: &[Tree],
    enter: impl FnOnce() -> io::Result<C>,
) -> ! {
    let served = catch_unwind(AssertUnwindSafe(|| {
        let confine = enter()?;
        let kept = trees.iter().map(|tree| &tree.directory).chain([socket]).map(AsRawFd::as_raw_fd);
        close_others(kept.collect())?;
        serve(socket.as_fd(), trees, confine)
    }));
    if let Ok(Err(error)) = &served {
        // The other end may be closed; then there is no one to report to.
        let _ = nix::unistd::write(socket, error.to_string().as_bytes());
    }
    // SAFETY: the process ends without anything else that it would do at its end.
    unsafe { libc::_exit(i32::from(!matches!(served, Ok(Ok(()))))) }
}

/// Closes all descriptors of this process but these.
fn close_others(mut kept: Vec<RawFd>) -> io::Result<()> {
    kept.sort_unstable();
    let mut first = 0;
    for number in kept.into_iter().chain([RawFd::MAX]) {
        if first < number {
            // SAFETY: the process never returns to the owners of the descriptors ([`serve_alone`]), nor drops them.
            nix::errno::Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, number - 1, 0) })?;
        }
        first = number.saturating_add(1);
    }
    Ok(())
}

/// Answers requests on a connection until its other end is closed. First `confine` restricts this process to the calls
/// of [`crate::calls::READER`], and a datagram reports that it is ready. Allocates nothing after that.
///
/// # Errors
/// Those of `confine` and of the connection.
pub(super) fn serve(
    socket: BorrowedFd<'_>,
    trees: &[Tree],
    confine: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    prepare()?;
    let mut files = Files { open: [const { None }; OPEN_FILES], next: 0 };
    let mut request = [0; REQUEST_BYTES + MAX_PATH];
    let mut answer = [0; ANSWER_BYTES + MAX_READ];
    confine()?;
    nix::unistd::write(socket, &[READY])?;
    loop {
        let len = match nix::unistd::read(socket, &mut request) {
            Ok(0) => return Ok(()),
            // The alarm of the last request.
            Err(nix::errno::Errno::EINTR) => continue,
            read => read?,
        };
        let Some(asked) = Request::read(&request) else { return Err(io::ErrorKind::InvalidData.into()) };
        let path = request.get(REQUEST_BYTES..len).and_then(|path| CStr::from_bytes_with_nul(path).ok());
        alarm::set(PATIENCE);
        let (head, body) = answer.split_at_mut(ANSWER_BYTES);
        let done = match path {
            Some(path) => answer_to(&asked, path, trees, &mut files, body),
            None => Err(Errno::EINVAL),
        };
        let error = done.err().map(|errno| if errno == Errno::EINTR { Errno::EIO } else { errno });
        write_head(head, asked.serial, error);
        let len = ANSWER_BYTES + done.unwrap_or(0);
        loop {
            match nix::unistd::write(socket, &answer[..len]) {
                Err(nix::errno::Errno::EINTR) => {}
                sent => {
                    sent?;
                    break;
                }
            }
        }
    }
}

/// The datagram by which the reader reports that it is ready.
pub(super) const READY: u8 = b'R';

/// Does what is asked, and returns how much of `room` the answer has.
fn answer_to(asked: &Request, path: &CStr, trees: &[Tree], files: &mut Files, room: &mut [u8]) -> Result<usize> {
    let tree = usize::try_from(asked.tree).ok().and_then(|number| trees.get(number)).ok_or(Errno::EINVAL)?;
    let path_only = || open(tree, path, OFlags::PATH);
    match asked.kind {
        Kind::Look => attributes(path_only()?.as_fd(), room).map(|(len, _)| len),
        Kind::Link => {
            let file = path_only()?;
            readlinkat_raw(file, c"", room).map_err(of_rustix)
        }
        Kind::Open => {
            let file = open(tree, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
            let (len, mode) = attributes(file.as_fd(), room)?;
            // Reading from anything else may block, or have an effect.
            if ![S_IFREG, S_IFDIR].contains(&(mode & S_IFMT)) {
                return Err(Errno::EACCES);
            }
            let handle = files.add(file);
            room[len..len + 8].copy_from_slice(&handle.to_le_bytes());
            Ok(len + 8)
        }
        Kind::Read => {
            let len = room.len().min(usize::try_from(asked.len).unwrap_or(usize::MAX));
            fs::read_at(files.get(asked.handle)?, &mut room[..len], asked.offset)
        }
        Kind::List => list(files.get(asked.handle)?, room),
        Kind::Close => {
            files.close(asked.handle);
            Ok(0)
        }
    }
}

/// Opens what is under a path, or the tree's own directory under an empty one.
fn open(tree: &Tree, path: &CStr, flags: OFlags) -> Result<OwnedFd> {
    let path = if path.is_empty() { c"." } else { path };
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    openat2(&tree.directory, path, flags, Mode::empty(), beneath).map_err(of_rustix)
}

fn attributes(file: BorrowedFd<'_>, room: &mut [u8]) -> Result<(usize, u32)> {
    let found = fs::look(file)?;
    write_attributes(room, &found, fs::statfs(file)?.f_type);
    Ok((ATTRIBUTES_BYTES, found.stat.mode))
}

fn list(directory: BorrowedFd<'_>, room: &mut [u8]) -> Result<usize> {
    let mut buffer = [MaybeUninit::uninit(); LISTING];
    let mut entries = RawDir::new(directory, &mut buffer);
    let mut len = 0;
    // The host's `.` and `..` are left out, so what it returned at once may come to nothing: then the next are asked for.
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(of_rustix)?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            let rest = room.get_mut(len..).unwrap_or_default();
            len += write_entry(rest, entry.ino(), dirent_kind(entry.file_type()), name).ok_or(Errno::EIO)?;
        }
        if len > 0 && entries.is_buffer_empty() {
            break;
        }
    }
    Ok(len)
}
