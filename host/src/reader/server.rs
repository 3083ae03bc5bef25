//! The reader's end of the connection.

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

/// Maximum time in seconds for the host calls of one request. Then SIGALRM interrupts them.
const TIMEOUT: u32 = 2;
/// Size of the buffer for directory entries from the host. In an answer, each is shorter.
const LISTING: usize = 16 << 10;

/// A tree to read from.
#[derive(Debug)]
pub struct Tree {
    /// The directory in which paths begin.
    pub directory: OwnedFd,
}

/// The open files with their handles. A handle is never reused.
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

/// Lets SIGALRM interrupt a call that takes longer than [`TIMEOUT`]. Call this before [`serve`], whose filter forbids
/// it.
fn prepare() -> io::Result<()> {
    extern "C" fn nothing(_signal: libc::c_int) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, so whatever it interrupts may be in any state.
    unsafe { sigaction(Signal::SIGALRM, &action) }?;
    SigSet::from(Signal::SIGALRM).thread_unblock()?;
    Ok(())
}

/// Turns this process into the reader. Closes all descriptors except those given, serves the connection, and ends with
/// it. `enter` drops privileges and returns the function that installs the filter (see `serve`). An error is sent
/// over the connection as text.
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
        // If the other end is closed, there is nowhere to report to.
        let _ = nix::unistd::write(socket, error.to_string().as_bytes());
    }
    // SAFETY: the process ends without anything else that it would do at its end.
    unsafe { libc::_exit(i32::from(!matches!(served, Ok(Ok(()))))) }
}

/// Closes all descriptors of this process except these.
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

/// Answers requests on a connection until its other end is closed. First, `confine` restricts this process to the calls
/// of [`crate::calls::READER`], and a datagram reports that it is ready. Does not allocate after that.
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
        alarm::set(TIMEOUT);
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

/// Serves a request; returns how many bytes of `room` the answer uses.
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
            // Reading other files may block, or have side effects.
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

/// Opens the file at a path; the tree's directory itself if the path is empty.
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
    // Since `.` and `..` are left out, a buffer from the host may contain nothing else. Then the next one is read.
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
