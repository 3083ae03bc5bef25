//! The sandbox's end of the connection.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use amber_abi::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use parking_lot::Mutex;

use super::server::READY;
use super::wire::{
    ANSWER_BYTES, ATTRIBUTES_BYTES, Kind, REQUEST_BYTES, Request, number, read_attributes, read_entries, read_head,
};
use super::{MAX_PATH, MAX_READ};
use crate::fs::{Found, HostEntry, Result};

/// Maximum time to wait for an answer. The reader interrupts a call of the host earlier.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Interval at which a waiting thread calls the [`Check`].
const LOOK: Duration = Duration::from_millis(10);

/// Called while waiting. An error ends the wait and becomes that of the request.
pub(super) type Check = fn() -> Result<()>;

/// A connection to the reader.
#[derive(Debug)]
pub struct Reader {
    connection: Mutex<Connection>,
    timeout: Duration,
}

#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    /// The serial number of the last request.
    serial: u64,
    /// The time of the request that was given up, while its answer is pending.
    pending_since: Option<Instant>,
    answer: Box<[u8]>,
}

/// A file beneath one of the reader's trees; the sandbox has no descriptor of it.
#[derive(Clone, Debug)]
pub struct TreeFile {
    reader: Arc<Reader>,
    tree: u64,
    path: Box<[u8]>,
}

/// A file that the reader has open. Dropping this closes it, unless the reader has closed it for lack of slots.
#[derive(Debug)]
pub struct Opened {
    reader: Arc<Reader>,
    handle: u64,
    /// The attributes.
    pub found: Found,
    /// The magic number of its file system (`f_type` of statfs(2)).
    pub magic: i64,
}

impl Reader {
    /// Connects to a reader by a socket, and waits until it is ready.
    ///
    /// # Errors
    /// It reports an error instead.
    pub fn connect(socket: OwnedFd) -> io::Result<Arc<Reader>> {
        Self::with_timeout(socket, TIMEOUT)
    }

    fn with_timeout(socket: OwnedFd, timeout: Duration) -> io::Result<Arc<Reader>> {
        let mut answer = vec![0; ANSWER_BYTES + MAX_READ].into_boxed_slice();
        let len = loop {
            match nix::unistd::read(&socket, &mut answer) {
                Err(nix::errno::Errno::EINTR) => {}
                read => break read?,
            }
        };
        match answer.get(..len).unwrap_or_default() {
            [READY] => {}
            [] => return Err(io::Error::other("it ended")),
            reason => return Err(io::Error::other(String::from_utf8_lossy(reason).into_owned())),
        }
        let connection = Mutex::new(Connection { socket, serial: 0, pending_since: None, answer });
        Ok(Arc::new(Reader { connection, timeout }))
    }

    /// A file beneath the tree with this number.
    pub fn file(self: &Arc<Self>, tree: u64, path: &[u8]) -> TreeFile {
        TreeFile { reader: self.clone(), tree, path: path.into() }
    }

    /// Sends a request and converts its answer with `take`.
    fn ask<T>(
        &self,
        mut request: Request,
        path: &[u8],
        check: Check,
        take: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T> {
        let mut connection = loop {
            match self.connection.try_lock_for(LOOK) {
                Some(connection) => break connection,
                None => check()?,
            }
        };
        let connection = &mut *connection;
        connection.receive_pending(self.timeout, check)?;
        connection.serial += 1;
        request.serial = connection.serial;
        connection.send(&request, path)?;
        let began = Instant::now();
        let len = match connection.receive(request.serial, began + self.timeout, check) {
            Ok(len) => len,
            Err(errno) => {
                if errno == Errno::EIO {
                    log::warn!("a file of the host's kernel could not be read: the reader does not answer");
                }
                connection.pending_since = Some(began);
                return Err(errno);
            }
        };
        let answer = connection.answer.get(..len).ok_or_else(|| Errno::EIO.here())?;
        let (_, result) = read_head(answer).ok_or_else(|| Errno::EIO.here())?;
        result?;
        take(&answer[ANSWER_BYTES..]).ok_or_else(|| Errno::EIO.here())
    }
}

impl Connection {
    /// Receives the pending answer to a request that was given up, if there is one. The timeout counts from that
    /// request, so that one slow file delays others only once.
    fn receive_pending(&mut self, timeout: Duration, check: Check) -> Result<()> {
        if let Some(since) = self.pending_since {
            self.receive(self.serial, since + timeout, check)?;
            self.pending_since = None;
        }
        Ok(())
    }

    fn send(&self, request: &Request, path: &[u8]) -> Result<()> {
        let mut room = [0; REQUEST_BYTES + MAX_PATH];
        let (head, rest) = room.split_at_mut(REQUEST_BYTES);
        request.write(head);
        // At least one zero byte follows.
        if path.len() >= MAX_PATH {
            return Err(Errno::ENAMETOOLONG.here());
        }
        rest[..path.len()].copy_from_slice(path);
        let len = REQUEST_BYTES + path.len() + 1;
        loop {
            match nix::unistd::write(&self.socket, &room[..len]) {
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return Err(Errno::EIO.here()),
                Ok(_) => return Ok(()),
            }
        }
    }

