//! execve(2) and execveat(2).

use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::open::{AT_FDCWD, AtFlags};
use amber_abi::stat::FileType;

use crate::error::SysResult;
use crate::interruption::check_killed;
use crate::loader::{Program, Strings};
use crate::syscalls::args::{DirFd, Envp, Path, StringList};
use crate::syscalls::fs::support::{Found, find_path_at};
use crate::task::{TaskContext, exec};
use crate::vfs::{FileDescription, program};

/// Maximum length of an argument or environment string, with its zero byte.
const STRING_MOST: usize = 128 << 10;
/// Maximum length of all strings, whatever the stack limit: three quarters of Linux's default stack.
const ALL_MOST: usize = 6 << 20;
/// Number of pointers read at once.
const POINTERS: usize = 64;

/// execve(2).
pub(crate) fn execve(ctx: &mut TaskContext, path: Path, arguments: StringList, environment: Envp) -> SysResult {
    run(ctx, AT_FDCWD, path, arguments, environment, AtFlags::empty())
}

/// execveat(2).
pub(crate) fn execveat(
    ctx: &mut TaskContext,
    dirfd: DirFd,
    path: Path,
    arguments: StringList,
    environment: Envp,
    flags: AtFlags,
) -> SysResult {
    if !(AtFlags::AT_EMPTY_PATH | AtFlags::AT_SYMLINK_NOFOLLOW).contains(flags) {
        return Err(Errno::EINVAL.here().into());
    }
    run(ctx, dirfd.0, path, arguments, environment, flags)
}

fn run(
    ctx: &mut TaskContext,
    dirfd: i32,
    path: Path,
    arguments: StringList,
    environment: Envp,
    flags: AtFlags,
) -> SysResult {
    let path = ctx.read_path(path.0)?;
    ctx.check_process_limit()?;
    let empty = flags.contains(AtFlags::AT_EMPTY_PATH);
    let follow = !flags.contains(AtFlags::AT_SYMLINK_NOFOLLOW);
    let file = open_program(ctx, dirfd, &path, follow, empty)?;
    let mut room = ALL_MOST;
    let arguments = read_strings(ctx, arguments.0, &mut room)?;
    let environment = read_strings(ctx, environment.0, &mut room)?;
    let by_descriptor = dirfd != AT_FDCWD && path.first() != Some(&b'/');
    let nameless = by_descriptor && ctx.files().close_on_exec(dirfd).unwrap_or(false);
    let shown = match (by_descriptor, path.is_empty()) {
        (false, _) => path,
        (true, true) => format!("/dev/fd/{dirfd}").into_bytes(),
        (true, false) => [format!("/dev/fd/{dirfd}/").as_bytes(), &path].concat(),
    };
    let program = {
        let mut open = |path: &[u8]| open_program(ctx, AT_FDCWD, path, true, false);
        Program::resolve(file, shown, arguments, environment, nameless, &ctx.kernel().mm.frames, &mut open)?
    };
    exec::execute(ctx, &program)?;
    Ok(0)
}

/// Opens a file for execution.
///
/// # Errors
/// `ELOOP` for a link that is not to be followed; those of the look-up and of [`program::open_inode`].
pub(crate) fn open_program(
    ctx: &TaskContext,
    dirfd: i32,
    path: &[u8],
    follow: bool,
    empty: bool,
) -> Result<Arc<FileDescription>, Errno> {
    if path.is_empty() && !empty {
        return Err(Errno::ENOENT.here());
    }
    let Found { inode, path } = find_path_at(ctx, dirfd, path, follow, empty)?;
    if inode.kind() == FileType::Symlink {
        return Err(Errno::ELOOP.here());
    }
    program::open_inode(&ctx.kernel().vfs, &ctx.credentials(), inode, path)
}

/// Reads an array of strings terminated by NULL. A NULL array counts as empty.
fn read_strings(ctx: &TaskContext, address: u64, room: &mut usize) -> Result<Strings, Errno> {
    let memory = &ctx.kernel().mm.frames;
    let mut strings = Strings::default();
    if address == 0 {
        return Ok(strings);
    }
    let mut at = address;
    loop {
        check_killed()?;
        // A block at once if it can be read, else single pointers up to the NULL.
        let block = ctx.read_array::<u64>(at, POINTERS).or_else(|_| ctx.read_array::<u64>(at, 1))?;
        for pointer in &block {
            if *pointer == 0 {
                return Ok(strings);
            }
            let append = |bytes: &mut Vec<u8>| ctx.append_string(*pointer, STRING_MOST, bytes);
            let len = strings.push_with(memory, append).map_err(|errno| match errno {
                Errno::ENAMETOOLONG => Errno::E2BIG.here(),
                other => other,
            })?;
            let used = len + 1 + size_of::<u64>();
            *room = room.checked_sub(used).ok_or_else(|| Errno::E2BIG.here())?;
        }
        at = at.checked_add(block.len() as u64 * 8).ok_or_else(|| Errno::EFAULT.here())?;
    }
}
