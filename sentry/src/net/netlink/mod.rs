//! AF_NETLINK (netlink(7), rtnetlink(7)).

mod events;
pub(crate) mod links;
mod message;
mod route;

use std::any::Any;
use std::collections::HashSet;
use std::sync::{Arc, OnceLock, Weak};

use amber_abi::errno::Errno;
use amber_abi::netlink::{NetlinkOption, NetlinkProtocol};
use amber_abi::poll::PollEvents;
use amber_abi::socket::{AddressFamily, MessageFlags, SockaddrNl, SocketKind};
use amber_abi::sockopt::SocketLevel;
use zerocopy::{FromBytes, IntoBytes};

use crate::kernel::Kernel;
use crate::net::inet::{NetworkFacts, Watch};
use crate::net::options::SharedOptions;
use crate::net::receive_queue::{Packet, ReceiveQueue, RecvFlags};
use crate::net::socket::{Directions, Outgoing, Received, Socket};
use crate::sync::{Mutex, Rank};
use crate::task::TaskContext;
use crate::wait::{READABLE, SigioEvent, WaitQueue};

const WRITABLE: PollEvents = PollEvents::POLLOUT.union(PollEvents::POLLWRNORM).union(PollEvents::POLLWRBAND);
/// The part of a send buffer that Linux reserves, in bytes.
const SEND_OVERHEAD: u32 = 32;
/// Boolean options.
const FLAGS: [NetlinkOption; 6] = [
    NetlinkOption::NETLINK_PKTINFO,
    NetlinkOption::NETLINK_BROADCAST_ERROR,
    NetlinkOption::NETLINK_NO_ENOBUFS,
    NetlinkOption::NETLINK_CAP_ACK,
    NetlinkOption::NETLINK_EXT_ACK,
    NetlinkOption::NETLINK_GET_STRICT_CHK,
];

/// All netlink sockets, and the addresses in use by protocol.
pub(crate) struct NetlinkNames {
    taken: Mutex<HashSet<(i32, u32)>>,
    sockets: Mutex<Vec<Weak<NetlinkSocket>>>,
}

impl Default for NetlinkNames {
    fn default() -> Self {
        NetlinkNames { taken: Mutex::new(Rank::Leaf, HashSet::new()), sockets: Mutex::new(Rank::Leaf, Vec::new()) }
    }
}

impl NetlinkNames {
    /// All sockets, oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<NetlinkSocket>> {
        self.sockets.lock().iter().filter_map(Weak::upgrade).collect()
    }
}

/// A socket in `/proc/net/netlink`.
pub(crate) struct NetlinkReport {
    /// The protocol.
    pub protocol: i32,
    /// The address; 0 while there is none.
    pub port: u32,
    /// The lowest 32 groups that it is in.
    pub groups: u32,
    /// The number of bytes in the receive queue.
    pub receiving: usize,
    /// The inode number.
    pub inode: u64,
}

/// A netlink socket. Its only peer is the kernel.
pub(crate) struct NetlinkSocket {
    kernel: Weak<Kernel>,
    kind: SocketKind,
    protocol: NetlinkProtocol,
    options: SharedOptions,
    state: Mutex<State>,
    queue: WaitQueue,
    /// The watch on the other kernel's events, once the socket has been in a group.
    watch: OnceLock<Arc<dyn Watch>>,
}

#[derive(Default)]
struct State {
    /// The address; 0 while there is none.
    port: u32,
    /// A bit for each group, from the lowest.
    groups: u64,
    /// Whether it has been in a group.
    had_groups: bool,
    receive_queue: ReceiveQueue,
    /// An error to be returned before anything is received.
    error: Option<Errno>,
    flags: Vec<NetlinkOption>,
    is_connected: bool,
}

impl NetlinkSocket {
    /// Makes a socket.
    ///
    /// # Errors
    /// `ESOCKTNOSUPPORT`; `EPROTONOSUPPORT` for unsupported protocols.
    pub(crate) fn create(ctx: &TaskContext, kind: SocketKind, protocol: i32) -> Result<Arc<NetlinkSocket>, Errno> {
        if !matches!(kind, SocketKind::SOCK_RAW | SocketKind::SOCK_DGRAM) {
            return Err(Errno::ESOCKTNOSUPPORT.here());
        }
        let protocol = NetlinkProtocol::from_raw(protocol);
        // Devices never change here, so there are no uevents.
        let foreign = matches!(ctx.kernel().network.inet.network_facts(), NetworkFacts::Foreign(_));
        let served = match protocol {
            NetlinkProtocol::NETLINK_ROUTE | NetlinkProtocol::NETLINK_KOBJECT_UEVENT => true,
            // Only another kernel lists sockets.
            NetlinkProtocol::NETLINK_SOCK_DIAG => foreign,
            _ => false,
        };
        if !served {
            return Err(Errno::EPROTONOSUPPORT.here());
        }
        let socket = Arc::new(NetlinkSocket {
            kernel: Arc::downgrade(ctx.kernel()),
            kind,
            protocol,
            options: SharedOptions::default(),
            state: Mutex::new(Rank::Buffer, State::default()),
            queue: WaitQueue::new(),
            watch: OnceLock::new(),
        });
        let mut sockets = ctx.kernel().network.netlink.sockets.lock();
        if sockets.len() == sockets.capacity() {
            // Compacted before the list grows, so the cost is amortized.
            sockets.retain(|other| other.strong_count() > 0);
            let present = sockets.len();
            sockets.reserve(present.max(1));
        }
        sockets.push(Arc::downgrade(&socket));
        drop(sockets);
        Ok(socket)
    }

