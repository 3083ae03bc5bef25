//! The operations of all sockets, and the open file of a socket.

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

/// The directions of shutdown(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Directions {
    /// Receiving is shut down.
    pub receive: bool,
    /// Sending is shut down.
    pub send: bool,
}

/// A message to send.
pub(crate) struct Outgoing<'a> {
    /// The data.
    pub data: &'a [u8],
    /// The destination, unless it is the peer.
    pub address: Option<&'a [u8]>,
    /// The control data.
    pub control: Control,
    /// Flags of the message itself, such as MSG_EOR and MSG_OOB.
    pub flags: MessageFlags,
}

/// A received message.
#[derive(Default)]
pub(crate) struct Received {
    /// The number of bytes put into the buffer.
    pub len: usize,
    /// The full length of the message, which is greater if it was truncated.
    pub full_len: usize,
    /// The sender's address; none on connected sockets.
    pub address: Option<Vec<u8>>,
    /// The control data.
    pub control: Control,
    /// MSG_TRUNC, MSG_EOR, MSG_OOB and MSG_ERRQUEUE.
    pub flags: MessageFlags,
    /// The charge to the sender's buffer, which ends with the message.
    pub _toll: Option<Toll>,
}

/// A socket. No operation sleeps: after `EAGAIN` the caller waits at the queue and retries.
pub(crate) trait Socket: Send + Sync + Any {
    /// The family, type and protocol (`SO_DOMAIN`, `SO_TYPE`, `SO_PROTOCOL`).
    fn identity(&self) -> (AddressFamily, SocketKind, i32);

    /// Options of all sockets.
    fn options(&self) -> &SharedOptions;

    /// Binds the socket (bind(2)).
    fn bind(&self, ctx: &TaskContext, address: &[u8]) -> Result<(), Errno>;

