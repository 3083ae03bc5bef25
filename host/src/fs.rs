//! Host files, named by a directory descriptor and one path component.
//!
//! No function here follows a symbolic link or accepts a name with a slash, `.` or `..` unless it says so. So the files
//! reachable from a directory are those beneath it, whatever other processes do to the tree meanwhile.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use amber_abi::errno::Errno;
use amber_abi::open::{OpenFlags, RenameFlags};
use amber_abi::stat::StatFs;
use amber_abi::time::Timespec;
use nix::fcntl::{AtFlags, FallocateFlags, OFlag};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag};
use nix::unistd::{Gid, LinkatFlags, Uid, UnlinkatFlags, Whence};
use rustix::fs::{
    FileType, OFlags, RawDir, ResolveFlags, Statx, StatxFlags, StatxTimestamp, Timestamps, UTIME_NOW, UTIME_OMIT,
    makedev, openat2, statx, utimensat,
};

use crate::trees::path_of;
use crate::users;

/// The result of a host call, with the host's errno; `EMFILE` is shown as `ENFILE`, since all guests share the descriptors.
pub type Result<T> = std::result::Result<T, Errno>;

/// The errno to show for one of the host. Amber's process has the descriptors of all guests: to a guest, running out of
/// them is a limit of the system, not of its process.
#[track_caller]
fn shown(raw: i32) -> Errno {
    let errno = Errno::from_raw(raw);
    if errno == Errno::EMFILE { Errno::ENFILE.here() } else { errno.here() }
}

/// The errno that the guest sees for an error of `nix`.
#[track_caller]
pub(crate) fn errno(error: nix::errno::Errno) -> Errno {
    shown(error as i32)
}

/// The errno that the guest sees for an error of `rustix`.
#[track_caller]
pub(crate) fn of_rustix(error: rustix::io::Errno) -> Errno {
    shown(error.raw_os_error())
}

/// The fields requested for [`Found`].
const STATX_FIELDS: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME).union(StatxFlags::MNT_ID);

/// The errno of a failed standard library call.
pub(crate) fn io_errno(error: io::Error) -> Errno {
    Errno::from_host(error)
}

/// The attributes of a host file.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields of stat(2)")]
pub struct HostStat {
    pub device: u64,
    pub number: u64,
    pub mode: u32,
    pub links: u64,
    pub uid: u32,
    pub gid: u32,
    pub special: u64,
    pub size: u64,
    pub block_size: u32,
    pub blocks: u64,
    pub accessed: Timespec,
    pub modified: Timespec,
    pub changed: Timespec,
    /// The birth time; `None` if the file system has none.
    pub born: Option<Timespec>,
}

/// The attributes of a host file, and the mount that it was found on.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// As returned by stat(2).
    pub stat: HostStat,
    /// The mount ID, which is the same for all files of a mount; `None` on hosts that do not report it.
    pub mount: Option<u64>,
}

impl From<Statx> for Found {
    fn from(told: Statx) -> Self {
        let time = |at: StatxTimestamp| Timespec { tv_sec: at.tv_sec, tv_nsec: at.tv_nsec.into() };
        let has = |field| StatxFlags::from_bits_retain(told.stx_mask).contains(field);
        let stat = HostStat {
            device: makedev(told.stx_dev_major, told.stx_dev_minor),
            number: told.stx_ino,
            mode: told.stx_mode.into(),
            links: told.stx_nlink.into(),
            uid: users::to_guest(users::Kind::Users, told.stx_uid),
            gid: users::to_guest(users::Kind::Groups, told.stx_gid),
            special: makedev(told.stx_rdev_major, told.stx_rdev_minor),
            size: told.stx_size,
            block_size: told.stx_blksize,
            blocks: told.stx_blocks,
            accessed: time(told.stx_atime),
            modified: time(told.stx_mtime),
            changed: time(told.stx_ctime),
            born: has(StatxFlags::BTIME).then(|| time(told.stx_btime)),
        };
        Found { stat, mount: has(StatxFlags::MNT_ID).then_some(told.stx_mnt_id) }
    }
}

/// An entry of a host directory.
#[derive(Clone, Debug)]
pub struct HostEntry {
    /// The name.
    pub name: Box<[u8]>,
    /// The inode number.
    pub number: u64,
    /// The `DT_` value.
    pub kind: u8,
}

/// How to set a time stamp.
#[derive(Clone, Copy, Debug)]
pub enum HostTime {
    /// Leave it unchanged.
    Keep,
    /// Set it to the host's current time.
    Now,
    /// Set it to this time.
    At(Timespec),
}

