//! Requests and answers as bytes: little-endian numbers, followed by a path, entries or content.

use amber_abi::errno::Errno;
use amber_abi::time::Timespec;

use crate::fs::{Found, HostEntry, HostStat, Result};

/// The operation of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Returns the attributes of the file at a path.
    Look,
    /// Returns the target of a symbolic link.
    Link,
    /// Opens a regular file or a directory.
    Open,
    /// Reads from an open file.
    Read,
    /// Returns the next entries of an open directory; none at its end.
    List,
    /// Closes an open file.
    Close,
}

const KINDS: [Kind; 6] = [Kind::Look, Kind::Link, Kind::Open, Kind::Read, Kind::List, Kind::Close];

/// A request, without its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Repeated in the answer.
    pub serial: u64,
    pub kind: Kind,
    /// The tree that the path is relative to.
    pub tree: u64,
    /// The handle of an open file.
    pub handle: u64,
    pub offset: u64,
    pub len: u64,
}

/// The number of words of a request.
const REQUEST: usize = 6;
/// Size of a request without its path.
pub(super) const REQUEST_BYTES: usize = REQUEST * 8;
/// Size of the head of an answer: the serial number and the errno.
pub(super) const ANSWER_BYTES: usize = 16;
/// The number of words of a file's attributes.
const ATTRIBUTES: usize = 21;
/// Their size in bytes.
pub(super) const ATTRIBUTES_BYTES: usize = ATTRIBUTES * 8;

/// The word with this index.
pub(super) fn number(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at * 8..at * 8 + 8)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

fn put(room: &mut [u8], numbers: &[u64]) {
    for (place, number) in room.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
}

impl Request {
    pub(super) fn write(&self, room: &mut [u8]) {
        let kind = KINDS.iter().position(|kind| *kind == self.kind).unwrap_or_default() as u64;
        put(room, &[self.serial, kind, self.tree, self.handle, self.offset, self.len]);
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Request> {
        let at = |place| number(bytes, place);
        let kind = *KINDS.get(usize::try_from(at(1)?).ok()?)?;
        Some(Request { serial: at(0)?, kind, tree: at(2)?, handle: at(3)?, offset: at(4)?, len: at(5)? })
    }
}

/// Writes the head of an answer.
pub(super) fn write_head(room: &mut [u8], serial: u64, error: Option<Errno>) {
    put(room, &[serial, error.map_or(0, |errno| errno.raw() as u64)]);
}

/// Reads the head of an answer: the serial number and the result.
pub(super) fn read_head(bytes: &[u8]) -> Option<(u64, Result<()>)> {
    let (serial, error) = (number(bytes, 0)?, number(bytes, 1)?);
    Some((serial, if error == 0 { Ok(()) } else { Err(Errno::from_raw(error as i32)) }))
}

/// Writes attributes and the magic number of the file system.
pub(super) fn write_attributes(room: &mut [u8], found: &Found, magic: i64) {
    let Found { stat, mount } = found;
    let seconds = |time: Timespec| time.tv_sec as u64;
    let nanoseconds = |time: Timespec| time.tv_nsec as u64;
    put(
        room,
        &[
            magic as u64,
            mount.is_some().into(),
            mount.unwrap_or_default(),
            stat.device,
            stat.number,
            stat.mode.into(),
            stat.links,
            u64::from(stat.uid) | u64::from(stat.gid) << 32,
            stat.special,
            stat.size,
            stat.block_size.into(),
            stat.blocks,
            seconds(stat.accessed),
            nanoseconds(stat.accessed),
            seconds(stat.modified),
            nanoseconds(stat.modified),
            seconds(stat.changed),
            nanoseconds(stat.changed),
            stat.born.is_some().into(),
            stat.born.map(seconds).unwrap_or_default(),
            stat.born.map(nanoseconds).unwrap_or_default(),
        ],
    );
}

/// Reads what [`write_attributes`] wrote.
pub(super) fn read_attributes(bytes: &[u8]) -> Option<(Found, i64)> {
    let at = |place| number(bytes, place);
    let time = |place| Some(Timespec { tv_sec: at(place)? as i64, tv_nsec: at(place + 1)? as i64 });
    let stat = HostStat {
        device: at(3)?,
        number: at(4)?,
        mode: at(5)? as u32,
        links: at(6)?,
        uid: at(7)? as u32,
        gid: (at(7)? >> 32) as u32,
        special: at(8)?,
        size: at(9)?,
        block_size: at(10)? as u32,
        blocks: at(11)?,
        accessed: time(12)?,
        modified: time(14)?,
        changed: time(16)?,
        born: if at(18)? == 0 { None } else { Some(time(19)?) },
    };
    let mount = (at(1)? != 0).then_some(at(2)?);
    Some((Found { stat, mount }, at(0)? as i64))
}

/// Writes a directory entry and returns its length; `None` if there is not enough room.
pub(super) fn write_entry(room: &mut [u8], number: u64, kind: u8, name: &[u8]) -> Option<usize> {
    let len = 10 + name.len();
    let place = room.get_mut(..len)?;
    place[..8].copy_from_slice(&number.to_le_bytes());
    (place[8], place[9]) = (kind, u8::try_from(name.len()).ok()?);
    place[10..].copy_from_slice(name);
    Some(len)
}

/// Appends the entries that [`write_entry`] wrote to a list.
pub(super) fn read_entries(mut bytes: &[u8], list: &mut Vec<HostEntry>) -> Option<()> {
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_at_checked(10)?;
        let (name, rest) = rest.split_at_checked(head[9].into())?;
        list.push(HostEntry { name: name.into(), number: number(head, 0)?, kind: head[8] });
        bytes = rest;
    }
    Some(())
}
