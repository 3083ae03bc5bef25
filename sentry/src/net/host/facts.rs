//! The state of the host's network, for `/proc/net`, netlink and ioctl(2).

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::ioctl::{Ifreq, IoctlRequest};
use amber_abi::netlink::*;
use amber_abi::open::OpenFlags;
use amber_abi::socket::{AddressFamily, SocketKind};
use amber_abi::sockopt::SocketLevel;
use amber_host::fs as files;
use amber_host::socket::{self as host, IFREQ};
use amber_host::trees::{HostTrees, Start};
use amber_platform::{GuestMemory, KernelPart};
use zerocopy::{FromBytes, IntoBytes};

use super::events::HostEvents;
use super::parameters::HostParameters;
use super::{Sockets, open};
use crate::credentials::Credentials;
use crate::interruption::check_killed;
use crate::net::inet::{ForeignFacts, Lines, Parameters, Watch};
use crate::slices::filled;

/// The socket tables of `/proc/net`, whose lines contain owners and inodes.
const TABLES: [&str; 10] = ["tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6", "icmp", "icmp6"];
/// The positions of fields in a line. Addresses, state, queues and timers precede the owner.
const QUEUES_FIELD: usize = 4;
const OWNER_FIELD: usize = 7;
const INODE_FIELD: usize = 9;
/// The maximum size of the reply to one request, in bytes; larger ones fail.
const MOST_ANSWERS: usize = 64 << 20;
/// The buffer size for a datagram. The host kernel sends no longer ones.
pub(super) const DATAGRAM: usize = 64 << 10;
/// The position of the requester's address in the header of a message.
const PORT_PLACE: std::ops::Range<usize> = 12..16;

/// Positions of the queue lengths, the owner and the inode in `struct inet_diag_msg`.
const DIAG_LENGTH: std::ops::Range<usize> = 56..60;
const DIAG_MOST: std::ops::Range<usize> = 60..64;
const DIAG_OWNER: std::ops::Range<usize> = 64..68;
const DIAG_INODE: std::ops::Range<usize> = 68..72;

/// Memory of the host kernel for an open table: structures and a page of text, in bytes.
const TABLE_BYTES: u64 = 6 << 10;

/// The sentry's data on a socket of the guest.
struct Known {
    inode: u64,
    uid: u32,
    /// The number of connections waiting in the sentry, in addition to those on the host.
    waiting: u32,
    /// The backlog that the guest requested for a listener.
    most: Option<u32>,
}

/// The guest's sockets by inode number of the host.
type Owned = HashMap<u64, Known>;

/// Queries of the host's network.
pub(super) struct HostFacts {
    /// The socket for ioctl(2) on interfaces.
    asker: OwnedFd,
    /// `/proc/net` of the host, opened before access is restricted; none without `/proc`.
    tables: Option<OwnedFd>,
    parameters: HostParameters,
    sockets: Arc<Sockets>,
}

impl HostFacts {
    /// Opens the files and sockets for later queries.
    pub(super) fn new(sockets: Arc<Sockets>, trees: &HostTrees, own: bool) -> Result<Self, Errno> {
        let udp = |family| open(family, SocketKind::SOCK_DGRAM, 0);
        let asker = udp(AddressFamily::AF_INET).or_else(|_| udp(AddressFamily::AF_INET6))?;
        let tables = directory(trees, "/proc/self/net");
        Ok(HostFacts { asker, tables, parameters: HostParameters::new(trees, own), sockets })
    }

    /// See [`HostParameters::shorten_queues`].
    pub(super) fn shorten_queues(&self) {
        self.parameters.shorten_queues();
    }

    /// Whether a task may make ping sockets: one of its groups is in `net.ipv4.ping_group_range`.
    pub(super) fn may_ping(&self, credentials: &Credentials) -> bool {
        let range = self.parameters.read("net/ipv4/ping_group_range").unwrap_or_default();
        let range = String::from_utf8_lossy(&range);
        let bounds: Vec<u32> = range.split_whitespace().filter_map(|bound| bound.parse().ok()).collect();
        let [first, last] = bounds[..] else { return false };
        credentials.groups.iter().chain([&credentials.egid]).any(|group| (first..=last).contains(group))
    }

