//! Copies of files with contents, holes, owners, modes, times and extended attributes.

use std::collections::HashMap;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::stat::{Device, FileType};
use amber_abi::xattr::XATTR_ACL_ACCESS;

use crate::interruption::check_killed;
use crate::slices::{at_most_mut, filled};
use crate::vfs::{DirectoryEntry, DirectorySink, Inode, NewInode, SetAttributes, SetTime};

/// The number of bytes copied at a time.
const PIECE: usize = 1 << 20;

/// Copies an inode, with at most `most` bytes of its content, into one that `make` creates. Its times are set
/// [later](times).
///
/// # Errors
/// Errors of both file systems, such as `ENOSPC`; `EOVERFLOW` for an owner that the user namespace does not map.
pub(crate) fn inode(
    from: &Arc<dyn Inode>,
    most: u64,
    make: impl FnOnce(&NewInode<'_>) -> Result<Arc<dyn Inode>, Errno>,
) -> Result<Arc<dyn Inode>, Errno> {
    let m = from.metadata()?;
    if !from.has_mapped_owner() {
        // As on Linux, there is no such owner in a file system of the user namespace.
        return Err(Errno::EOVERFLOW.here());
    }
    let target = if m.kind == FileType::Symlink { from.read_link()? } else { Vec::new() };
    let (permissions, special) = (m.permissions, m.special);
    let to =
        make(&NewInode { kind: m.kind, permissions, masked: 0, uid: m.uid, gid: m.gid, special, target: &target })?;
    if m.kind == FileType::Regular {
        content(from, &to, m.size.min(most))?;
    }
    attributes(from, &to)?;
    Ok(to)
}

/// Sets the times of a copy to those of the original.
///
/// # Errors
/// Errors of both file systems.
pub(crate) fn times(from: &Arc<dyn Inode>, to: &Arc<dyn Inode>) -> Result<(), Errno> {
    let m = from.metadata()?;
    let (accessed, modified) = (Some(SetTime::To(m.accessed)), Some(SetTime::To(m.modified)));
    to.set_attributes(&SetAttributes { accessed, modified, ..SetAttributes::default() })
}

/// Copies everything below a directory into an empty one. Hard links are preserved.
///
/// # Errors
/// Errors of both file systems, such as `ENOSPC`.
pub(crate) fn tree(from: &Arc<dyn Inode>, to: &Arc<dyn Inode>) -> Result<(), Errno> {
    let mut linked: HashMap<(Device, u64), Arc<dyn Inode>> = HashMap::new();
    let mut open = vec![(from.clone(), to.clone())];
    let mut at = 0;
    // Not recursive, since trees may be deeper than the stack. Times of directories are set after their last entry is
    // made.
    while let Some((from, to)) = open.get(at).cloned() {
        for name in names(&from)? {
            check_killed()?;
            let original = from.lookup(&name)?;
            let m = original.metadata()?;
            let has_more = m.kind != FileType::Directory && m.links > 1;
            if let Some(copy) = linked.get(&(m.device, m.number)).filter(|_| has_more) {
                to.link(&name, copy)?;
                continue;
            }
            let copy = inode(&original, u64::MAX, |new| to.create(&name, new))?;
            if m.kind == FileType::Directory {
                open.push((original, copy));
                continue;
            }
            times(&original, &copy)?;
            if has_more {
                linked.insert((m.device, m.number), copy);
            }
        }
        at += 1;
    }
    open.iter().rev().try_for_each(|(from, to)| times(from, to))
}

fn content(from: &Arc<dyn Inode>, to: &Arc<dyn Inode>, len: u64) -> Result<(), Errno> {
    let source = from.clone().open(OpenFlags::O_RDONLY)?;
    let target = to.clone().open(OpenFlags::O_WRONLY)?;
    let mut buffer = vec![0; PIECE.min(len as usize)];
    let mut at = 0;
    while at < len {
        check_killed()?;
        // Holes are preserved.
        at = match source.seek_data(at, false) {
            Ok(data) => data.min(len),
            Err(Errno::ENXIO) => break,
            Err(_) => at,
        };
        let got = source.read_at(at_most_mut(&mut buffer, (len - at) as usize), at)?;
        if got == 0 {
            break;
        }
        let data = filled(&buffer, got)?;
        let mut done = 0;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            done += target.write_at(rest, at + done as u64)?;
        }
        at += got as u64;
    }
    to.set_attributes(&SetAttributes { size: Some(len), ..SetAttributes::default() })
}

/// Copies the extended attributes of the original.
///
/// # Errors
/// Errors of the copy's file system.
pub(crate) fn attributes(from: &Arc<dyn Inode>, to: &Arc<dyn Inode>) -> Result<(), Errno> {
    // A file that cannot be opened shows no attributes, so there are none to copy.
    let mut names = Vec::new();
    // File systems without attributes return an error.
    if let Err(Errno::ESTALE) = from.xattrs(&mut |name| names.push(name.to_vec())) {
        // Another file took its place.
        return Err(Errno::ESTALE.here());
    }
    for name in names {
        match from.xattr(&name) {
            Ok(value) => to.set_xattr(&name, &value, false, false)?,
            // Without its list the copy would be accessible to more users.
            Err(errno) if name == XATTR_ACL_ACCESS && errno != Errno::ENODATA => return Err(errno),
            Err(_) => {}
        }
    }
    Ok(())
}

/// Collects the names of a directory.
struct Names(Vec<Vec<u8>>);

impl DirectorySink for Names {
    fn add(&mut self, entry: DirectoryEntry<'_>) -> bool {
        if entry.name != b"." && entry.name != b".." {
            self.0.push(entry.name.to_owned());
        }
        true
    }
}

fn names(directory: &Arc<dyn Inode>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Names(Vec::new());
    directory.clone().open(OpenFlags::O_RDONLY | OpenFlags::O_DIRECTORY)?.read_directory(0, &mut names)?;
    Ok(names.0)
}
