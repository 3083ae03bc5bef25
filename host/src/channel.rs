//! Messages with open files between two processes of Amber, over a stream socket.
//!
//! A message is its length, a 32-bit little-endian number, followed by its bytes. Files are passed with the length
//! (`SCM_RIGHTS`).

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Maximum size of a message; larger than any configuration.
const MAX_BYTES: u32 = 64 << 20;
/// Maximum number of files in a message, as in Linux (`SCM_MAX_FD`).
pub const MAX_FILES: usize = 253;

/// How long an answer may take when the wait for it is interrupted, in milliseconds: what was asked for may be done
/// already.
const GRACE: u16 = 1000;

/// One end of a connection.
#[derive(Debug)]
pub struct Channel {
    socket: UnixStream,
    /// Waits for the other end fail while this is readable.
    interrupt: Option<OwnedFd>,
}

/// A received message: the bytes and the files.
pub type Message = (Vec<u8>, Vec<OwnedFd>);

impl Channel {
    /// A connection over this socket.
    pub fn new(socket: UnixStream) -> Channel {
        Channel { socket, interrupt: None }
    }

    /// A connected pair.
    ///
    /// # Errors
    /// The host has no descriptors left.
    pub fn pair() -> io::Result<(Channel, Channel)> {
        UnixStream::pair().map(|(one, other)| (Channel::new(one), Channel::new(other)))
    }

    /// Another handle on the same end. [`interrupt_by`](Self::interrupt_by) does not apply to it.
    ///
    /// # Errors
    /// The host has no descriptors left.
    pub fn try_clone(&self) -> io::Result<Channel> {
        self.socket.try_clone().map(Channel::new)
    }

    /// Makes every wait for the other end fail with `EINTR` while this descriptor is readable and the other end does not
    /// answer soon; `None` removes it. A message that was sent or received in part is lost, so the connection cannot be
    /// used after that.
    ///
    /// # Errors
    /// The host has no descriptors left.
    pub fn interrupt_by(&mut self, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        self.interrupt = descriptor.map(|descriptor| descriptor.try_clone_to_owned()).transpose()?;
        Ok(())
    }

    /// Limits each wait for the other end; `None` waits forever.
    ///
    /// # Errors
    /// The socket is closed.
    pub fn set_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.socket.set_read_timeout(limit)?;
        self.socket.set_write_timeout(limit)
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The other end is closed, or the message or the list of files is too long.
    pub fn send(&self, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).ok().filter(|&length| length <= MAX_BYTES);
        let length = length.ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "the message is too long"))?;
        if files.len() > MAX_FILES {
            return Err(io::Error::new(ErrorKind::InvalidInput, "too many files at once"));
        }
        let header = length.to_le_bytes();
        let raw: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[][..] } else { &rights[..] };
        // In one call, so that a process that ends while it sends does not leave half a message.
        let slices = [IoSlice::new(&header), IoSlice::new(bytes)];
        let sent = self.send_some(&slices, control)?;
        // The files were passed with the first byte.
        self.write_all(header.get(sent..).unwrap_or_default())?;
        self.write_all(bytes.get(sent.saturating_sub(header.len())..).unwrap_or_default())
    }

    /// Waits for a message; `None` at the end of the connection.
    ///
    /// # Errors
    /// The connection ended within a message, or the bytes are not a message.
    pub fn receive(&self) -> io::Result<Option<Message>> {
        let mut header = [0; 4];
        let mut space = cmsg_space!([std::os::fd::RawFd; MAX_FILES]);
        let mut files = Vec::new();
        let got = loop {
            self.wait(PollFlags::POLLIN)?;
            let mut slices = [IoSliceMut::new(&mut header)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<()>(self.socket.as_raw_fd(), &mut slices, Some(&mut space), flags) {
                Err(Errno::EINTR) => {}
                Err(Errno::ECONNRESET) => return Ok(None),
                Err(errno) => return Err(errno.into()),
                Ok(message) => {
                    for control in message.cmsgs()? {
                        if let ControlMessageOwned::ScmRights(raw) = control {
                            // SAFETY: the kernel has just made these descriptors for this call; nothing else owns them.
                            files.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                        }
                    }
                    break message.bytes;
                }
            }
        };
        if got == 0 {
            return Ok(None);
        }
        self.read_exact(header.get_mut(got..).unwrap_or_default())?;
        let length = u32::from_le_bytes(header);
        if length > MAX_BYTES {
            return Err(io::Error::new(ErrorKind::InvalidData, "the message is too long"));
        }
        let mut bytes = vec![0; length as usize];
        self.read_exact(&mut bytes)?;
        Ok(Some((bytes, files)))
    }

    // The standard library's sockets read and write by other host calls, which nothing else needs.

    fn send_some(&self, slices: &[IoSlice<'_>], control: &[ControlMessage<'_>]) -> io::Result<usize> {
        let mut flags = MsgFlags::MSG_NOSIGNAL;
        flags.set(MsgFlags::MSG_DONTWAIT, self.interrupt.is_some());
        loop {
            match sendmsg::<()>(self.socket.as_raw_fd(), slices, control, flags, None) {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) if self.interrupt.is_some() => self.wait(PollFlags::POLLOUT)?,
                sent => return Ok(sent?),
            }
        }
    }

    fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = self.send_some(&[IoSlice::new(bytes)], &[])?;
            bytes = bytes.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    fn read_exact(&self, mut room: &mut [u8]) -> io::Result<()> {
        while !room.is_empty() {
            self.wait(PollFlags::POLLIN)?;
            match nix::unistd::read(&self.socket, room) {
                Err(Errno::EINTR) => {}
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                got => room = room.get_mut(got?..).unwrap_or_default(),
            }
        }
        Ok(())
    }

    /// Waits for the other end if a descriptor can interrupt that. Otherwise the call that follows waits.
    fn wait(&self, events: PollFlags) -> io::Result<()> {
        let Some(interrupt) = &self.interrupt else { return Ok(()) };
        loop {
            let mut waits =
                [PollFd::new(self.socket.as_fd(), events), PollFd::new(interrupt.as_fd(), PollFlags::POLLIN)];
            match poll(&mut waits, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                result => result?,
            };
            let [socket, interrupt] = waits.map(|wait| wait.any() == Some(true));
            if socket {
                return Ok(());
            }
            if interrupt {
                let mut last = [PollFd::new(self.socket.as_fd(), events)];
                return match poll(&mut last, GRACE) {
                    Err(Errno::EINTR) => continue,
                    Ok(0) => Err(Errno::EINTR.into()),
                    ready => Ok(ready.map(drop)?),
                };
            }
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> OwnedFd {
        channel.socket.into()
    }
}

impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Channel {
        Channel::new(socket.into())
    }
}

