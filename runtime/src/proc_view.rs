//! The `/proc` for processes that enter a sandbox's mount namespace from outside, as `podman top` does: the guest's
//! processes, with what `ps` reads of each. Served to the host's kernel by fuse(4).

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Weak;

use amber_abi::errno::Errno;
use amber_abi::stat::{S_IFDIR, S_IFLNK, S_IFREG};
use amber_sentry::sandbox::Sandbox;
use anyhow::{Context, Result};
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// Files of the top directory.
const GENERAL: [&str; 6] = ["cpuinfo", "loadavg", "meminfo", "stat", "uptime", "version"];
/// Files of each process.
const OF_PROCESS: [&str; 5] = ["cmdline", "comm", "stat", "statm", "status"];
/// The low byte of node numbers for `PID/ns` and for its only link.
const NAMESPACES: usize = 0x80;
const NAMESPACE: usize = 0x81;

/// Buffer for requests: the least that the kernel accepts, as nothing is written.
const REQUEST: usize = 1 << 16;
/// Protocol version of Linux 5.4.
const VERSION: (u32, u32) = (7, 31);
/// Do not cache reads (`FOPEN_DIRECT_IO`).
const DIRECT: u32 = 1;
/// The types of directory entries (`DT_DIR`, `DT_REG`, `DT_LNK`).
const DIRECTORY: u32 = 4;
const REGULAR: u32 = 8;
const LINK: u32 = 10;

/// Opcodes.
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const READLINK: u32 = 5;
const OPEN: u32 = 14;
const READ: u32 = 15;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const RELEASEDIR: u32 = 29;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

/// `struct fuse_in_header`.
#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Request {
    len: u32,
    opcode: u32,
    unique: u64,
    node: u64,
    uid: u32,
    gid: u32,
    pid: u32,
    padding: u32,
}

/// The beginning of `struct fuse_read_in`.
#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Piece {
    handle: u64,
    offset: u64,
    size: u32,
    flags: u32,
}

/// A node. Node numbers encode the process in the upper part and the file, from 1 on, in the low byte, so that no table
/// is needed; number 1 is the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Root,
    General(usize),
    Process(i32),
    OfProcess(i32, usize),
    /// `PID/ns`.
    Namespaces(i32),
    /// `PID/ns/pid`, which shows readers whether a process is in a container.
    Namespace(i32),
}

impl Node {
    fn number(self) -> u64 {
        let process = |pid: i32| u64::from(pid.unsigned_abs()) << 8;
        match self {
            Node::Root => 1,
            Node::General(file) => 2 + file as u64,
            Node::Process(pid) => process(pid),
            Node::OfProcess(pid, file) => process(pid) | (1 + file as u64),
            Node::Namespaces(pid) => process(pid) | NAMESPACES as u64,
            Node::Namespace(pid) => process(pid) | NAMESPACE as u64,
        }
    }

    fn of(number: u64) -> Option<Node> {
        let (pid, low) = (i32::try_from(number >> 8).ok()?, (number & 0xff) as usize);
        match (pid, low) {
            (0, 1) => Some(Node::Root),
            (0, _) => low.checked_sub(2).filter(|&file| file < GENERAL.len()).map(Node::General),
            (_, 0) => Some(Node::Process(pid)),
            (_, NAMESPACES) => Some(Node::Namespaces(pid)),
            (_, NAMESPACE) => Some(Node::Namespace(pid)),
            _ => Some(low - 1).filter(|&file| file < OF_PROCESS.len()).map(|file| Node::OfProcess(pid, file)),
        }
    }

    fn kind(self) -> u32 {
        match self {
            Node::Root | Node::Process(_) | Node::Namespaces(_) => DIRECTORY,
            Node::General(_) | Node::OfProcess(..) => REGULAR,
            Node::Namespace(_) => LINK,
        }
    }

    /// The path relative to `/proc`; `None` for directories.
    fn path(self) -> Option<String> {
        match self {
            Node::General(file) => GENERAL.get(file).map(|name| (*name).to_owned()),
            Node::OfProcess(pid, file) => OF_PROCESS.get(file).map(|name| format!("{pid}/{name}")),
            Node::Namespace(pid) => Some(format!("{pid}/ns/pid")),
            Node::Root | Node::Process(_) | Node::Namespaces(_) => None,
        }
    }