impl HostTime {
    fn spec(self) -> rustix::fs::Timespec {
        let (tv_sec, tv_nsec) = match self {
            HostTime::Keep => (0, UTIME_OMIT),
            HostTime::Now => (0, UTIME_NOW),
            HostTime::At(t) => (t.tv_sec, t.tv_nsec),
        };
        rustix::fs::Timespec { tv_sec, tv_nsec }
    }
}

/// Size of the buffer for directory entries.
const LISTING: usize = 16 << 10;

/// Refuses a name that is not a plain component, so that no call can leave its directory.
fn component(name: &[u8]) -> Result<&OsStr> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
        return Err(Errno::EINVAL.here());
    }
    Ok(OsStr::from_bytes(name))
}

/// Opens a path given by the operator, following symbolic links, with `O_PATH`.
pub fn open_root(path: &Path) -> Result<OwnedFd> {
    nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(errno)
}

/// Opens an absolute path with `O_PATH`. Fails with `ELOOP` if the path contains a symbolic link.
pub fn open_without_links(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    openat2(rustix::fs::CWD, path, flags, rustix::fs::Mode::empty(), ResolveFlags::NO_SYMLINKS).map_err(of_rustix)
}

/// Opens an entry of a directory. A symbolic link results in `ELOOP` (or in the link itself, with `O_PATH`). Never
/// waits for the other end of a FIFO, and never makes a terminal the controlling one.
pub fn open_at(directory: BorrowedFd<'_>, name: &[u8], flags: OpenFlags, permissions: u16) -> Result<OwnedFd> {
    let always = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    let flags = OFlag::from_bits_retain(flags.bits() as i32) | always;
    nix::fcntl::openat(directory, component(name)?, flags, Mode::from_bits_truncate(permissions.into())).map_err(errno)
}

/// Opens a regular file for reading or writing, without updating its access time if the host permits that.
pub fn open_file_at(directory: BorrowedFd<'_>, name: &[u8], flags: OpenFlags) -> Result<OwnedFd> {
    match open_at(directory, name, flags | OpenFlags::O_NOATIME, 0) {
        Err(Errno::EPERM) => open_at(directory, name, flags, 0),
        answer => answer,
    }
}

/// Opens the file behind a descriptor again, whatever its name stands for now. `O_PATH` suffices for the descriptor.
///
/// # Errors
/// `ENOENT` if the host has no `/proc`.
pub fn reopen(file: BorrowedFd<'_>, flags: OpenFlags) -> Result<OwnedFd> {
    let (descriptors, path) = path_of(file);
    let flags = OFlag::from_bits_retain(flags.bits() as i32) | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    nix::fcntl::openat(descriptors, path.as_str(), flags, Mode::empty()).map_err(errno)
}

/// Opens `directory` itself again, for listing or synchronising.
pub fn reopen_directory(directory: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let quiet = nix::fcntl::openat(directory, ".", flags | OFlag::O_NOATIME, Mode::empty());
    let opened = match quiet {
        Err(nix::errno::Errno::EPERM) => nix::fcntl::openat(directory, ".", flags, Mode::empty()),
        opened => opened,
    };
    opened.map_err(errno)
}

/// fstat(2).
pub fn stat(file: BorrowedFd<'_>) -> Result<HostStat> {
    look(file).map(|found| found.stat)
}

/// Attributes of an entry. Does not follow symbolic links.
pub fn stat_at(directory: BorrowedFd<'_>, name: &[u8]) -> Result<HostStat> {
    look_at(directory, name).map(|found| found.stat)
}

/// Like [`stat`], with the mount of the open file.
pub fn look(file: BorrowedFd<'_>) -> Result<Found> {
    statx(file, "", rustix::fs::AtFlags::EMPTY_PATH, STATX_FIELDS).map(Found::from).map_err(of_rustix)
}

/// Like [`stat_at`], with the mount of the entry. Triggers no automount.
pub fn look_at(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Found> {
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW | rustix::fs::AtFlags::NO_AUTOMOUNT;
    statx(directory, component(name)?, flags, STATX_FIELDS).map(Found::from).map_err(of_rustix)
}

/// The entries of a directory without `.` and `..`, in the host's order.
pub fn list(directory: BorrowedFd<'_>) -> Result<Vec<HostEntry>> {
    let mut room = [MaybeUninit::uninit(); LISTING];
    let mut dir = RawDir::new(reopen_directory(directory)?, &mut room);
    let mut entries = Vec::new();
    while let Some(entry) = dir.next() {
        let entry = entry.map_err(of_rustix)?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            entries.push(HostEntry { name: name.into(), number: entry.ino(), kind: dirent_kind(entry.file_type()) });
        }
    }
    Ok(entries)
}