/// Sends one open file with a short text over a stream socket, as receivers of an OCI console expect it.
///
/// # Errors
/// The other end is closed.
pub fn send_file(socket: &UnixStream, text: &[u8], file: BorrowedFd<'_>) -> io::Result<()> {
    let raw = [file.as_raw_fd()];
    let slices = [IoSlice::new(text)];
    let control = [ControlMessage::ScmRights(&raw)];
    sendmsg::<()>(socket.as_raw_fd(), &slices, &control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn messages_and_files_arrive_in_order() {
        let (one, other) = Channel::pair().unwrap();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let long = vec![b'x'; 1 << 20];
        let sender = std::thread::spawn(move || {
            one.send(b"first", &[]).unwrap();
            one.send(&long, &[writer.as_fd()]).unwrap();
            one.send(b"", &[]).unwrap();
        });
        let (bytes, files) = other.receive().unwrap().unwrap();
        assert_eq!((bytes.as_slice(), files.len()), (&b"first"[..], 0));
        let (bytes, mut files) = other.receive().unwrap().unwrap();
        assert_eq!((bytes.len(), files.len()), (1 << 20, 1));
        File::from(files.remove(0)).write_all(b"through").unwrap();
        let (bytes, _) = other.receive().unwrap().unwrap();
        assert!(bytes.is_empty());
        sender.join().unwrap();
        assert!(other.receive().unwrap().is_none());
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn a_wait_for_the_other_end_can_be_interrupted() {
        let (mut one, _other) = Channel::pair().unwrap();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        one.interrupt_by(Some(reader.as_fd())).unwrap();
        nix::unistd::write(&writer, b"x").unwrap();
        // More than fits in the socket's buffer.
        for failed in [one.receive().map(drop), one.send(&vec![0; 16 << 20], &[])] {
            assert_eq!(failed.unwrap_err().kind(), ErrorKind::Interrupted);
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        let (one, other) = UnixStream::pair().unwrap();
        (&one).write_all(&[0xff; 4]).unwrap();
        assert!(Channel::new(other).receive().is_err());
        let (one, other) = UnixStream::pair().unwrap();
        (&one).write_all(&[9, 0, 0, 0, 1]).unwrap();
        drop(one);
        assert!(Channel::new(other).receive().is_err());
    }
}