    /// Waits for the answer to a request; returns its length.
    fn receive(&mut self, serial: u64, deadline: Instant, check: Check) -> Result<usize> {
        loop {
            let mut set = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match ppoll(&mut set, Some(TimeSpec::from(LOOK)), None) {
                Ok(0) => {
                    check()?;
                    if Instant::now() >= deadline {
                        return Err(Errno::EIO.here());
                    }
                    continue;
                }
                Err(nix::errno::Errno::EINTR) => continue,
                ready => ready.map_err(crate::fs::errno)?,
            };
            match nix::unistd::read(&self.socket, &mut self.answer) {
                Err(nix::errno::Errno::EINTR) => {}
                Ok(len @ 1..) => {
                    let head = self.answer.get(..len).and_then(read_head);
                    if head.is_some_and(|(number, _)| number == serial) {
                        return Ok(len);
                    }
                }
                _ => return Err(Errno::EIO.here()),
            }
        }
    }
}

impl TreeFile {
    /// The entry of this directory with this name, which need not exist.
    ///
    /// # Errors
    /// `EINVAL` if the name is not a plain component.
    pub fn entry(&self, name: &[u8]) -> Result<TreeFile> {
        if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
            return Err(Errno::EINVAL.here());
        }
        let mut path = self.path.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Ok(TreeFile { reader: self.reader.clone(), tree: self.tree, path: path.into() })
    }

    fn ask<T>(&self, kind: Kind, check: Check, take: impl FnOnce(&[u8]) -> Option<T>) -> Result<T> {
        let request = Request { serial: 0, kind, tree: self.tree, handle: 0, offset: 0, len: 0 };
        self.reader.ask(request, &self.path, check, take)
    }

    /// The attributes, without following a symbolic link, and the magic number of the file system (`f_type` of
    /// statfs(2)).
    ///
    /// # Errors
    /// The host's; `EIO` if the answer takes too long or the reader has ended; that of `check`.
    pub fn look(&self, check: Check) -> Result<(Found, i64)> {
        self.ask(Kind::Look, check, read_attributes)
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// As for [`look`](Self::look).
    pub fn link(&self, check: Check) -> Result<Vec<u8>> {
        self.ask(Kind::Link, check, |text| Some(text.to_vec()))
    }

    /// Opens the file for reading.
    ///
    /// # Errors
    /// `EACCES` if it is neither a regular file nor a directory, or not readable for everyone; otherwise as for
    /// [`look`](Self::look).
    pub fn open(&self, check: Check) -> Result<Opened> {
        let (handle, (found, magic)) = self.ask(Kind::Open, check, |answer| {
            Some((number(answer.get(ATTRIBUTES_BYTES..)?, 0)?, read_attributes(answer)?))
        })?;
        Ok(Opened { reader: self.reader.clone(), handle, found, magic })
    }
}

impl Opened {
    fn request(&self, kind: Kind, offset: u64, len: usize) -> Request {
        Request { serial: 0, kind, tree: 0, handle: self.handle, offset, len: len as u64 }
    }

    /// Reads up to [`MAX_READ`] bytes at an offset.
    ///
    /// # Errors
    /// `ESTALE` if the reader has closed the file; otherwise as for [`TreeFile::look`].
    pub fn read(&self, buf: &mut [u8], offset: u64, check: Check) -> Result<usize> {
        self.reader.ask(self.request(Kind::Read, offset, buf.len()), b"", check, |content| {
            buf.get_mut(..content.len())?.copy_from_slice(content);
            Some(content.len())
        })
    }

    /// Appends the next entries of a directory to a list, without `.` and `..`. Returns false at its end.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn list(&self, list: &mut Vec<HostEntry>, check: Check) -> Result<bool> {
        self.reader.ask(self.request(Kind::List, 0, 0), b"", check, |entries| {
            read_entries(entries, list)?;
            Some(!entries.is_empty())
        })
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // If the reader does not answer, it closes the file when it needs the slot.
        let _ = self.reader.ask(self.request(Kind::Close, 0, 0), b"", || Ok(()), |_| Some(()));
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;
    use std::thread;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::super::{OPEN_FILES, Tree, serve};
    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    const ALWAYS: Check = || Ok(());

    /// A directory and a reader of it.
    fn reader() -> (tempfile::TempDir, Arc<Reader>) {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree { directory: File::open(directory.path()).unwrap().into() };
        let (one, other) = pair();
        thread::spawn(move || serve(other.as_fd(), &[tree], || Ok(())));
        (directory, Reader::connect(one).unwrap())
    }