    /// Starts listening (listen(2)).
    fn listen(&self, _ctx: &TaskContext, _backlog: u32) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP.here())
    }

    /// Connects the socket (connect(2)). After `EINPROGRESS`, the caller waits until the socket is writable and calls
    /// [`connected`](Self::connected). `EAGAIN` means that the listener's backlog is full.
    fn connect(&self, ctx: &TaskContext, address: &[u8]) -> Result<(), Errno>;

    /// The result of a connect in progress; `EINPROGRESS` if it has not ended.
    fn connected(&self) -> Result<(), Errno> {
        Ok(())
    }

    /// Accepts a connection (accept(2)).
    fn accept(&self) -> Result<Arc<dyn Socket>, Errno> {
        Err(Errno::EOPNOTSUPP.here())
    }

    /// The local address, including the family.
    fn local_address(&self) -> Vec<u8>;

    /// The peer's address.
    ///
    /// # Errors
    /// `ENOTCONN` without a peer.
    fn peer_address(&self) -> Result<Vec<u8>, Errno>;

    /// Sends as much as there is room for, and returns the number of bytes.
    fn send(&self, ctx: Option<&TaskContext>, message: Outgoing<'_>) -> Result<usize, Errno>;

    /// Receives a message, or the available data of a stream. Supports the flags MSG_PEEK and MSG_OOB.
    fn receive(&self, buf: &mut [u8], flags: MessageFlags) -> Result<Received, Errno>;

    /// The host's socket, if it is a stream whose data may be transferred directly between it and guest memory.
    fn host_stream(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Whether message boundaries are preserved.
    fn keeps_borders(&self) -> bool;

    /// Shuts down directions (shutdown(2)).
    fn shutdown(&self, directions: Directions) -> Result<(), Errno>;

    /// The operations that would not block.
    fn poll(&self) -> PollEvents;

    /// The wait queue for changes of [`poll`](Self::poll).
    fn queue(&self) -> &WaitQueue;

    /// Reads an option of the family's levels.
    fn option(&self, _ctx: &TaskContext, _level: SocketLevel, _name: i32) -> Result<Vec<u8>, Errno> {
        Err(Errno::ENOPROTOOPT.here())
    }

    /// Sets an option of the family's levels.
    fn set_option(&self, _ctx: &TaskContext, _level: SocketLevel, _name: i32, _value: &[u8]) -> Result<(), Errno> {
        Err(Errno::ENOPROTOOPT.here())
    }

    /// Called when the options for sharing the port (SO_REUSEADDR, SO_REUSEPORT) have changed.
    fn sharing_changed(&self) {}

    /// Reads an option of SOL_SOCKET that the socket itself keeps; none for others.
    fn socket_option(&self, _name: i32) -> Option<Result<Vec<u8>, Errno>> {
        None
    }

    /// Sets an option of SOL_SOCKET that the socket itself keeps; none for others, which it may still note.
    fn set_socket_option(&self, _ctx: &TaskContext, _name: i32, _value: &[u8]) -> Option<Result<(), Errno>> {
        None
    }

    /// Returns and clears the pending error (`SO_ERROR`).
    fn take_error(&self) -> Option<Errno> {
        None
    }

    /// Whether it listens (`SO_ACCEPTCONN`).
    fn is_listening(&self) -> bool {
        false
    }

    /// The credentials of the peer at the time of the connection (`SO_PEERCRED`).
    fn peer_credentials(&self) -> Option<Arc<PeerCredentials>> {
        None
    }

    /// Whether it supports `SO_PEEK_OFF`.
    fn can_peek_from(&self) -> bool {
        false
    }

    /// The number of readable bytes (`FIONREAD`).
    fn readable_bytes(&self) -> usize;

    /// Approximate memory of the receive queue in bytes.
    fn kept_bytes(&self) -> u64 {
        self.readable_bytes() as u64
    }

    /// The number of bytes sent that the peer has not read (`SIOCOUTQ`).
    fn unsent_bytes(&self) -> usize {
        0
    }

    /// Whether all sent data was acknowledged; if not, its queue is notified of the change.
    fn has_drained(&self) -> bool {
        true
    }

    /// Executes an ioctl(2) command of this family.
    fn ioctl(&self, _caller: &dyn Caller, _command: u32, _argument: u64) -> SysResult {
        Err(Errno::ENOTTY.here().into())
    }

    /// Called when the last descriptor was closed.
    fn close(&self);

    /// For downcasts by families.
    fn as_any(&self) -> &dyn Any;
}

impl dyn Socket {
    /// Sends as much as there is room for. If there is none, `O_ASYNC` reports when there is room again.
    ///
    /// # Errors
    /// Errors of [`send`](Socket::send).
    pub(crate) fn try_send(&self, ctx: Option<&TaskContext>, message: Outgoing<'_>) -> Result<usize, Errno> {
        let sent = self.send(ctx, message);
        if sent == Err(Errno::EAGAIN) {
            self.queue().signals().note_full();
        }
        sent
    }
}

/// The open file of a socket.
pub(crate) struct SocketFile {
    socket: Arc<dyn Socket>,
    inode: Arc<AnonymousInode>,
}

impl SocketFile {
    /// Makes a file for a socket, owned by a user and group.
    pub(crate) fn new(vfs: &Vfs, socket: Arc<dyn Socket>, uid: u32, gid: u32) -> Arc<Self> {
        let inode = Arc::new(AnonymousInode::new(&vfs.anonymous.sockfs, FileType::Socket, 0o777, uid, gid));
        socket.options().change(|values| values.inode = inode.number());
        Arc::new(SocketFile { socket, inode })
    }

    /// The socket.
    pub(crate) fn socket(&self) -> &Arc<dyn Socket> {
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
        // Only connections linger; for other sockets the shutdown fails.
        if !self.socket.has_drained() && self.socket.shutdown(Directions { receive: false, send: true }).is_ok() {
            let queues = [(self.socket.queue(), PollEvents::all())];
            let deadline = deadline_in(Duration::from_secs(seconds.into()));
            // The socket is closed however the wait ends.
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
        // With SO_RCVLOWAT, the available data may suffice for one reader but not for another.
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
