//! Host sockets. All are non-blocking, and no call here waits.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use amber_abi::errno::Errno;

use crate::fs::Result;

/// Size of an address of any family (`struct sockaddr_storage`).
const ADDRESS: usize = 128;
/// Size of the buffer for control messages; more than all options together produce.
const CONTROL: usize = 2048;
/// Size of a `struct ifreq`.
pub const IFREQ: usize = 40;

fn last_error() -> Errno {
    Errno::from_host(io::Error::last_os_error())
}

fn check(answer: i32) -> Result<i32> {
    if answer < 0 { Err(last_error()) } else { Ok(answer) }
}

fn length(answer: isize) -> Result<usize> {
    usize::try_from(answer).map_err(|_| last_error())
}

fn own(fd: i32) -> Result<OwnedFd> {
    check(fd)?;
    // SAFETY: the call that returned it made the descriptor for this caller only.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// socket(2).
pub fn open(family: u16, kind: u32, protocol: i32) -> Result<OwnedFd> {
    let kind = kind as i32 | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no memory is involved.
    own(unsafe { libc::socket(i32::from(family), kind, protocol) })
}

/// bind(2).
pub fn bind(socket: BorrowedFd<'_>, address: &[u8]) -> Result<()> {
    // SAFETY: the address is as long as said.
    check(unsafe { libc::bind(socket.as_raw_fd(), address.as_ptr().cast(), address.len() as u32) }).map(drop)
}

/// connect(2), which may return `EINPROGRESS`.
pub fn connect(socket: BorrowedFd<'_>, address: &[u8]) -> Result<()> {
    // SAFETY: the address is as long as said.
    check(unsafe { libc::connect(socket.as_raw_fd(), address.as_ptr().cast(), address.len() as u32) }).map(drop)
}

/// listen(2).
pub fn listen(socket: BorrowedFd<'_>, backlog: i32) -> Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::listen(socket.as_raw_fd(), backlog) }).map(drop)
}

/// Makes a call that returns an address.
fn address(call: impl FnOnce(*mut libc::sockaddr, *mut libc::socklen_t) -> i32) -> Result<(i32, Vec<u8>)> {
    let mut bytes = [0u8; ADDRESS];
    let mut len = ADDRESS as libc::socklen_t;
    let answer = check(call(bytes.as_mut_ptr().cast(), &mut len))?;
    Ok((answer, bytes[..(len as usize).min(ADDRESS)].to_vec()))
}

/// accept4(2): the connection and the peer's address.
pub fn accept(socket: BorrowedFd<'_>) -> Result<(OwnedFd, Vec<u8>)> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: `address` gives room of the length it says.
    let (fd, peer) = address(|bytes, len| unsafe { libc::accept4(socket.as_raw_fd(), bytes, len, flags) })?;
    Ok((own(fd)?, peer))
}

/// getsockname(2).
pub fn local_address(socket: BorrowedFd<'_>) -> Result<Vec<u8>> {
    // SAFETY: `address` gives room of the length it says.
    Ok(address(|bytes, len| unsafe { libc::getsockname(socket.as_raw_fd(), bytes, len) })?.1)
}

/// getpeername(2).
pub fn peer_address(socket: BorrowedFd<'_>) -> Result<Vec<u8>> {
    // SAFETY: `address` gives room of the length it says.
    Ok(address(|bytes, len| unsafe { libc::getpeername(socket.as_raw_fd(), bytes, len) })?.1)
}

/// shutdown(2).
pub fn shutdown(socket: BorrowedFd<'_>, how: i32) -> Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::shutdown(socket.as_raw_fd(), how) }).map(drop)
}

/// Sends bytes to the peer.
pub fn send(socket: BorrowedFd<'_>, data: &[u8], flags: u32) -> Result<usize> {
    send_message(socket, data, &[], &[], flags)
}

/// sendmsg(2). No address is passed if `address` is empty. The control messages are laid out as sendmsg(2) takes them.
pub fn send_message(socket: BorrowedFd<'_>, data: &[u8], address: &[u8], control: &[u8], flags: u32) -> Result<usize> {
    let mut piece = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: a header of zeroes is a valid empty header.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = &mut piece;
    header.msg_iovlen = 1;
    if !address.is_empty() {
        header.msg_name = address.as_ptr().cast_mut().cast();
        header.msg_namelen = address.len() as u32;
    }
    if !control.is_empty() {
        header.msg_control = control.as_ptr().cast_mut().cast();
        header.msg_controllen = control.len();
    }
    let flags = flags as i32 | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the header points to memory of the lengths it says, which the call only reads.
    length(unsafe { libc::sendmsg(socket.as_raw_fd(), &header, flags) })
}

/// Receives bytes.
pub fn receive(socket: BorrowedFd<'_>, buf: &mut [u8], flags: u32) -> Result<usize> {
    let mut piece = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: a header of zeroes is a valid empty header.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = &mut piece;
    header.msg_iovlen = 1;
    let flags = flags as i32 | libc::MSG_DONTWAIT;
    // SAFETY: the header points to memory of the lengths it says, which nothing else uses meanwhile.
    length(unsafe { libc::recvmsg(socket.as_raw_fd(), &mut header, flags) })
}

/// A received message.
pub struct Message {
    /// The result of recvmsg(2). With `MSG_TRUNC` among the flags of the call, it can exceed the buffer.
    pub len: usize,
    /// The sender; empty if the host does not report one.
    pub address: Vec<u8>,
    /// The control messages, as recvmsg(2) lays them out.
    pub control: Vec<u8>,
    /// The flags of the message (`msg_flags`).
    pub flags: u32,
}

/// recvmsg(2), for address families that pass no descriptors.
pub fn receive_message(socket: BorrowedFd<'_>, buf: &mut [u8], flags: u32) -> Result<Message> {
    /// Control messages are aligned to eight bytes.
    #[repr(align(8))]
    struct Room([u8; CONTROL]);
    let mut address = [0u8; ADDRESS];
    let mut control = Room([0; CONTROL]);
    let mut piece = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: a header of zeroes is a valid empty header.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = &mut piece;
    header.msg_iovlen = 1;
    header.msg_name = address.as_mut_ptr().cast();
    header.msg_namelen = ADDRESS as u32;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL;
    let flags = flags as i32 | libc::MSG_DONTWAIT;
    // SAFETY: the header points to memory of the lengths it says, which nothing else uses meanwhile.
    let len = length(unsafe { libc::recvmsg(socket.as_raw_fd(), &mut header, flags) })?;
    Ok(Message {
        len,
        address: address[..(header.msg_namelen as usize).min(ADDRESS)].to_vec(),
        control: control.0[..header.msg_controllen.min(CONTROL)].to_vec(),
        flags: header.msg_flags as u32,
    })
}

/// getsockopt(2), for values of at most `room` bytes.
pub fn option(socket: BorrowedFd<'_>, level: i32, name: i32, room: usize) -> Result<Vec<u8>> {
    let mut value = vec![0u8; room];
    let mut len = room as libc::socklen_t;
    // SAFETY: the buffer is as long as passed; callers ask for options whose values contain no pointers.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &mut len) })?;
    value.truncate(len as usize);
    Ok(value)
}

/// How many bytes an option has of which too short a buffer is refused, with the length that is wanted; 0 if the host does
/// not say.
pub fn wanted_room(socket: BorrowedFd<'_>, level: i32, name: i32) -> usize {
    let mut nothing = 0u8;
    let mut len: libc::socklen_t = 0;
    // SAFETY: the buffer is given as empty, so that nothing is written to it.
    let answer = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut nothing).cast(), &mut len) };
    if answer < 0 { len as usize } else { 0 }
}