    /// `struct fuse_attr`.
    fn attributes(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Inode, size, blocks, then three times.
        for value in [self.number(), 0, 0, 0, 0, 0] {
            bytes.extend_from_slice(&value.to_ne_bytes());
        }
        let (mode, links) = match self.kind() {
            DIRECTORY => (S_IFDIR | 0o555, 2),
            LINK => (S_IFLNK | 0o777, 1),
            _ => (S_IFREG | 0o444, 1),
        };
        // Nanoseconds of the times, mode, links, owner, group, device, block size, flags.
        for value in [0, 0, 0, mode, links, 0, 0, 0, 1024, 0u32] {
            bytes.extend_from_slice(&value.to_ne_bytes());
        }
        bytes
    }
}

/// Answers requests on a connection until the sandbox or the mount is gone.
///
/// # Errors
/// The host has no threads left.
pub fn serve(connection: OwnedFd, sandbox: Weak<Sandbox>) -> Result<()> {
    let mut view = ProcView { sandbox, open: HashMap::new(), next: 1 };
    let mut connection = File::from(connection);
    let answer = move || {
        let mut buffer = vec![0; REQUEST];
        loop {
            let request = match connection.read(&mut buffer) {
                Ok(len) => buffer.get(..len).unwrap_or_default(),
                // The request was interrupted.
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::NotFound) => continue,
                Err(error) => return log::debug!("/proc for others: {error}"),
            };
            let Some((request, rest)) = Request::read_from_prefix(request).ok() else { return };
            let reply = match view.answer(&request, rest) {
                Some(reply) => reply,
                None => continue,
            };
            let (error, body) = reply.map_or_else(|errno| (-errno.raw(), Vec::new()), |body| (0, body));
            let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
            message.extend_from_slice(&error.to_ne_bytes());
            message.extend_from_slice(&request.unique.to_ne_bytes());
            message.extend_from_slice(&body);
            // The requester may have been interrupted.
            let _ = connection.write(&message);
        }
    };
    std::thread::Builder::new().name("proc_view".into()).spawn(answer).context("starting a thread")?;
    Ok(())
}

struct ProcView {
    sandbox: Weak<Sandbox>,
    /// Contents of open files, fixed at open.
    open: HashMap<u64, Vec<u8>>,
    next: u64,
}

impl ProcView {
    /// The answer to a request; `None` for requests without one.
    fn answer(&mut self, request: &Request, rest: &[u8]) -> Option<Result<Vec<u8>, Errno>> {
        let node = Node::of(request.node).ok_or(Errno::ENOENT);
        Some(match request.opcode {
            FORGET | BATCH_FORGET | INTERRUPT => return None,
            INIT => Ok(begin()),
            LOOKUP => node.and_then(|node| self.look_up(node, rest)),
            GETATTR => node.map(|node| [vec![0; 16], node.attributes()].concat()),
            READLINK => node.and_then(|node| match node {
                Node::Namespace(_) => self.text(&node.path().ok_or(Errno::EINVAL)?),
                _ => Err(Errno::EINVAL),
            }),
            OPEN => node.and_then(|node| self.open(node)),
            OPENDIR => Ok(vec![0; 16]),
            READ => read(rest, |handle| self.open.get(&handle).map(Vec::as_slice)),
            READDIR => node.and_then(|node| self.list(node, rest)),
            RELEASE => {
                if let Ok((handle, _)) = u64::read_from_prefix(rest) {
                    self.open.remove(&handle);
                }
                Ok(Vec::new())
            }
            RELEASEDIR | FLUSH => Ok(Vec::new()),
            STATFS => Ok(vec![0; 80]),
            _ => Err(Errno::ENOSYS),
        })
    }

    fn text(&self, path: &str) -> Result<Vec<u8>, Errno> {
        self.sandbox.upgrade().and_then(|sandbox| sandbox.proc_text(path)).ok_or(Errno::ENOENT)
    }

    fn look_up(&self, node: Node, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let name = name.strip_suffix(b"\0").and_then(|name| std::str::from_utf8(name).ok()).ok_or(Errno::ENOENT)?;
        let among = |names: &[&str]| names.iter().position(|known| *known == name);
        let found = match node {
            Node::Root => match name.parse::<i32>() {
                Ok(pid) if pid > 0 => Some(Node::Process(pid)),
                _ => among(&GENERAL).map(Node::General),
            },
            Node::Process(pid) if name == "ns" => Some(Node::Namespaces(pid)),
            Node::Process(pid) => among(&OF_PROCESS).map(|file| Node::OfProcess(pid, file)),
            Node::Namespaces(pid) => (name == "pid").then_some(Node::Namespace(pid)),
            _ => return Err(Errno::ENOTDIR),
        };
        let found = found.ok_or(Errno::ENOENT)?;
        if let Node::Process(pid) = found {
            self.text(&format!("{pid}/comm"))?;
        }
        // Inode, generation, and validity times of 0.
        Ok([found.number().to_ne_bytes().to_vec(), vec![0; 32], found.attributes()].concat())
    }