/// The `d_type` of readdir(3) for a type of file.
pub(crate) fn dirent_kind(kind: FileType) -> u8 {
    match kind {
        FileType::Fifo => libc::DT_FIFO,
        FileType::CharacterDevice => libc::DT_CHR,
        FileType::Directory => libc::DT_DIR,
        FileType::BlockDevice => libc::DT_BLK,
        FileType::RegularFile => libc::DT_REG,
        FileType::Symlink => libc::DT_LNK,
        FileType::Socket => libc::DT_SOCK,
        FileType::Unknown => libc::DT_UNKNOWN,
    }
}

/// The target of a symbolic link that was opened with `O_PATH`.
pub fn read_link(file: BorrowedFd<'_>) -> Result<Vec<u8>> {
    let text = nix::fcntl::readlinkat(file, "").map_err(errno)?;
    Ok(text.as_bytes().to_vec())
}

/// mkdirat(2).
pub fn make_directory_at(directory: BorrowedFd<'_>, name: &[u8], permissions: u16) -> Result<()> {
    let mode = Mode::from_bits_truncate(permissions.into());
    nix::sys::stat::mkdirat(directory, component(name)?, mode).map_err(errno)
}

/// Makes a FIFO, a socket node or, if the operator has the privilege, a device node.
pub fn make_node_at(directory: BorrowedFd<'_>, name: &[u8], mode: u32, device: u64) -> Result<()> {
    let (kind, permissions) = (SFlag::from_bits_truncate(mode), Mode::from_bits_truncate(mode));
    nix::sys::stat::mknodat(directory, component(name)?, kind, permissions, device).map_err(errno)
}

/// Makes a symbolic link with this target.
pub fn make_link_at(directory: BorrowedFd<'_>, name: &[u8], target: &[u8]) -> Result<()> {
    nix::unistd::symlinkat(OsStr::from_bytes(target), directory, component(name)?).map_err(errno)
}

/// Makes a regular file without a name (`O_TMPFILE`). Only a `linkable` one can get a name.
pub fn open_unnamed(directory: BorrowedFd<'_>, permissions: u16, linkable: bool) -> Result<OwnedFd> {
    let exclusive = if linkable { OFlag::empty() } else { OFlag::O_EXCL };
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC | exclusive;
    nix::fcntl::openat(directory, ".", flags, Mode::from_bits_truncate(permissions.into())).map_err(errno)
}

/// Links an open file to a name.
///
/// # Errors
/// `ENOENT` if the file must not get a name.
pub fn link_file_at(file: BorrowedFd<'_>, directory: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    let name = component(name)?;
    match nix::unistd::linkat(file, "", directory, name, LinkatFlags::AT_EMPTY_PATH) {
        // Without privileges (before Linux 6.10 even for own files), this is the way.
        Err(nix::errno::Errno::ENOENT) => {
            let (descriptors, path) = path_of(file);
            let follow = LinkatFlags::AT_SYMLINK_FOLLOW;
            nix::unistd::linkat(descriptors, path.as_str(), directory, name, follow).map_err(errno)
        }
        answer => answer.map_err(errno),
    }
}

/// unlinkat(2), for entries that are not directories.
pub fn unlink_at(directory: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    nix::unistd::unlinkat(directory, component(name)?, UnlinkatFlags::NoRemoveDir).map_err(errno)
}

/// Removes an empty directory.
pub fn remove_directory_at(directory: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    nix::unistd::unlinkat(directory, component(name)?, UnlinkatFlags::RemoveDir).map_err(errno)
}

/// renameat2(2).
pub fn rename_at(
    from: BorrowedFd<'_>,
    name: &[u8],
    to: BorrowedFd<'_>,
    new_name: &[u8],
    flags: RenameFlags,
) -> Result<()> {
    // The C library's wrapper makes another system call if there are no flags.
    let flags = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
    rustix::fs::renameat_with(from, component(name)?, to, component(new_name)?, flags).map_err(of_rustix)
}

/// Changes owner and group of an open file, also of one opened with `O_PATH`; `None` keeps a value.
pub fn set_owner(file: BorrowedFd<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    let uid = uid.map(|uid| Uid::from_raw(users::to_host(users::Kind::Users, uid)));
    let gid = gid.map(|gid| Gid::from_raw(users::to_host(users::Kind::Groups, gid)));
    nix::unistd::fchownat(file, "", uid, gid, AtFlags::AT_EMPTY_PATH).map_err(errno)
}

/// Changes the permissions of a file opened with `O_PATH`, on hosts before Linux 6.6, which lack fchmodat2(2).
pub fn set_permissions_of_path(file: BorrowedFd<'_>, permissions: u16) -> Result<()> {
    let (descriptors, path) = path_of(file);
    let mode = Mode::from_bits_truncate(permissions.into());
    nix::sys::stat::fchmodat(descriptors, path.as_str(), mode, FchmodatFlags::FollowSymlink).map_err(errno)
}

