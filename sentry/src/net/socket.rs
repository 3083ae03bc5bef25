//! What every kind of socket does, and the open file around it.

use std::any::Any;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use amber_abi::errno::Errno;
use amber_abi::poll::PollEvents;
use amber_abi::socket::{AddressFamily, MessageFlags, SocketKind};
use amber_abi::sockopt::SocketLevel;
use amber_abi::stat::FileType;

use crate::error::SysResult;
use crate::net::control::{Control, PeerCredentials};
use crate::net::inet::interface;
use crate::net::options::SharedOptions;
use crate::net::receive_queue::Toll;
use crate::task::TaskContext;
use crate::vfs::anon::AnonymousInode;
use crate::vfs::sigio::SignalIo;
use crate::vfs::{Caller, File, Inode, Vfs};
use crate::wait::{WaitQueue, deadline_in};

/// Which directions shutdown(2) ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directions {
    /// Nothing will be received any more.
    pub receive: bool,
    /// Nothing will be sent any more.
    pub send: bool,
}

/// A message on its way out.
pub struct Outgoing<'a> {
    /// The bytes.
    pub data: &'a [u8],
    /// Where to, unless to the peer.
    pub address: Option<&'a [u8]>,
    /// What goes along.
    pub control: Control,
    /// The flags that concern the message itself, such as MSG_EOR and MSG_OOB.
    pub flags: MessageFlags,
}

/// A message that came in.
#[derive(Default)]
pub struct Received {
    /// How many bytes were put into the buffer.
    pub len: usize,
    /// How long the message was, which is more if it was cut.
    pub full_len: usize,
    /// Who sent it; none where the peer is known.
    pub address: Option<Vec<u8>>,
    /// What came along.
    pub control: Control,
    /// MSG_TRUNC, MSG_EOR, MSG_OOB and MSG_ERRQUEUE, as they are.
    pub flags: MessageFlags,
    /// What the sender gets back.
    pub toll: Option<Toll>,
}

/// A socket of some family. No operation sleeps: `EAGAIN` says that the caller shall wait at the queue and try again.
pub trait Socket: Send + Sync + Any {
    /// Family, kind and protocol, as getsockopt(2) tells them.
    fn identity(&self) -> (AddressFamily, SocketKind, i32);

    /// Options that all sockets have.
    fn options(&self) -> &SharedOptions;

    /// bind(2).
    fn bind(&self, ctx: &TaskContext, address: &[u8]) -> Result<(), Errno>;