    /// The socket's entry in `/proc/net/netlink`.
    pub(crate) fn report(&self) -> NetlinkReport {
        let inode = self.options.look(|values| values.inode);
        let state = self.state.lock();
        NetlinkReport {
            protocol: self.protocol.raw(),
            port: state.port,
            groups: state.groups as u32,
            receiving: state.receive_queue.bytes(),
            inode,
        }
    }

    /// Binds to an address: the given one, or with 0 the PID or any free number.
    fn take_port(&self, ctx: &TaskContext, asked: u32) -> Result<(), Errno> {
        let mut state = self.state.lock();
        if state.port != 0 {
            return if asked == 0 || asked == state.port { Ok(()) } else { Err(Errno::EINVAL.here()) };
        }
        let mut names = ctx.kernel().network.netlink.taken.lock();
        let key = |port| (self.protocol.raw(), port);
        if asked != 0 {
            if !names.insert(key(asked)) {
                return Err(Errno::EADDRINUSE.here());
            }
            state.port = asked;
            return Ok(());
        }
        let own = ctx.group().pid() as u32;
        let others = (i32::MIN as u32..i32::MIN as u32 + 4096).map(|port| port.wrapping_neg());
        let free = std::iter::once(own).chain(others).find(|&port| !names.contains(&key(port)));
        let port = free.ok_or_else(|| Errno::EADDRINUSE.here())?;
        names.insert(key(port));
        state.port = port;
        Ok(())
    }

    fn address_of(port: u32, groups: u32) -> Vec<u8> {
        let family = AddressFamily::AF_NETLINK.raw();
        SockaddrNl { nl_family: family, nl_pad: 0, nl_pid: port, nl_groups: groups }.as_bytes().to_vec()
    }
}

fn parse_address(bytes: &[u8]) -> Result<SockaddrNl, Errno> {
    let (address, _) = SockaddrNl::read_from_prefix(bytes).map_err(|_| Errno::EINVAL.here())?;
    if address.nl_family != AddressFamily::AF_NETLINK.raw() {
        return Err(Errno::EINVAL.here());
    }
    Ok(address)
}

/// The kernel is the only possible destination.
fn check_destination(address: &SockaddrNl) -> Result<(), Errno> {
    if address.nl_pid != 0 || address.nl_groups != 0 { Err(Errno::ECONNREFUSED.here()) } else { Ok(()) }
}

impl Socket for NetlinkSocket {
    fn identity(&self) -> (AddressFamily, SocketKind, i32) {
        (AddressFamily::AF_NETLINK, self.kind, self.protocol.raw())
    }

    fn options(&self) -> &SharedOptions {
        &self.options
    }

    fn bind(&self, ctx: &TaskContext, address: &[u8]) -> Result<(), Errno> {
        let address = parse_address(address)?;
        self.take_port(ctx, address.nl_pid)?;
        self.set_low_groups(ctx, address.nl_groups)
    }