/// Sets the time stamps of an open file, also of one opened with `O_PATH`.
pub fn set_times(file: BorrowedFd<'_>, accessed: HostTime, modified: HostTime) -> Result<()> {
    let times = Timestamps { last_access: accessed.spec(), last_modification: modified.spec() };
    utimensat(file, "", &times, rustix::fs::AtFlags::EMPTY_PATH).map_err(of_rustix)
}

/// ftruncate(2).
pub fn set_size(file: BorrowedFd<'_>, size: u64) -> Result<()> {
    nix::unistd::ftruncate(file, size as i64).map_err(errno)
}

/// pread(2).
pub fn read_at(file: impl AsFd, buf: &mut [u8], offset: u64) -> Result<usize> {
    nix::sys::uio::pread(file, buf, offset as i64).map_err(errno)
}

/// pwrite(2).
pub fn write_at(file: impl AsFd, buf: &[u8], offset: u64) -> Result<usize> {
    nix::sys::uio::pwrite(file, buf, offset as i64).map_err(errno)
}

/// The file offset of the descriptor.
///
/// # Errors
/// `ESPIPE` if the file has none.
pub fn position(file: BorrowedFd<'_>) -> Result<u64> {
    nix::unistd::lseek(file, 0, Whence::SeekCur).map(|at| at as u64).map_err(errno)
}

/// Sets the file offset of the descriptor.
pub fn set_position(file: BorrowedFd<'_>, position: u64) -> Result<()> {
    nix::unistd::lseek(file, position as i64, Whence::SeekSet).map(drop).map_err(errno)
}

/// fallocate(2), with all of its modes.
pub fn allocate(file: BorrowedFd<'_>, mode: u32, offset: u64, len: u64) -> Result<()> {
    let mode = FallocateFlags::from_bits_retain(mode as i32);
    nix::fcntl::fallocate(file, mode, offset as i64, len as i64).map_err(errno)
}

/// Offset of the next data, or hole, at or after `offset`. Moves the file offset of the descriptor, which nothing else
/// uses.
pub fn seek_data(file: BorrowedFd<'_>, offset: u64, hole: bool) -> Result<u64> {
    let whence = if hole { Whence::SeekHole } else { Whence::SeekData };
    nix::unistd::lseek(file, offset as i64, whence).map(|at| at as u64).map_err(errno)
}

/// fsync(2) or fdatasync(2).
pub fn sync(file: BorrowedFd<'_>, data_only: bool) -> Result<()> {
    if data_only { nix::unistd::fdatasync(file) } else { nix::unistd::fsync(file) }.map_err(errno)
}

/// fstatfs(2).
pub fn statfs(file: BorrowedFd<'_>) -> Result<StatFs> {
    let s = nix::sys::statfs::fstatfs(file).map_err(errno)?;
    Ok(StatFs {
        f_type: s.filesystem_type().0,
        f_bsize: s.block_size(),
        f_blocks: s.blocks(),
        f_bfree: s.blocks_free(),
        f_bavail: s.blocks_available(),
        f_files: s.files(),
        f_ffree: s.files_free(),
        f_namelen: s.maximum_name_length(),
        f_frsize: s.block_size(),
        ..StatFs::default()
    })
}

/// Access mode and status flags of a descriptor (`F_GETFL`).
pub fn flags(file: BorrowedFd<'_>) -> Result<OpenFlags> {
    let flags = nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_GETFL).map_err(errno)?;
    Ok(OpenFlags::from_bits_retain(flags as u32))
}

/// Makes the open file non-blocking, for all processes that share it.
pub fn set_nonblocking(file: BorrowedFd<'_>) -> Result<()> {
    let flags = nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_GETFL).map_err(errno)?;
    let flags = nix::fcntl::OFlag::from_bits_retain(flags) | nix::fcntl::OFlag::O_NONBLOCK;
    nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_SETFL(flags)).map_err(errno).map(drop)
}

/// Another descriptor of the same open file.
pub fn duplicate(file: BorrowedFd<'_>) -> Result<OwnedFd> {
    file.as_fd().try_clone_to_owned().map_err(io_errno)
}

/// Reads at the file offset, which all processes with this open file share.
pub fn read(file: BorrowedFd<'_>, buf: &mut [u8]) -> Result<usize> {
    nix::unistd::read(file, buf).map_err(errno)
}

/// Reads all bytes from the file offset on.
pub fn read_to_end(file: BorrowedFd<'_>) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match read(file, &mut piece) {
            Ok(0) => return Ok(content),
            Ok(count) => content.extend_from_slice(&piece[..count]),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Writes at the file offset, which all processes with this open file share.
pub fn write(file: BorrowedFd<'_>, buf: &[u8]) -> Result<usize> {
    nix::unistd::write(file, buf).map_err(errno)
}
