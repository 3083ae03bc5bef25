//! `/proc/PID/fd` and `/proc/PID/fdinfo`.

use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;

use super::process::shown;
use crate::fs::pseudo::{Entry, Listed, Listing, Pieces, Query, Subject, number};
use crate::kernel::Kernel;
use crate::vfs::{Dentry, FileDescription, Mount, Path, Vfs};

static READ_ONLY: Entry = Entry { permissions: 0o500, ..LINK };
static WRITE_ONLY: Entry = Entry { permissions: 0o300, ..LINK };
static READ_WRITE: Entry = Entry { permissions: 0o700, ..LINK };
static PATH_ONLY: Entry = Entry { permissions: 0o000, ..LINK };
const LINK: Entry = Entry::magic("", target, target_text);
static INFO: Entry = Entry::long("", 0o444, info).guarded();

fn description(subject: &Subject, fd: i32) -> Result<Arc<FileDescription>, Errno> {
    let task = subject.task().map_err(|_| Errno::ENOENT.here())?;
    if task.has_ended() {
        return Err(Errno::ENOENT.here());
    }
    task.files().get_any(fd).map_err(|_| Errno::ENOENT.here())
}

fn entry_of(description: &FileDescription) -> &'static Entry {
    match (description.is_readable(), description.is_writable()) {
        (true, true) => &READ_WRITE,
        (true, false) => &READ_ONLY,
        (false, true) => &WRITE_ONLY,
        (false, false) => &PATH_ONLY,
    }
}

/// A path for a file without one, so that it can be reopened.
fn place_of(vfs: &Arc<Vfs>, description: &FileDescription) -> Path {
    let inode = description.file().inode();
    let name = description.file().link_text().unwrap_or_default();
    let mount = Mount::internal(vfs, inode.file_system());
    Path { mount, dentry: Dentry::unnamed(vfs, inode, name.as_bytes()) }
}

fn target(query: &Query<'_>) -> Result<Path, Errno> {
    let description = description(query.subject, query.subject.index)?;
    Ok(description.path().cloned().unwrap_or_else(|| place_of(&query.kernel.vfs, &description)))
}

fn target_text(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let description = description(query.subject, query.subject.index)?;
    match (description.file().link_text(), description.path()) {
        (Some(text), _) => Ok(text.into_bytes()),
        (None, Some(path)) => Ok(shown(path, query)),
        (None, None) => Err(Errno::ENOENT.here()),
    }
}

/// Links to the files of descriptors.
pub(super) struct Descriptors;

impl Listing for Descriptors {
    fn find(&self, _: &Arc<Kernel>, subject: &Subject, name: &[u8]) -> Result<(&'static Entry, Subject), Errno> {
        let fd = number(name)?;
        let description = description(subject, fd)?;
        Ok((entry_of(&description), Subject { index: fd, ..subject.clone() }))
    }

    fn list(&self, _: &Arc<Kernel>, subject: &Subject) -> Result<Vec<Listed>, Errno> {
        list(subject, &READ_WRITE)
    }
}

fn list(subject: &Subject, entry: &'static Entry) -> Result<Vec<Listed>, Errno> {
    let task = subject.task().map_err(|_| Errno::ENOENT.here())?;
    if task.has_ended() {
        return Ok(Vec::new());
    }
    let open = task.files().open().into_iter();
    Ok(open.map(|fd| Listed { cookie: fd as u64 + 1, name: fd.to_string(), entry }).collect())
}

/// Information on the open files of descriptors.
pub(super) struct Infos;

impl Listing for Infos {
    fn find(&self, _: &Arc<Kernel>, subject: &Subject, name: &[u8]) -> Result<(&'static Entry, Subject), Errno> {
        let fd = number(name)?;
        description(subject, fd)?;
        Ok((&INFO, Subject { index: fd, ..subject.clone() }))
    }

    fn list(&self, _: &Arc<Kernel>, subject: &Subject) -> Result<Vec<Listed>, Errno> {
        list(subject, &INFO)
    }
}

/// The number of locks visited with one acquisition of the table's lock.
const LOCKS_AT_ONCE: usize = 128;

/// The lines of all files, then those of locks, then those of the kind of file.
fn info(query: &Query<'_>) -> Result<Pieces, Errno> {
    let fd = query.subject.index;
    let description = description(query.subject, fd)?;
    let files = query.task()?.files();
    let mut flags = description.flags();
    if files.close_on_exec(fd).unwrap_or(false) {
        flags |= OpenFlags::O_CLOEXEC;
    }
    // Does not wait for a position in use: a reader of a pipe may hold it indefinitely.
    let position = description.position_at_rest().unwrap_or(0);
    let mount = description.path().map_or(0, |path| path.mount.id);
    let number = description.file().inode().metadata().map_or(0, |m| m.number);
    let mut head = format!("pos:\t{position}\nflags:\t0{:o}\nmnt_id:\t{mount}\nino:\t{number}\n", flags.bits());
    let table = files.id();
    let (mut has_locks, mut last, mut count) = (query.kernel.vfs.locks.any(), None, 0);
    let mut next = Some((0, 0));
    // The list must not keep the file open.
    let description = Arc::downgrade(&description);
    Ok(Box::new(move |query, text| {
        text.append(&mut std::mem::take(&mut head).into_bytes());
        let Some(description) = description.upgrade() else { return Ok(false) };
        if has_locks {
            let mut some =
                query.kernel.vfs.locks.listed(Some(&*description.file().inode()), last.as_ref(), LOCKS_AT_ONCE);
            for lock in some.iter().filter(|lock| lock.belongs_to(table, description.id())) {
                count += 1;
                text.extend_from_slice(format!("lock:\t{count}: {lock}\n").as_bytes());
            }
            last = some.pop();
            has_locks = last.is_some();
        } else if let Some(from) = next {
            let mut lines = String::new();
            next = description.file().fdinfo_from(from, &mut lines);
            text.extend_from_slice(lines.as_bytes());
        }
        Ok(has_locks || next.is_some())
    }))
}