    fn connect(&self, ctx: &TaskContext, address: &[u8]) -> Result<(), Errno> {
        let family =
            address.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes)).ok_or_else(|| Errno::EINVAL.here())?;
        if family == AddressFamily::AF_UNSPEC.raw() {
            self.state.lock().is_connected = false;
            return Ok(());
        }
        check_destination(&parse_address(address)?)?;
        self.take_port(ctx, 0)?;
        self.state.lock().is_connected = true;
        Ok(())
    }

    fn local_address(&self) -> Vec<u8> {
        let state = self.state.lock();
        Self::address_of(state.port, state.groups as u32)
    }

    /// An unconnected socket's peer is the kernel as well.
    fn peer_address(&self) -> Result<Vec<u8>, Errno> {
        Ok(Self::address_of(0, 0))
    }

    fn send(&self, ctx: Option<&TaskContext>, message: Outgoing<'_>) -> Result<usize, Errno> {
        if message.flags.contains(MessageFlags::MSG_OOB) {
            return Err(Errno::EOPNOTSUPP.here());
        }
        if let Some(address) = message.address {
            check_destination(&parse_address(address)?)?;
        }
        let limit = self.options.look(|values| values.send_buffer).saturating_sub(SEND_OVERHEAD);
        if message.data.len() > limit as usize {
            return Err(Errno::EMSGSIZE.here());
        }
        if self.protocol == NetlinkProtocol::NETLINK_KOBJECT_UEVENT {
            return Err(Errno::ECONNREFUSED.here());
        }
        let kernel = self.kernel.upgrade().ok_or_else(|| Errno::ECONNREFUSED.here())?;
        let privileged = match ctx {
            Some(ctx) => {
                self.take_port(ctx, 0)?;
                ctx.credentials().has(amber_abi::capability::Capability::CAP_NET_ADMIN)
            }
            None => false,
        };
        let uid = ctx.map(|ctx| ctx.credentials().uid);
        let requester = {
            let state = self.state.lock();
            let short_errors = state.flags.contains(&NetlinkOption::NETLINK_CAP_ACK);
            let strict = state.flags.contains(&NetlinkOption::NETLINK_GET_STRICT_CHK);
            route::Requester { protocol: self.protocol, port: state.port, uid, privileged, short_errors, strict }
        };
        let answers = route::answer(&kernel, message.data, &requester);
        {
            let mut state = self.state.lock();
            for answer in answers {
                state.receive_queue.push(Packet::new(&answer, Some(Self::address_of(0, 0)), events::told_beside(0)));
            }
        }
        self.queue.notify_and_signal(READABLE, SigioEvent::Input);
        Ok(message.data.len())
    }

    fn receive(&self, buf: &mut [u8], flags: MessageFlags) -> Result<Received, Errno> {
        if flags.contains(MessageFlags::MSG_OOB) {
            return Err(Errno::EOPNOTSUPP.here());
        }
        let how = RecvFlags { peek: flags.contains(MessageFlags::MSG_PEEK), ..RecvFlags::default() };
        let mut state = self.state.lock();
        self.pull(&mut state);
        if let Some(error) = state.error.take() {
            return Err(error);
        }
        let mut received = state.receive_queue.take_message(buf, how).ok_or_else(|| Errno::EAGAIN.here())?;
        if !state.flags.contains(&NetlinkOption::NETLINK_PKTINFO) {
            received.control.others.clear();
        }
        Ok(received)
    }

    fn keeps_borders(&self) -> bool {
        true
    }

    fn shutdown(&self, _: Directions) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP.here())
    }

    fn poll(&self) -> PollEvents {
        let mut state = self.state.lock();
        self.pull(&mut state);
        let mut events = WRITABLE;
        if !state.receive_queue.is_empty() {
            events |= READABLE;
        }
        if state.error.is_some() {
            events |= READABLE | PollEvents::POLLERR;
        }
        events
    }

    fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn option(&self, _ctx: &TaskContext, level: SocketLevel, name: i32) -> Result<Vec<u8>, Errno> {
        if level != SocketLevel::SOL_NETLINK {
            return Err(Errno::ENOPROTOOPT.here());
        }
        let state = self.state.lock();
        let name = NetlinkOption::from_raw(name);
        if name == NetlinkOption::NETLINK_LIST_MEMBERSHIPS {
            let words = if state.had_groups { self.last_group().div_ceil(u32::BITS) as usize } else { 0 };
            return Ok(state.groups.as_bytes().iter().take(words * size_of::<u32>()).copied().collect());
        }
        if !FLAGS.contains(&name) {
            return Err(Errno::ENOPROTOOPT.here());
        }
        Ok(i32::from(state.flags.contains(&name)).to_ne_bytes().to_vec())
    }

    fn take_error(&self) -> Option<Errno> {
        let mut state = self.state.lock();
        self.pull(&mut state);
        state.error.take()
    }

    fn set_option(&self, ctx: &TaskContext, level: SocketLevel, name: i32, value: &[u8]) -> Result<(), Errno> {
        if level != SocketLevel::SOL_NETLINK {
            return Err(Errno::ENOPROTOOPT.here());
        }
        let value = u32::from_ne_bytes(*value.first_chunk().ok_or_else(|| Errno::EINVAL.here())?);
        let name = NetlinkOption::from_raw(name);
        match name {
            NetlinkOption::NETLINK_ADD_MEMBERSHIP | NetlinkOption::NETLINK_DROP_MEMBERSHIP => {
                self.change_group(ctx, value, name == NetlinkOption::NETLINK_ADD_MEMBERSHIP)?;
            }
            flag if FLAGS.contains(&flag) => {
                let mut state = self.state.lock();
                state.flags.retain(|&set| set != flag);
                if value != 0 {
                    state.flags.push(flag);
                }
            }
            _ => return Err(Errno::ENOPROTOOPT.here()),
        }
        Ok(())
    }

    fn kept_bytes(&self) -> u64 {
        self.state.lock().receive_queue.kept_bytes() + self.watch.get().map_or(0, |watch| watch.kept_bytes())
    }

    fn readable_bytes(&self) -> usize {
        let mut state = self.state.lock();
        self.pull(&mut state);
        state.receive_queue.first_bytes()
    }

    fn close(&self) {
        let port = self.state.lock().port;
        if let (Some(kernel), true) = (self.kernel.upgrade(), port != 0) {
            kernel.network.netlink.taken.lock().remove(&(self.protocol.raw(), port));
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