    /// listen(2).
    fn listen(&self, _ctx: &TaskContext, _backlog: u32) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP.here())
    }

    /// connect(2). `EINPROGRESS` says that it was begun: the caller waits for it to be writable and asks
    /// [`connected`](Self::connected). `EAGAIN` says that the listener has no room.
    fn connect(&self, ctx: &TaskContext, address: &[u8]) -> Result<(), Errno>;

    /// How a connect that was in progress ended; `EINPROGRESS` if it has not.
    fn connected(&self) -> Result<(), Errno> {
        Ok(())
    }

    /// accept(2).
    fn accept(&self) -> Result<Arc<dyn Socket>, Errno> {
        Err(Errno::EOPNOTSUPP.here())
    }

    /// The socket's own address, family included.
    fn local_address(&self) -> Vec<u8>;

    /// The peer's address.
    ///
    /// # Errors
    /// `ENOTCONN` without a peer.
    fn peer_address(&self) -> Result<Vec<u8>, Errno>;

    /// Sends as much as there is room for.
    fn send(&self, ctx: Option<&TaskContext>, message: Outgoing<'_>) -> Result<usize, Errno>;

    /// Receives: one message, or what there is of a stream. Of the flags, MSG_PEEK and MSG_OOB concern it.
    fn receive(&self, buf: &mut [u8], flags: MessageFlags) -> Result<Received, Errno>;

    /// The host's socket, if it is a stream whose bytes may go straight between it and guest memory.
    fn host_stream(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Whether messages keep their borders.
    fn keeps_borders(&self) -> bool;

    /// shutdown(2).
    fn shutdown(&self, directions: Directions) -> Result<(), Errno>;

    /// What could be done without waiting.
    fn poll(&self) -> PollEvents;

    /// Who is told when more can be done.
    fn queue(&self) -> &WaitQueue;

    /// Reads an option of the family's own levels.
    fn option(&self, _ctx: &TaskContext, _level: SocketLevel, _name: i32) -> Result<Vec<u8>, Errno> {
        Err(Errno::ENOPROTOOPT.here())
    }

    /// Changes an option of the family's own levels.
    fn set_option(&self, _ctx: &TaskContext, _level: SocketLevel, _name: i32, _value: &[u8]) -> Result<(), Errno> {
        Err(Errno::ENOPROTOOPT.here())
    }

    /// Whether others may have the same port (SO_REUSEADDR, SO_REUSEPORT) has changed.
    fn sharing_changed(&self) {}

    /// Reads an option of SOL_SOCKET, if it is one whose value this socket keeps itself.
    fn socket_option(&self, _name: i32) -> Option<Result<Vec<u8>, Errno>> {
        None
    }

    /// Changes an option of SOL_SOCKET, if it is one whose value this socket keeps itself. It may also take notice of
    /// another.
    fn set_socket_option(&self, _ctx: &TaskContext, _name: i32, _value: &[u8]) -> Option<Result<(), Errno>> {
        None
    }

    /// Takes the pending error (`SO_ERROR`).
    fn take_error(&self) -> Option<Errno> {
        None
    }

    /// Whether it listens (`SO_ACCEPTCONN`).
    fn is_listening(&self) -> bool {
        false
    }

    /// Who is at the other end (`SO_PEERCRED`), as it was when it connected.
    fn peer_credentials(&self) -> Option<Arc<PeerCredentials>> {
        None
    }

    /// Whether a peek may begin anywhere (`SO_PEEK_OFF`).
    fn can_peek_from(&self) -> bool {
        false
    }

    /// Bytes that can be read (`FIONREAD`).
    fn readable_bytes(&self) -> usize;

    /// About how many bytes the sandbox keeps for what waits to be received.
    fn kept_bytes(&self) -> u64 {
        self.readable_bytes() as u64
    }

    /// Bytes sent that the peer has not read (`SIOCOUTQ`).
    fn unsent_bytes(&self) -> usize {
        0
    }

    /// Whether all that was sent has arrived; if not, its queue tells when to ask again.
    fn has_drained(&self) -> bool {
        true
    }

    /// Commands of ioctl(2) that only this family has.
    fn ioctl(&self, _caller: &dyn Caller, _command: u32, _argument: u64) -> SysResult {
        Err(Errno::ENOTTY.here().into())
    }

    /// The last descriptor is gone.
    fn close(&self);

    /// For families to find their own kind again.
    fn as_any(&self) -> &dyn Any;
}

impl dyn Socket {
    /// Sends as much as there is room for; if there is none, `O_ASYNC` tells when there is again.
    ///
    /// # Errors
    /// Those of [`send`](Socket::send).
    pub fn try_send(&self, ctx: Option<&TaskContext>, message: Outgoing<'_>) -> Result<usize, Errno> {
        let sent = self.send(ctx, message);
        if sent == Err(Errno::EAGAIN) {
            self.queue().signals().note_full();
        }
        sent
    }
}

/// The open file of a socket.
pub struct SocketFile {
    socket: Arc<dyn Socket>,
    inode: Arc<AnonymousInode>,
}

impl SocketFile {
    /// A file for a socket, owned by the task's user.
    pub fn new(vfs: &Vfs, socket: Arc<dyn Socket>, uid: u32, gid: u32) -> Arc<Self> {
        let inode = Arc::new(AnonymousInode::new(&vfs.anonymous.sockfs, FileType::Socket, 0o777, uid, gid));
        socket.options().change(|values| values.inode = inode.number());
        Arc::new(SocketFile { socket, inode })
    }

    /// The socket.
    pub fn socket(&self) -> &Arc<dyn Socket> {
        &self.socket
    }
}

impl File for SocketFile {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn kept_bytes(&self) -> u64 {
        self.socket.kept_bytes()
    }

    fn read_at(&self, buf: &mut [u8], _: u64) -> Result<usize, Errno> {
        self.socket.receive(buf, MessageFlags::empty()).map(|received| received.len)
    }

    fn write_at(&self, buf: &[u8], _: u64) -> Result<usize, Errno> {
        let control = Control::default();
        self.socket.try_send(None, Outgoing { data: buf, address: None, control, flags: MessageFlags::empty() })
    }

    fn host_stream(&self) -> Option<BorrowedFd<'_>> {
        self.socket.host_stream()
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn timeout(&self, writing: bool) -> Option<Duration> {
        self.socket.options().timeout(writing)
    }

    fn poll(&self) -> PollEvents {
        let events = self.socket.poll();
        if !events.contains(PollEvents::POLLOUT) {
            self.socket.queue().signals().note_full();
        }
        events
    }

    fn last_close(&self, caller: &dyn Caller) {
        let Some(seconds) = self.socket.options().look(|values| values.linger).filter(|&seconds| seconds > 0) else {
            return;
        };
        // Only connections linger; others have no end to tell of.
        if !self.socket.has_drained() && self.socket.shutdown(Directions { receive: false, send: true }).is_ok() {
            let queues = [(self.socket.queue(), PollEvents::all())];
            let deadline = deadline_in(Duration::from_secs(seconds.into()));
            // However the wait ends, the socket is closed then.
            let _ = caller.wait(&queues, deadline, &mut || self.socket.has_drained());
        }
    }

    fn low_water(&self) -> usize {
        if self.socket.keeps_borders() { 1 } else { self.socket.options().look(|values| values.receive_low as usize) }
    }

    fn signals_broken_pipe(&self) -> bool {
        !self.socket.keeps_borders()
    }

    fn signal_io(&self) -> SignalIo {
        SignalIo::Whole
    }

    fn is_read_in_turn(&self) -> bool {
        // With SO_RCVLOWAT, what is too little for one reader may be enough for another.
        self.socket.keeps_borders() || self.socket.options().look(|values| values.receive_low <= 1)
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(self.socket.queue())
    }

    fn ioctl(&self, caller: &dyn Caller, command: u32, argument: u64) -> SysResult {
        use amber_abi::ioctl::IoctlRequest as Io;
        match Io::from_raw(command) {
            Io::FIONREAD => {
                if self.socket.is_listening() {
                    return Err(Errno::EINVAL.here().into());
                }
                caller.write_object(argument, &(self.socket.readable_bytes() as i32))?;
                Ok(0)
            }
            Io::TIOCOUTQ => {
                caller.write_object(argument, &(self.socket.unsent_bytes() as i32))?;
                Ok(0)
            }
            _ => match interface::ioctl(caller, command, argument) {
                Some(answer) => answer,
                None => self.socket.ioctl(caller, command, argument),
            },
        }
    }

    fn link_text(&self) -> Option<String> {
        Some(format!("socket:[{}]", self.inode.number()))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.socket.close();
    }
}