/// setsockopt(2). The value must not contain pointers.
pub fn set_option(socket: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> Result<()> {
    let (data, len) = (value.as_ptr().cast(), value.len() as libc::socklen_t);
    // SAFETY: the value is as long as passed.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, data, len) }).map(drop)
}

/// Attaches a classic BPF program by the SOL_SOCKET option `name`. The host's kernel checks it.
pub fn attach_filter(socket: BorrowedFd<'_>, name: i32, program: &[[u8; 8]]) -> Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::EINVAL.here())?;
    let filter = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: the value is one structure, which points to as many instructions of eight bytes as it contains in its
    // length; they are copied, and nothing is written to them.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, (&raw const filter).cast(), size) })
        .map(drop)
}

/// The number returned by an ioctl(2) command of sockets, such as `FIONREAD`.
pub fn number(socket: BorrowedFd<'_>, command: u32) -> Result<i32> {
    let mut value = 0i32;
    // SAFETY: the commands passed here write one int.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), command.into(), &mut value) })?;
    Ok(value)
}

/// Queries an interface by a `struct ifreq` (netdevice(7)). The command must be one that fills it in, without pointers.
pub fn interface(socket: BorrowedFd<'_>, command: u32, request: &mut [u8; IFREQ]) -> Result<()> {
    // SAFETY: the commands passed here read and write one structure of this size.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), command.into(), request.as_mut_ptr()) }).map(drop)
}

/// Speed in Mbit/s and duplex mode (`DUPLEX_*`) of an interface by name (`ETHTOOL_GSET`).
pub fn link_settings(socket: BorrowedFd<'_>, name: &[u8]) -> Result<(u32, u8)> {
    /// `struct ethtool_cmd` from its first field, the command, to its last one. The upper half of the speed is a
    /// separate field.
    #[repr(C)]
    #[derive(Default)]
    struct Settings {
        command: u32,
        modes: [u32; 2],
        speed: u16,
        duplex: u8,
        ports: [u8; 5],
        packets: [u32; 2],
        speed_high: u16,
        crossing: [u8; 2],
        rest: [u32; 3],
    }
    const ETHTOOL_GSET: u32 = 1;
    let mut settings = Settings { command: ETHTOOL_GSET, ..Settings::default() };
    // SAFETY: a structure of zeroes is a valid empty request.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    if name.len() >= request.ifr_name.len() {
        return Err(Errno::ENODEV.here());
    }
    for (place, &byte) in request.ifr_name.iter_mut().zip(name) {
        *place = byte.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut settings).cast();
    // SAFETY: the command reads and writes one structure of this layout behind the request's pointer.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &mut request) })?;
    Ok((u32::from(settings.speed_high) << 16 | u32::from(settings.speed), settings.duplex))
}