    /// The guest's sockets by inode number of the host.
    fn own_sockets(&self) -> Owned {
        let own = |socket: Arc<super::HostSocket>| {
            let number = files::stat(socket.fd()).ok()?.number;
            let inode = socket.options.look(|values| values.inode);
            let (waiting, most) = (socket.waiting.count() as u32, socket.waiting.most());
            Some((number, Known { inode, uid: socket.uid, waiting, most }))
        };
        self.sockets.all().into_iter().filter_map(|socket| own(socket.upgrade()?)).collect()
    }
}

impl ForeignFacts for HostFacts {
    fn interface(&self, command: IoctlRequest, request: &mut Ifreq) -> Result<(), Errno> {
        let mut bytes = [0; IFREQ];
        bytes.copy_from_slice(request.as_bytes());
        host::interface(self.asker.as_fd(), command.raw(), &mut bytes)?;
        *request = Ifreq::read_from_bytes(&bytes).map_err(|_| Errno::EINVAL.here())?;
        Ok(())
    }

    fn link_settings(&self, name: &[u8]) -> Result<(u32, u8), Errno> {
        host::link_settings(self.asker.as_fd(), name)
    }

    fn addressed(&self) -> Result<Vec<Ifreq>, Errno> {
        let all = host::interfaces(self.asker.as_fd())?;
        all.iter().map(|bytes| Ifreq::read_from_bytes(bytes).map_err(|_| Errno::EINVAL.here())).collect()
    }

    fn route(&self, header: &Nlmsghdr, body: &[u8], port: u32, strict: bool) -> Result<Vec<Vec<u8>>, Errno> {
        let socket = netlink(NetlinkProtocol::NETLINK_ROUTE)?;
        if strict {
            let name = NetlinkOption::NETLINK_GET_STRICT_CHK.raw();
            host::set_option(socket.as_fd(), SocketLevel::SOL_NETLINK.raw(), name, &1i32.to_ne_bytes())?;
        }
        ask(&self.sockets.memory, &socket, header, body, port, |_| ())
    }

    fn sockets(&self, header: &Nlmsghdr, body: &[u8], port: u32) -> Result<Vec<Vec<u8>>, Errno> {
        let own = self.own_sockets();
        let socket = netlink(NetlinkProtocol::NETLINK_SOCK_DIAG)?;
        ask(&self.sockets.memory, &socket, header, body, port, |message| {
            let Some(inode) = message.get_mut(DIAG_INODE) else { return };
            let number = inode.first_chunk().map_or(0, |bytes| u64::from(u32::from_ne_bytes(*bytes)));
            let known = own.get(&number);
            inode.copy_from_slice(&known.map_or(0, |known| known.inode as u32).to_ne_bytes());
            let Some(known) = known else { return };
            if let Some(owner) = message.get_mut(DIAG_OWNER) {
                owner.copy_from_slice(&known.uid.to_ne_bytes());
            }
            // For a listener, the length and limit of its queue.
            let Some(most) = known.most else { return };
            if let Some(bytes) = message.get_mut(DIAG_LENGTH)
                && let Some(number) = bytes.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
            {
                bytes.copy_from_slice(&number.saturating_add(known.waiting).to_ne_bytes());
            }
            if let Some(bytes) = message.get_mut(DIAG_MOST) {
                bytes.copy_from_slice(&most.to_ne_bytes());
            }
        })
    }

    fn watch(&self) -> Result<Arc<dyn Watch>, Errno> {
        Ok(HostEvents::new(&self.sockets)?)
    }

    fn table(&self, name: &str) -> Option<Lines> {
        let directory = self.tables.as_ref()?;
        let file = files::open_file_at(directory.as_fd(), name.as_bytes(), OpenFlags::empty()).ok()?;
        let charge = self.sockets.memory.charge(KernelPart::Files, TABLE_BYTES);
        let change: fn(&[u8], &Owned) -> Vec<u8> = match name {
            "packet" => rename_packet,
            _ if TABLES.contains(&name) => rename,
            _ => |line, _| line.to_vec(),
        };
        let own = if name == "packet" || TABLES.contains(&name) { self.own_sockets() } else { Owned::new() };
        // The start of an incomplete line.
        let mut line = Vec::new();
        Some(Box::new(move |text| {
            let _ = &charge;
            let mut piece = [0; 4096];
            let len = match files::read(file.as_fd(), &mut piece) {
                Err(Errno::EINTR) => return Ok(true),
                len => len?,
            };
            for part in filled(&piece, len)?.split_inclusive(|&byte| byte == b'\n') {
                line.extend_from_slice(part);
                if line.ends_with(b"\n") {
                    text.append(&mut change(&line, &own));
                    line.clear();
                }
            }
            if len == 0 && !line.is_empty() {
                text.append(&mut change(&line, &own));
            }
            Ok(len > 0)
        }))
    }

