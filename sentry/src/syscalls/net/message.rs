//! Sending and receiving of messages.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use amber_abi::errno::Errno;
use amber_abi::open::{Iovec, MAX_RW_COUNT, UIO_MAXIOV};
use amber_abi::poll::PollEvents;
use amber_abi::socket::{IpProtocol, MessageFlags, Mmsghdr, Msghdr};
use amber_abi::time::Timespec;

use super::sockets::{read_address, write_address};
use super::{Opened, find};
use crate::error::{SysError, SysResult};
use crate::net::control::{self, Control};
use crate::net::socket::{Outgoing, Received};
use crate::slices::{at_most_mut, filled};
use crate::syscalls::args::{BufIn, BufOut, Fd, In, PtrIn, PtrOut, SockaddrIn, SockaddrOut};
use crate::syscalls::fs::buffers::{AT_ONCE, DIRECT, with_bounce};
use crate::task::TaskContext;
use crate::wait::deadline_in;

/// Maximum number of messages in one sendmmsg(2) or recvmmsg(2).
const MOST_MESSAGES: u32 = 1024;
/// Maximum size of a message with boundaries, and of a step on a stream.
const CHUNK: usize = 256 << 10;

/// Message flags that are not passed to the socket.
const SENTRY_ONLY: MessageFlags = MessageFlags::MSG_DONTWAIT.union(MessageFlags::MSG_NOSIGNAL);

/// The buffers of a message in guest memory.
struct Pieces {
    pieces: Vec<(u64, u64)>,
    len: u64,
}

impl Pieces {
    fn one(address: u64, len: usize) -> Self {
        let len = (len as u64).min(MAX_RW_COUNT as u64);
        Pieces { pieces: vec![(address, len)], len }
    }

    fn read(ctx: &TaskContext, header: &Msghdr) -> Result<Self, Errno> {
        if header.msg_iovlen > UIO_MAXIOV as u64 {
            return Err(Errno::EMSGSIZE.here());
        }
        let vector = ctx.read_array::<Iovec>(header.msg_iov, header.msg_iovlen as usize)?;
        let mut len = 0u64;
        let mut pieces = Vec::with_capacity(vector.len());
        for piece in vector {
            if piece.iov_len > i64::MAX as u64 {
                return Err(Errno::EINVAL.here());
            }
            let part = piece.iov_len.min(MAX_RW_COUNT as u64 - len);
            len += part;
            pieces.push((piece.iov_base, part));
        }
        Ok(Pieces { pieces, len })
    }

    /// Reads the bytes from `skip` on into `buf`; all of them must be readable.
    fn copy_in(&self, ctx: &TaskContext, mut skip: u64, buf: &mut [u8]) -> Result<(), Errno> {
        let mut done = 0;
        for &(address, len) in &self.pieces {
            let passed = skip.min(len);
            skip -= passed;
            let Some(left) = buf.get_mut(done..) else { break };
            let part = at_most_mut(left, (len - passed) as usize);
            ctx.read_bytes(address.wrapping_add(passed), part)?;
            done += part.len();
        }
        Ok(())
    }

    /// The number of `len` bytes from `skip` on that can be written.
    fn room(&self, ctx: &TaskContext, mut skip: u64, len: usize) -> usize {
        let mut done = 0;
        for &(address, piece) in &self.pieces {
            let passed = skip.min(piece);
            skip -= passed;
            let n = ((piece - passed) as usize).min(len - done);
            let ready = if n > 0 { ctx.mm().prepare_write(address.wrapping_add(passed), n) } else { 0 };
            done += ready;
            if ready < n || done == len {
                break;
            }
        }
        done
    }

    /// The part of a buffer that begins `skip` bytes into the message, at most `len` bytes of it.
    fn piece(&self, mut skip: u64, len: usize) -> (u64, usize) {
        for &(address, piece) in &self.pieces {
            if skip < piece {
                return (address.wrapping_add(skip), len.min((piece - skip) as usize));
            }
            skip -= piece;
        }
        (0, 0)
    }