    fn open(&mut self, node: Node) -> Result<Vec<u8>, Errno> {
        let text = self.text(&node.path().ok_or(Errno::EISDIR)?)?;
        let handle = self.next;
        self.next = self.next.wrapping_add(1);
        self.open.insert(handle, text);
        Ok([&handle.to_ne_bytes()[..], &DIRECT.to_ne_bytes(), &[0; 4]].concat())
    }

    fn list(&self, node: Node, rest: &[u8]) -> Result<Vec<u8>, Errno> {
        let (piece, _) = Piece::read_from_prefix(rest).map_err(|_| Errno::EINVAL)?;
        let mut entries: Vec<(Node, String)> = vec![(node, ".".into()), (Node::Root, "..".into())];
        let named = |(file, name): (usize, &&str)| (file, (*name).to_owned());
        match node {
            Node::Root => {
                entries.extend(GENERAL.iter().enumerate().map(named).map(|(file, name)| (Node::General(file), name)));
                let processes = self.sandbox.upgrade().map(|sandbox| sandbox.processes()).unwrap_or_default();
                entries.extend(processes.iter().map(|process| (Node::Process(process.pid), process.pid.to_string())));
            }
            Node::Process(pid) => {
                let files = OF_PROCESS.iter().enumerate().map(named);
                entries.extend(files.map(|(file, name)| (Node::OfProcess(pid, file), name)));
                entries.push((Node::Namespaces(pid), "ns".to_owned()));
            }
            Node::Namespaces(pid) => entries.push((Node::Namespace(pid), "pid".to_owned())),
            _ => return Err(Errno::ENOTDIR),
        }
        let mut bytes = Vec::new();
        let first = usize::try_from(piece.offset).unwrap_or(usize::MAX);
        for (at, (node, name)) in entries.iter().enumerate().skip(first) {
            if bytes.len() + 24 + name.len().next_multiple_of(8) > piece.size as usize {
                break;
            }
            bytes.extend_from_slice(&node.number().to_ne_bytes());
            bytes.extend_from_slice(&(at as u64 + 1).to_ne_bytes());
            bytes.extend_from_slice(&(name.len() as u32).to_ne_bytes());
            bytes.extend_from_slice(&node.kind().to_ne_bytes());
            bytes.extend_from_slice(name.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        Ok(bytes)
    }
}

/// `struct fuse_init_out`.
fn begin() -> Vec<u8> {
    let mut bytes = Vec::new();
    // Version, read-ahead, flags, background limits, longest write, granularity of times.
    for value in [VERSION.0, VERSION.1, 0, 0, 0, 4096, 1u32] {
        bytes.extend_from_slice(&value.to_ne_bytes());
    }
    bytes.resize(64, 0);
    bytes
}

/// The part of a text that a request reads.
fn read<'a>(rest: &[u8], text: impl FnOnce(u64) -> Option<&'a [u8]>) -> Result<Vec<u8>, Errno> {
    let (piece, _) = Piece::read_from_prefix(rest).map_err(|_| Errno::EINVAL)?;
    let text = text(piece.handle).ok_or(Errno::EBADF)?;
    let start = usize::try_from(piece.offset).unwrap_or(usize::MAX).min(text.len());
    let end = start.saturating_add(piece.size as usize).min(text.len());
    Ok(text.get(start..end).unwrap_or_default().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_tell_nodes() {
        let all = [Node::Root, Node::General(0), Node::General(5), Node::Process(1), Node::Process(i32::MAX)];
        for node in all.into_iter().chain([
            Node::OfProcess(7, 0),
            Node::OfProcess(7, 4),
            Node::Namespaces(1),
            Node::Namespace(1),
        ]) {
            assert_eq!(Node::of(node.number()), Some(node));
        }
        for number in [0, 8, (7 << 8) | 6, u64::MAX] {
            assert_eq!(Node::of(number), None, "{number}");
        }
    }

    #[test]
    fn a_text_is_read_in_pieces() {
        let piece = |offset: u64, size: u32| {
            let request = [&[0; 8][..], &offset.to_ne_bytes(), &size.to_ne_bytes(), &[0; 20]].concat();
            read(&request, |_| Some(b"text")).unwrap()
        };
        assert_eq!(
            (piece(0, 3), piece(3, 9), piece(4, 1), piece(u64::MAX, 1)),
            (b"tex".into(), b"t".into(), vec![], vec![])
        );
        assert_eq!(read(&[0; 8], |_| None), Err(Errno::EINVAL));
    }
}