    #[test]
    fn what_lies_beneath_is_read() {
        let (directory, reader) = reader();
        let root = reader.file(0, b"");
        fs::create_dir(directory.path().join("d")).unwrap();
        let content: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
        fs::write(directory.path().join("d/file"), &content).unwrap();
        symlink("d/file", directory.path().join("link")).unwrap();
        let file = root.entry(b"d").unwrap().entry(b"file").unwrap();
        let (found, magic) = file.look(ALWAYS).unwrap();
        let expected = crate::fs::look(File::open(directory.path().join("d/file")).unwrap().as_fd()).unwrap();
        assert_eq!(format!("{found:?}"), format!("{expected:?}"));
        assert_eq!(magic, crate::fs::statfs(File::open(directory.path()).unwrap().as_fd()).unwrap().f_type);
        let opened = file.open(ALWAYS).unwrap();
        let (mut all, mut buf) = (Vec::new(), vec![0; 100_000]);
        loop {
            match opened.read(&mut buf, all.len() as u64, ALWAYS).unwrap() {
                0 => break,
                len => all.extend_from_slice(&buf[..len]),
            }
        }
        assert!(all == content);
        assert_eq!(root.entry(b"link").unwrap().link(ALWAYS).unwrap(), b"d/file");
        assert_eq!(root.entry(b"none").unwrap().look(ALWAYS).unwrap_err(), Errno::ENOENT);
    }

    #[test]
    fn nothing_leads_out_and_no_link_is_followed() {
        let (directory, reader) = reader();
        symlink("/", directory.path().join("out")).unwrap();
        let look = |path: &[u8]| reader.file(0, path).look(ALWAYS).map(drop);
        assert_eq!(look(b".."), Err(Errno::EXDEV));
        assert_eq!(look(b"/etc"), Err(Errno::EXDEV));
        assert_eq!(look(b"out/etc"), Err(Errno::ELOOP));
        assert_eq!(reader.file(0, b"out").open(ALWAYS).map(drop).unwrap_err(), Errno::ELOOP);
        assert_eq!(reader.file(1, b"").look(ALWAYS).map(drop), Err(Errno::EINVAL));
        assert_eq!(look(&[b'a'; MAX_PATH]), Err(Errno::ENAMETOOLONG));
        assert_eq!(look(b"a\0b"), Err(Errno::EINVAL));
        assert_eq!(reader.file(0, b"").entry(b"..").map(drop), Err(Errno::EINVAL));
    }

    #[test]
    fn nothing_is_opened_that_may_wait() {
        let (directory, reader) = reader();
        nix::unistd::mkfifo(&directory.path().join("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(reader.file(0, b"fifo").open(ALWAYS).map(drop), Err(Errno::EACCES));
    }

    #[test]
    fn long_directories_are_listed() {
        let (directory, reader) = reader();
        let mut expected: Vec<String> = (0..3000).map(|i| format!("a-rather-long-name-of-a-file-{i}")).collect();
        expected.iter().for_each(|name| drop(File::create(directory.path().join(name)).unwrap()));
        let (opened, mut list) = (reader.file(0, b"").open(ALWAYS).unwrap(), Vec::new());
        while opened.list(&mut list, ALWAYS).unwrap() {}
        let mut names: Vec<String> = list.iter().map(|e| String::from_utf8(e.name.to_vec()).unwrap()).collect();
        names.sort_unstable();
        expected.sort_unstable();
        assert_eq!(names, expected);
    }

    #[test]
    fn of_many_open_files_the_oldest_is_closed() {
        let (directory, reader) = reader();
        fs::write(directory.path().join("f"), "text").unwrap();
        let open = || reader.file(0, b"f").open(ALWAYS).unwrap();
        let first = open();
        // Closing does not free a handle number: each is used once.
        let others: Vec<Opened> = (0..OPEN_FILES).map(|_| open()).collect();
        let mut buf = [0; 8];
        assert_eq!(first.read(&mut buf, 0, ALWAYS), Err(Errno::ESTALE));
        assert_eq!(others[0].read(&mut buf, 1, ALWAYS), Ok(3));
    }

    /// A reader that blocks on a file delays callers for a bounded time only, and then serves others.
    #[test]
    fn a_reader_that_does_not_answer_is_not_waited_for() {
        let (one, other) = pair();
        nix::unistd::write(&other, &[READY]).unwrap();
        let reader = Reader::with_timeout(one, Duration::from_millis(30)).unwrap();
        let file = reader.file(0, b"");
        assert_eq!(file.link(ALWAYS), Err(Errno::EIO));
        assert_eq!(file.link(ALWAYS), Err(Errno::EIO));
        // A caller that is about to end does not wait at all.
        assert_eq!(file.link(|| Err(Errno::EINTR)), Err(Errno::EINTR));
        let mut request = [0; REQUEST_BYTES + MAX_PATH];
        nix::unistd::read(&other, &mut request).unwrap();
        let answer = |text: &[u8], serial: u64| {
            let mut answer = [0; ANSWER_BYTES].to_vec();
            super::super::wire::write_head(&mut answer, serial, None);
            answer.extend_from_slice(text);
            nix::unistd::write(&other, &answer).unwrap();
        };
        let serial = Request::read(&request).unwrap().serial;
        answer(b"late", serial);
        answer(b"in time", serial + 1);
        assert_eq!(file.link(ALWAYS).unwrap(), b"in time");
        drop(other);
        assert_eq!(file.link(ALWAYS), Err(Errno::EIO));
    }
}