    fn parameters(&self) -> &dyn Parameters {
        &self.parameters
    }
}

/// Opens a directory of the host that only describes its state; none if there is none.
pub(super) fn directory(trees: &HostTrees, path: &str) -> Option<OwnedFd> {
    match trees.start(Path::new(path)) {
        Ok(Start::Directory(fd) | Start::File(fd, _)) => Some(fd),
        Ok(Start::Read(_) | Start::Sealed(_)) => None,
        Err(errno) => {
            log::warn!("{path}: {errno}");
            None
        }
    }
}

pub(super) fn netlink(protocol: NetlinkProtocol) -> Result<OwnedFd, Errno> {
    host::open(AddressFamily::AF_NETLINK.raw(), SocketKind::SOCK_RAW.raw(), protocol.raw())
}

/// Sends a request to the host and addresses its reply to the guest's port. `change` is called with the body of each
/// message.
fn ask(
    memory: &GuestMemory,
    socket: &OwnedFd,
    header: &Nlmsghdr,
    body: &[u8],
    port: u32,
    change: impl Fn(&mut [u8]),
) -> Result<Vec<Vec<u8>>, Errno> {
    // The sentry sends the acknowledgement.
    let flags = header.nlmsg_flags & !NetlinkFlags::NLM_F_ACK.bits();
    let nlmsg_len = (size_of::<Nlmsghdr>() + body.len()) as u32;
    let asked = Nlmsghdr { nlmsg_len, nlmsg_flags: flags, nlmsg_pid: 0, ..*header };
    host::send(socket.as_fd(), &[asked.as_bytes(), body].concat(), 0)?;
    let mut answers = Vec::new();
    let mut left = MOST_ANSWERS;
    let mut room = vec![0; DATAGRAM];
    loop {
        check_killed()?;
        memory.admit(DATAGRAM as u64)?;
        let len = match host::receive(socket.as_fd(), &mut room, 0) {
            // The reply is complete.
            Err(Errno::EAGAIN) => return Ok(answers),
            len => len?,
        };
        let Some(answer) = room.get(..len).filter(|answer| !answer.is_empty()) else { return Ok(answers) };
        left = left.checked_sub(len).ok_or_else(|| Errno::ENOBUFS.here())?;
        let mut answer = answer.to_vec();
        let last = readdress(&mut answer, port, &change)?;
        answers.push(answer);
        if last {
            return Ok(answers);
        }
    }
}

/// Replaces the address in messages of the host. Returns true after the last message.
fn readdress(mut bytes: &mut [u8], port: u32, change: impl Fn(&mut [u8])) -> Result<bool, Errno> {
    while let Ok((header, rest)) = Nlmsghdr::read_from_prefix(bytes) {
        if header.nlmsg_type == NLMSG_ERROR {
            let error = rest.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
            return Err(Errno::from_host(std::io::Error::from_raw_os_error(error.wrapping_neg())));
        }
        if let Some(place) = bytes.get_mut(PORT_PLACE) {
            place.copy_from_slice(&port.to_ne_bytes());
        }
        let multiple = NetlinkFlags::from_bits_retain(header.nlmsg_flags).contains(NetlinkFlags::NLM_F_MULTI);
        let len = header.nlmsg_len as usize;
        if header.nlmsg_type != NLMSG_DONE
            && let Some(body) = bytes.get_mut(size_of::<Nlmsghdr>()..len)
        {
            change(body);
        }
        if header.nlmsg_type == NLMSG_DONE || !multiple {
            return Ok(true);
        }
        bytes = bytes.get_mut(align(len)..).unwrap_or_default();
    }
    Ok(false)
}