    /// Receives from a host socket to the bytes from `skip` on, without blocking.
    fn receive(&self, ctx: &TaskContext, skip: u64, len: usize, socket: BorrowedFd<'_>) -> Result<usize, Errno> {
        let mut done = 0;
        while done < len {
            let (address, part) = self.piece(skip + done as u64, (len - done).min(AT_ONCE));
            match ctx.mm().receive(address, part, socket) {
                Ok(moved) => {
                    done += moved;
                    if moved < part || part == 0 || ctx.is_killed() {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    fn copy_out(&self, ctx: &TaskContext, mut skip: u64, mut bytes: &[u8]) -> Result<(), Errno> {
        for &(address, len) in &self.pieces {
            let passed = skip.min(len);
            skip -= passed;
            let (part, rest) = bytes.split_at(((len - passed) as usize).min(bytes.len()));
            ctx.write_bytes(address.wrapping_add(passed), part)?;
            bytes = rest;
        }
        Ok(())
    }
}

/// sendto(2).
pub(crate) fn sendto(
    ctx: &mut TaskContext,
    fd: Fd,
    buf: BufIn,
    len: usize,
    flags: MessageFlags,
    address: SockaddrIn,
    address_len: i32,
) -> SysResult {
    let opened = find(ctx, fd.0)?;
    let address = if address.is_null() { None } else { Some(read_address(ctx, address.0, address_len)?) };
    send(ctx, &opened, &Pieces::one(buf.0, len), address, Control::default(), flags)
}

/// sendmsg(2).
pub(crate) fn sendmsg(ctx: &mut TaskContext, fd: Fd, message: PtrIn, flags: MessageFlags) -> SysResult {
    let opened = find(ctx, fd.0)?;
    let header = ctx.read_object::<Msghdr>(message.0)?;
    send_header(ctx, &opened, &header, flags)
}

fn send_header(ctx: &TaskContext, opened: &Opened, header: &Msghdr, flags: MessageFlags) -> SysResult {
    let address = if header.msg_name == 0 || header.msg_namelen == 0 {
        None
    } else {
        Some(read_address(ctx, header.msg_name, header.msg_namelen.min(128))?)
    };
    let pieces = Pieces::read(ctx, header)?;
    let control = if header.msg_control == 0 || header.msg_controllen == 0 {
        Control::default()
    } else {
        if header.msg_controllen > ctx.kernel().network.limits.numbers.optmem_max.count() {
            return Err(Errno::ENOBUFS.here().into());
        }
        let mut bytes = ctx.buffer(header.msg_controllen as usize)?;
        ctx.read_bytes(header.msg_control, &mut bytes)?;
        control::parse(ctx, opened.socket.identity().0, &bytes)?
    };
    send(ctx, opened, &pieces, address, control, flags)
}

fn send(
    ctx: &TaskContext,
    opened: &Opened,
    pieces: &Pieces,
    mut address: Option<Vec<u8>>,
    mut control: Control,
    mut flags: MessageFlags,
) -> SysResult {
    let nonblocking = flags.contains(MessageFlags::MSG_DONTWAIT) || opened.description.is_nonblocking();
    let mut sent = 0u64;
    let result = loop {
        let rest = pieces.len - sent;
        if sent > 0 && ctx.is_killed() {
            break Ok(());
        }
        if opened.socket.keeps_borders() && rest > CHUNK as u64 {
            break Err(SysError::from(Errno::EMSGSIZE.here()));
        }
        let plain = control.others.is_empty() && address.is_none() && !flags.intersects(!SENTRY_ONLY);
        let (piece, len) = pieces.piece(sent, rest as usize);
        if let Some(socket) = opened.socket.host_stream().filter(|_| plain && len as u64 >= DIRECT) {
            let attempt = || ctx.mm().send(piece, len.min(AT_ONCE), socket);
            match opened.wait_unless(ctx, nonblocking, true, PollEvents::POLLOUT, attempt) {
                Ok(count) => {
                    ctx.kernel().mm.frames.add_unsettled(count as u64);
                    sent += count as u64;
                }
                Err(error) => break Err(error),
            }
            if sent >= pieces.len {
                break Ok(());
            }
            continue;
        }
        let step = with_bounce(ctx, (rest as usize).max(1), |buffer| {
            let data = at_most_mut(buffer, rest as usize);
            pieces.copy_in(ctx, sent, data)?;
            let data = &*data;
            opened.wait_unless(ctx, nonblocking, true, PollEvents::POLLOUT, || {
                let control = control.clone();
                let message = Outgoing { data, address: address.as_deref(), control, flags };
                let sent = opened.socket.try_send(Some(ctx), message);
                if sent == Err(Errno::EINPROGRESS) && !nonblocking {
                    // The connection is established first (`MSG_FASTOPEN` without a cookie); then there is room.
                    address = None;
                    flags.remove(MessageFlags::MSG_FASTOPEN);
                    return Err(Errno::EAGAIN.here());
                }
                sent
            })
        });
        match step {
            Ok(count) => sent += count as u64,
            Err(error) => break Err(error),
        }
        control.files.clear();
        if sent >= pieces.len || opened.socket.keeps_borders() {
            break Ok(());
        }
    };
    match result {
        Err(_) if sent > 0 => Ok(sent),
        Err(SysError::Errno(Errno::EPIPE)) => {
            if !flags.contains(MessageFlags::MSG_NOSIGNAL) && !opened.socket.keeps_borders() {
                ctx.send_kernel(amber_abi::Signal::SIGPIPE);
            }
            Err(Errno::EPIPE.here().into())
        }
        Err(error) => Err(error),
        Ok(()) => Ok(sent),
    }
}

/// sendmmsg(2).
pub(crate) fn sendmmsg(ctx: &mut TaskContext, fd: Fd, messages: PtrOut, count: u32, flags: MessageFlags) -> SysResult {
    let opened = find(ctx, fd.0)?;
    let mut done = 0;
    for i in 0..u64::from(count.min(MOST_MESSAGES)) {
        let place = messages.0.wrapping_add(i * size_of::<Mmsghdr>() as u64);
        let step = ctx.read_object::<Mmsghdr>(place).map_err(SysError::from).and_then(|message| {
            let sent = send_header(ctx, &opened, &message.msg_hdr, flags)?;
            ctx.write_object(place, &Mmsghdr { msg_len: sent as u32, ..message })?;
            Ok(())
        });
        match step {
            Ok(()) => done += 1,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
        if ctx.is_killed() {
            break;
        }
    }
    Ok(done)
}

/// recvfrom(2).
pub(crate) fn recvfrom(
    ctx: &mut TaskContext,
    fd: Fd,
    buf: BufOut,
    len: usize,
    flags: MessageFlags,
    address: SockaddrOut,
    address_len: PtrOut,
) -> SysResult {
    let opened = find(ctx, fd.0)?;
    let received = receive(ctx, &opened, &Pieces::one(buf.0, len), flags)?;
    if !address.is_null() {
        // A stream's peer is known: as on Linux, only the length 0 is written.
        match &received.address {
            Some(sender) => write_address(ctx, sender, address.0, address_len.0)?,
            None => ctx.write_object(address_len.0, &0u32)?,
        }
    }
    Ok(length(&received, flags))
}

/// The result of a receiving call. With MSG_TRUNC it is the full length of the message.
fn length(received: &Received, flags: MessageFlags) -> u64 {
    if flags.contains(MessageFlags::MSG_TRUNC) { received.full_len as u64 } else { received.len as u64 }
}

/// recvmsg(2).
pub(crate) fn recvmsg(ctx: &mut TaskContext, fd: Fd, message: PtrOut, flags: MessageFlags) -> SysResult {
    let opened = find(ctx, fd.0)?;
    let header = ctx.read_object::<Msghdr>(message.0)?;
    let (len, header) = receive_header(ctx, &opened, header, flags)?;
    ctx.write_object(message.0, &header)?;
    Ok(len)
}

fn receive_header(
    ctx: &TaskContext,
    opened: &Opened,
    mut header: Msghdr,
    flags: MessageFlags,
) -> Result<(u64, Msghdr), SysError> {
    if header.msg_namelen < 0 {
        return Err(Errno::EINVAL.here().into());
    }
    let pieces = Pieces::read(ctx, &header)?;
    let mut received = receive(ctx, opened, &pieces, flags)?;
    if header.msg_name != 0 {
        let sender = received.address.take().unwrap_or_default();
        ctx.write_bytes(header.msg_name, sender.get(..header.msg_namelen as usize).unwrap_or(&sender))?;
        header.msg_namelen = sender.len() as i32;
    }
    let control = std::mem::take(&mut received.control);
    let room = if header.msg_control == 0 { 0 } else { header.msg_controllen.min(i32::MAX as u64) };
    let close_on_exec = flags.contains(MessageFlags::MSG_CMSG_CLOEXEC);
    let (used, cut) = control::deliver(ctx, control, header.msg_control, room, close_on_exec);
    header.msg_controllen = used;
    header.msg_flags = (received.flags | cut | (flags & MessageFlags::MSG_CMSG_CLOEXEC)).bits();
    Ok((length(&received, flags), header))
}

/// Receives one message, or from a stream the available bytes, but at least those to wait for (`MSG_WAITALL`,
/// `SO_RCVLOWAT`).
fn receive(ctx: &TaskContext, opened: &Opened, pieces: &Pieces, flags: MessageFlags) -> Result<Received, SysError> {
    let receiver = Receiver::new(opened, pieces, flags);
    let mut whole: Option<Received> = None;
    loop {
        let so_far = whole.as_ref().map_or(0, |received| received.len as u64);
        let step =
            with_bounce(ctx, ((pieces.len - so_far) as usize).max(1), |buffer| receiver.step(ctx, so_far, buffer));
        let part = match (step, &mut whole) {
            (Ok(part), _) => part,
            (Err(error), None) => return Err(error),
            (Err(_), Some(_)) => break,
        };
        let ended = part.len == 0;
        let has_files = !part.control.has_no_files();
        let stops = part.flags.contains(MessageFlags::MSG_OOB);
        match &mut whole {
            None => whole = Some(part),
            Some(received) => {
                received.len += part.len;
                received.full_len += part.len;
                received.control.files.extend(part.control.files);
            }
        }
        let len = whole.as_ref().map_or(0, |received| received.len as u64);
        if ended || has_files || stops || receiver.peek || len >= receiver.least || ctx.is_killed() {
            break;
        }
    }
    Ok(whole.unwrap_or_default())
}

/// The parameters of a receiving call.
struct Receiver<'a> {
    opened: &'a Opened,
    pieces: &'a Pieces,
    flags: MessageFlags,
    nonblocking: bool,
    stream: bool,
    peek: bool,
    /// Received bytes are discarded (`MSG_TRUNC` of TCP).
    discard: bool,
    /// Minimum number of bytes to receive from a stream.
    least: u64,
}

impl<'a> Receiver<'a> {
    fn new(opened: &'a Opened, pieces: &'a Pieces, flags: MessageFlags) -> Self {
        let stream = !opened.socket.keeps_borders();
        let low = opened.socket.options().look(|values| u64::from(values.receive_low));
        let all = flags.contains(MessageFlags::MSG_WAITALL);
        let errors = flags.contains(MessageFlags::MSG_ERRQUEUE);
        Receiver {
            opened,
            pieces,
            flags,
            nonblocking: flags.contains(MessageFlags::MSG_DONTWAIT) || errors || opened.description.is_nonblocking(),
            stream,
            discard: flags.contains(MessageFlags::MSG_TRUNC)
                && stream
                && opened.socket.identity().2 == IpProtocol::IPPROTO_TCP.raw(),
            peek: flags.contains(MessageFlags::MSG_PEEK),
            least: match (stream, all) {
                (false, _) => 0,
                (true, false) => low.min(pieces.len),
                (true, true) => pieces.len,
            },
        }
    }

    /// Whether to receive this many bytes of a stream directly into guest memory. Special flags exclude it.
    fn goes_direct(&self, want: usize) -> bool {
        let special =
            MessageFlags::MSG_PEEK | MessageFlags::MSG_OOB | MessageFlags::MSG_TRUNC | MessageFlags::MSG_ERRQUEUE;
        self.stream && want as u64 >= DIRECT && !self.flags.intersects(special)
    }

    /// Whether a wait for a datagram is futile, since the socket is shut down for receiving.
    fn ends_instead(&self) -> bool {
        !self.nonblocking && !self.stream && self.opened.socket.poll().contains(PollEvents::POLLRDHUP)
    }

    /// Receives into guest memory from `so_far` on.
    fn step(&self, ctx: &TaskContext, so_far: u64, buffer: &mut [u8]) -> Result<Received, SysError> {
        let socket = &self.opened.socket;
        let mut want = ((self.pieces.len - so_far) as usize).min(buffer.len());
        if self.stream && want > 0 && !self.discard {
            // Data that cannot be delivered must stay in the stream.
            let room = self.pieces.room(ctx, so_far, want);
            if room == 0 {
                let peek = self.flags | MessageFlags::MSG_PEEK;
                let there = || socket.receive(at_most_mut(buffer, 1), peek);
                let there = self.opened.wait_unless(ctx, self.nonblocking, false, PollEvents::POLLIN, there)?;
                return if there.len == 0 { Ok(there) } else { Err(Errno::EFAULT.here().into()) };
            }
            want = room;
        }
        if let Some(socket) = self.opened.socket.host_stream().filter(|_| self.goes_direct(want)) {
            let attempt = || self.pieces.receive(ctx, so_far, want, socket);
            let len = self.opened.wait_unless(ctx, self.nonblocking, false, PollEvents::POLLIN, attempt)?;
            return Ok(Received { len, full_len: len, ..Received::default() });
        }
        let least = self.least.min(want as u64) as usize;
        let waits = self.stream && self.peek && least > 1;
        let over = PollEvents::POLLRDHUP | PollEvents::POLLHUP | PollEvents::POLLERR;
        let attempt = || {
            if waits && socket.readable_bytes() < least && !socket.poll().intersects(over) {
                return Err(Errno::EAGAIN.here());
            }
            match socket.receive(at_most_mut(buffer, want), self.flags) {
                // Only calls that would block report the end instead.
                Err(Errno::EAGAIN) if self.ends_instead() => Ok(Received::default()),
                answer => answer,
            }
        };
        let got = if self.least > 1 || self.peek {
            self.opened.wait_unless(ctx, self.nonblocking, false, PollEvents::POLLIN, attempt)
        } else {
            self.opened.wait_in_turn(ctx, self.nonblocking, attempt)
        };
        let part = match got {
            // A peek that does not get its minimum returns the available bytes.
            Err(error) if waits => socket.receive(at_most_mut(buffer, want), self.flags).map_err(|_| error)?,
            answer => answer?,
        };
        if !self.discard {
            self.pieces.copy_out(ctx, so_far, filled(buffer, part.len)?)?;
        }
        Ok(part)
    }
}

/// recvmmsg(2).
pub(crate) fn recvmmsg(
    ctx: &mut TaskContext,
    fd: Fd,
    messages: PtrOut,
    count: u32,
    flags: MessageFlags,
    timeout: In<Timespec>,
) -> SysResult {
    let opened = find(ctx, fd.0)?;
    let limit = match timeout.read_if_given(ctx)? {
        Some(time) if time.is_valid() => deadline_in(Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec as u32)),
        Some(_) => return Err(Errno::EINVAL.here().into()),
        None => None,
    };
    let mut flags = flags;
    let mut done = 0;
    for i in 0..u64::from(count.min(MOST_MESSAGES)) {
        let place = messages.0.wrapping_add(i * size_of::<Mmsghdr>() as u64);
        let step = ctx.read_object::<Mmsghdr>(place).map_err(SysError::from).and_then(|message| {
            let plain = flags & !MessageFlags::MSG_WAITFORONE;
            let (len, header) = receive_header(ctx, &opened, message.msg_hdr, plain)?;
            ctx.write_object(place, &Mmsghdr { msg_hdr: header, msg_len: len as u32, ..message })?;
            Ok(())
        });
        match step {
            Ok(()) => done += 1,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
        if flags.contains(MessageFlags::MSG_WAITFORONE) {
            flags |= MessageFlags::MSG_DONTWAIT;
        }
        // As on Linux, the timeout is checked only between messages.
        if ctx.is_killed() || limit.is_some_and(|limit| Instant::now() >= limit) {
            break;
        }
    }
    Ok(done)
}