/// All interfaces with an IPv4 address, each as a `struct ifreq` with that address (`SIOCGIFCONF`).
pub fn interfaces(socket: BorrowedFd<'_>) -> Result<Vec<[u8; IFREQ]>> {
    let mut room = 16;
    loop {
        let mut entries = vec![[0u8; IFREQ]; room];
        // SAFETY: a structure of zeroes is a valid empty request.
        let mut conf: libc::ifconf = unsafe { MaybeUninit::zeroed().assume_init() };
        conf.ifc_len = (room * IFREQ) as i32;
        conf.ifc_ifcu.ifcu_buf = entries.as_mut_ptr().cast();
        // SAFETY: the structure points to as many bytes as its length says.
        check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFCONF, &mut conf) })?;
        let count = usize::try_from(conf.ifc_len).unwrap_or(0) / IFREQ;
        if count < room {
            entries.truncate(count);
            return Ok(entries);
        }
        room *= 2;
    }
}

/// Time of the last received packet, in seconds and a fraction whose unit depends on the command (`SIOCGSTAMP`,
/// `SIOCGSTAMPNS`).
pub fn timestamp(socket: BorrowedFd<'_>, command: u32) -> Result<[i64; 2]> {
    let mut value = [0i64; 2];
    // SAFETY: the commands passed here write one timeval or timespec, which are two such numbers.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), command.into(), value.as_mut_ptr()) })?;
    Ok(value)
}