/// Replaces the owner and the inode in a line of a socket table by those of the guest. Sockets of other processes get
/// the inode 0.
fn rename(line: &[u8], own: &Owned) -> Vec<u8> {
    let renamed = || {
        let text = std::str::from_utf8(line).ok()?;
        let mut places = Vec::new();
        let mut at = 0;
        for field in text.split_ascii_whitespace() {
            at += text.get(at..)?.find(field)?;
            places.push(at..at + field.len());
            at += field.len();
        }
        let (owner, inode) = (places.get(OWNER_FIELD)?.clone(), places.get(INODE_FIELD)?.clone());
        let number = text.get(inode.clone())?.parse::<u64>().ok()?;
        let (known, uid, waiting) = match own.get(&number) {
            Some(known) => (known.inode, known.uid.to_string(), known.waiting),
            None => (0, text.get(owner.clone())?.to_owned(), 0),
        };
        // The owner has a width of at least five, after a space.
        let mut head = text.get(..places.get(OWNER_FIELD - 1)?.end)?.to_owned();
        if waiting > 0 {
            let place = places.get(QUEUES_FIELD)?.clone();
            let (sent, received) = text.get(place.clone())?.split_once(':')?;
            let received = u32::from_str_radix(received, 16).ok()?.saturating_add(waiting);
            head.replace_range(place, &format!("{sent}:{received:08X}"));
        }
        let between = text.get(owner.end..inode.start)?;
        let tail = text.get(inode.end..)?.trim_end();
        let whole = format!("{head} {uid:>5}{between}{known}{tail}");
        let width = text.trim_end_matches('\n').len();
        Some(format!("{whole:<width$}\n").into_bytes())
    };
    renamed().unwrap_or_else(|| line.to_vec())
}

/// Like [`rename`] for the table of packet sockets.
fn rename_packet(line: &[u8], own: &Owned) -> Vec<u8> {
    let text = String::from_utf8_lossy(line);
    let line = text.trim_end_matches('\n');
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let renamed = || {
        let &[_, count, kind, protocol, interface, running, memory, owner, inode] = fields.as_slice() else {
            return None;
        };
        let known = own.get(&inode.parse().ok()?);
        let inode = known.map_or(0, |known| known.inode);
        let owner = known.map_or_else(|| owner.to_owned(), |known| known.uid.to_string());
        Some(format!(
            "{:016x} {count:<6} {kind:<4} {protocol}   {interface:<5} {running} {memory:<6} {owner:<6} {inode:<6}\n",
            0
        ))
    };
    renamed().unwrap_or_else(|| format!("{line}\n")).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12345 1 0000000000000000 100 0 0 10 0                     \n";

    #[test]
    fn lines_name_sockets_of_the_guest() {
        let known = |waiting| HashMap::from([(12345, Known { inode: 7, uid: 0, waiting, most: None })]);
        let own = known(0);
        let line = String::from_utf8(rename(LINE.as_bytes(), &own)).unwrap();
        assert_eq!(line.len(), LINE.len());
        assert_eq!(line.split_whitespace().nth(OWNER_FIELD), Some("0"));
        assert_eq!(line.split_whitespace().nth(INODE_FIELD), Some("7"));
        let full = String::from_utf8(rename(LINE.as_bytes(), &known(18))).unwrap();
        assert_eq!(full.split_whitespace().nth(QUEUES_FIELD), Some("00000000:00000012"));
        let other = String::from_utf8(rename(LINE.as_bytes(), &HashMap::new())).unwrap();
        assert_eq!(other.split_whitespace().nth(INODE_FIELD), Some("0"));
        assert_eq!(rename(b"  sl  local_address\n", &own), b"  sl  local_address\n");
    }

    #[test]
    fn packet_sockets_are_those_of_the_guest() {
        let line = b"00000000abcdef12 3      3    0806   2     1 0      1000   12345 \n";
        let expected = b"0000000000000000 3      3    0806   2     1 0      0      7     \n";
        assert_eq!(
            rename_packet(line, &HashMap::from([(12345, Known { inode: 7, uid: 0, waiting: 0, most: None })])),
            expected
        );
        let head = b"sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n";
        assert_eq!(rename_packet(head, &HashMap::new()), head);
    }

    #[test]
    fn answers_are_readdressed() {
        let header = Nlmsghdr { nlmsg_len: 16, nlmsg_type: NLMSG_DONE, nlmsg_flags: 2, nlmsg_seq: 1, nlmsg_pid: 5 };
        let mut bytes = header.as_bytes().to_vec();
        assert_eq!(readdress(&mut bytes, 9, |_| ()), Ok(true));
        assert_eq!(bytes[PORT_PLACE], 9u32.to_ne_bytes());
        let error = Nlmsghdr { nlmsg_len: 20, nlmsg_type: NLMSG_ERROR, ..header };
        let mut bytes = [error.as_bytes(), &(-19i32).to_ne_bytes()].concat();
        assert_eq!(readdress(&mut bytes, 9, |_| ()), Err(Errno::ENODEV));
        assert_eq!(readdress(&mut [1, 2, 3], 9, |_| ()), Ok(false));
    }
}
