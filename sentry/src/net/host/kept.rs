//! Memory of the host kernel for sockets of the guest, which counts towards the guest's memory limit.
//!
//! Structures and filters are charged when they are made. The size of buffers is queried from the host (`SO_MEMINFO`,
//! socket(7)): after a certain number of bytes was sent, so that a send costs only an addition, and periodically, since
//! data also arrives from outside.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::socket::SocketKind;
use amber_abi::sockopt::{Ipv6Option, PacketOption, SocketLevel, SocketOption as So, TcpOption};
use amber_host::socket as host;
use amber_platform::{GuestMemory, KernelCharge, KernelPart};

use super::Sockets;
use super::handshakes::REQUEST_BYTES;
use super::socket::HostSocket;
use crate::sync::{Mutex, Rank};

/// Memory of a socket with its file, inode and poller watch by type, in bytes, rounded up.
const STREAM_BYTES: u64 = 4352;
const OTHER_BYTES: u64 = 3328;
/// The maximum overhead of a short message, in bytes.
pub(super) const MESSAGE_BYTES: u64 = 1024;
/// The overhead of a filter, which has its own pages, in bytes.
const FILTER_BYTES: u64 = 8192;
/// The size of an instruction as the guest passes it, which the host keeps, in bytes.
const GIVEN: u64 = 8;
/// The maximum size of a translated instruction, in bytes; also limited by the host's `optmem_max`.
const TRANSLATED: u64 = 128;
/// The factor for memory of options. For many, such as group memberships, the host keeps larger structures of the
/// interface, which it charges to no socket.
const BESIDE_OPTIONS: u64 = 12;
/// The maximum size of the table of a fanout group of packet sockets, in bytes.
const FANOUT_BYTES: u64 = (8 << 16) + 4096;
/// Memory of a membership of a packet socket, with the address that is added to its interface, in bytes.
const MEMBERSHIP_BYTES: u64 = 320;
/// Memory of an anycast address in addition to that of options: a route and a multicast group, in bytes.
const ANYCAST_BYTES: u64 = 512;
/// The size of `SO_MEMINFO`: nine 32-bit numbers.
const MEMINFO_LEN: usize = 36;

/// The number of bytes sent after which the host is queried: a minimum, and a number per socket.
const LEAST_SENT: u64 = 64 << 10;
const SENT_FOR_EACH: u64 = 1024;
/// More than any limit, so that the next task that returns to its program starts an update.
const LOOK: u64 = 1 << 50;
/// The interval of queries without sends, in nanoseconds: the initial one, the minimum per socket, and the maximum
/// while nothing changes.
const SOON: u64 = 50_000_000;
const SOON_FOR_EACH: u64 = 50_000;
const LATE: u64 = 1_000_000_000;

/// Memory attached to a socket, in bytes.
#[derive(Default)]
struct Attached {
    /// The filter as passed by the guest.
    given: u64,
    /// The filter as the host runs it, which the host counts as memory of options.
    translated: u64,
    /// Programs that select a socket of a port (SO_REUSEPORT) or of a fanout group.
    choosers: u64,
    /// The number of moves that had begun when the program was attached; none if one was in progress.
    moves: Option<u32>,
    /// The maximum memory of a listener for TCP fast open connections that were reset.
    fast: u64,
    /// Memberships of a packet socket, which the host does not count as memory of options: interface, type and address,
    /// and how often each was added.
    memberships: HashMap<Box<[u8]>, u64>,
    /// The number of anycast addresses joined.
    anycasts: u64,
}

impl Attached {
    fn bytes(&self) -> u64 {
        // The host also compiles a translated filter to machine code.
        let filters = self.given + 2 * self.translated + self.choosers + self.fast;
        filters + MEMBERSHIP_BYTES * self.memberships.len() as u64 + ANYCAST_BYTES * self.anycasts
    }
}

/// The charge of a socket.
pub(super) struct Kept {
    charge: KernelCharge,
    own: u64,
    attached: Mutex<Attached>,
    moves: Moves,
}

/// Counts operations that may move a socket to another group of sockets sharing a port.
#[derive(Default)]
struct Moves {
    begun: AtomicU32,
    ended: AtomicU32,
}

impl Kept {
    /// The charge of a new socket of a type.
    pub(super) fn new(memory: &Arc<GuestMemory>, kind: SocketKind) -> Kept {
        let own = if kind == SocketKind::SOCK_STREAM { STREAM_BYTES } else { OTHER_BYTES };
        let charge = memory.charge(KernelPart::Sockets, own);
        Kept { charge, own, attached: Mutex::new(Rank::Leaf, Attached::default()), moves: Moves::default() }
    }

    /// The charge of a connection accepted by a listener, whose filter it shares, with this many bytes of a saved SYN.
    pub(super) fn of_child(&self, packet: u64) -> Kept {
        let attached = Attached { translated: self.attached.lock().translated, ..Attached::default() };
        let own = self.own + packet;
        let (charge, attached) = (self.charge.another(own), Mutex::new(Rank::Leaf, attached));
        Kept { charge, own, attached, moves: Moves::default() }
    }

    /// The bytes charged.
    pub(super) fn bytes(&self) -> u64 {
        self.charge.bytes()
    }

    /// The memory of a socket without buffers when the guest closes it, in bytes.
    pub(super) fn lasting_bytes(&self, socket: BorrowedFd<'_>) -> u64 {
        let attached = self.attached.lock();
        let others = MemInfo::of(socket).options.saturating_sub(attached.translated);
        self.own + attached.bytes() + BESIDE_OPTIONS * others
    }

    /// A charge for memory that outlives the socket.
    pub(super) fn another(&self, bytes: u64) -> KernelCharge {
        self.charge.another(bytes)
    }

    /// The size of reuseport programs, and whether the socket may have left the group that has them.
    pub(super) fn choosers(&self) -> (u64, bool) {
        let attached = self.attached.lock();
        (attached.choosers, self.has_moved(&attached))
    }

    fn has_moved(&self, attached: &Attached) -> bool {
        attached.moves != Some(self.moves.begun.load(Ordering::SeqCst))
    }

    /// Runs an operation that may change the socket's port or group.
    pub(super) fn moving<T>(&self, action: impl FnOnce() -> T) -> T {
        self.moves.begun.fetch_add(1, Ordering::SeqCst);
        let result = action();
        self.moves.ended.fetch_add(1, Ordering::SeqCst);
        result
    }

    /// Updates the charge of a socket without programs. Returns the size of its buffers.
    pub(super) fn charge_buffers(&self, socket: BorrowedFd<'_>) -> u64 {
        let now = MemInfo::of(socket);
        self.charge.set(self.own + now.buffers);
        now.buffers
    }
}

/// The memory of a socket as the host reports it, in bytes.
#[derive(Clone, Copy, Default)]
pub(super) struct MemInfo {
    /// The receive and send buffers.
    pub(super) buffers: u64,
    /// Options: filters, memberships, headers.
    options: u64,
    /// The maximum size of the receive buffer.
    pub(super) receive_buffer: u64,
}

impl MemInfo {
    pub(super) fn of(socket: BorrowedFd<'_>) -> MemInfo {
        let (level, name) = (SocketLevel::SOL_SOCKET.raw(), So::SO_MEMINFO.raw());
        let Ok(value) = host::option(socket, level, name, MEMINFO_LEN) else { return MemInfo::default() };
        let (numbers, _) = value.as_chunks::<4>();
        let number = |index: usize| numbers.get(index).map_or(0, |bytes| u64::from(u32::from_ne_bytes(*bytes)));
        let [received, receive_buffer, in_flight, ahead, queued, options, backlog] = [0, 1, 2, 4, 5, 6, 7].map(number);
        MemInfo { buffers: received + in_flight.max(queued) + ahead + backlog, options, receive_buffer }
    }
}

impl HostSocket {
    /// Updates the charge. Returns the size of the buffers.
    pub(super) fn charge(&self) -> u64 {
        let attached = self.kept.attached.lock();
        self.charge_with(&attached)
    }

    fn charge_with(&self, attached: &Attached) -> u64 {
        let now = MemInfo::of(self.fd());
        let others = now.options.saturating_sub(attached.translated);
        let own = self.kept.own + attached.bytes();
        let requests = self.requests.bytes() + self.waiting.beyond();
        self.kept.charge.set(own + now.buffers + BESIDE_OPTIONS * others + requests);
        now.buffers
    }

    /// Charges the maximum size of the host's queue for TCP_FASTOPEN.
    pub(super) fn charge_fast_open(&self) {
        let most = self.number_option(SocketLevel::SOL_TCP, TcpOption::TCP_FASTOPEN.raw()).unwrap_or(0);
        let mut attached = self.kept.attached.lock();
        if most == 0 && attached.fast == 0 {
            return;
        }
        attached.fast = u64::from(most.unsigned_abs()) * REQUEST_BYTES;
        self.charge_with(&attached);
    }

    /// Attaches a classic BPF filter by the option `name`.
    ///
    /// # Errors
    /// `ENOMEM` at the limit of memory; errors of the host, which verifies the program.
    pub(super) fn attach(&self, name: i32, program: &[[u8; 8]]) -> Result<(), Errno> {
        let len = program.len() as u64;
        self.sockets.memory.admit(FILTER_BYTES + TRANSLATED * len)?;
        let mut left = None;
        let mut attached = self.kept.attached.lock();
        let before = MemInfo::of(self.fd()).options;
        let ended = self.kept.moves.ended.load(Ordering::SeqCst);
        let moves = Some(self.kept.moves.begun.load(Ordering::SeqCst)).filter(|begun| *begun == ended);
        host::attach_filter(self.fd(), name, program)?;
        if So::from_raw(name) == So::SO_ATTACH_FILTER {
            // It replaced the previous filter.
            let others = before.saturating_sub(attached.translated);
            attached.given = FILTER_BYTES + GIVEN * len;
            attached.translated = MemInfo::of(self.fd()).options.saturating_sub(others);
        } else {
            left = self.moved_program(&attached);
            (attached.choosers, attached.moves) = (FILTER_BYTES + TRANSLATED * len, moves);
        }
        self.charge_with(&attached);
        drop(attached);
        self.sockets.left.keep_for_unknown(left);
        Ok(())
    }

    /// A charge for the present program, if a group that the socket has left may keep it.
    fn moved_program(&self, attached: &Attached) -> Option<KernelCharge> {
        let may_stay = attached.choosers > 0 && self.kept.has_moved(attached);
        may_stay.then(|| self.kept.another(attached.choosers))
    }

    /// Sets an option on the host and charges its memory.
    ///
    /// # Errors
    /// `ENOMEM` at the limit of memory; errors of the host.
    pub(super) fn set_kept(&self, level: SocketLevel, name: i32, value: &[u8]) -> Result<(), Errno> {
        let set = || host::set_option(self.fd(), level.raw(), name, value);
        match (level, So::from_raw(name)) {
            (SocketLevel::SOL_SOCKET, So::SO_DETACH_FILTER) => {
                let mut attached = self.kept.attached.lock();
                set()?;
                (attached.given, attached.translated) = (0, 0);
                self.charge_with(&attached);
            }
            (SocketLevel::SOL_SOCKET, So::SO_DETACH_REUSEPORT_BPF) => {
                let mut attached = self.kept.attached.lock();
                set()?;
                let left = self.moved_program(&attached);
                attached.choosers = 0;
                self.charge_with(&attached);
                drop(attached);
                self.sockets.left.keep_for_unknown(left);
            }
            // Any member may be the last, so each is charged for the whole table.
            (SocketLevel::SOL_PACKET, _) if name == PacketOption::PACKET_FANOUT.raw() => {
                self.sockets.memory.admit(FANOUT_BYTES)?;
                let mut attached = self.kept.attached.lock();
                set()?;
                attached.choosers = FANOUT_BYTES;
                self.charge_with(&attached);
            }
            (SocketLevel::SOL_PACKET, _) if name == PacketOption::PACKET_ADD_MEMBERSHIP.raw() => {
                self.sockets.memory.admit(MEMBERSHIP_BYTES)?;
                let mut attached = self.kept.attached.lock();
                set()?;
                *attached.memberships.entry(membership(value)).or_default() += 1;
                self.charge_with(&attached);
            }
            (SocketLevel::SOL_PACKET, _) if name == PacketOption::PACKET_DROP_MEMBERSHIP.raw() => {
                let mut attached = self.kept.attached.lock();
                set()?;
                // The host also removes memberships that do not exist.
                if let Entry::Occupied(mut times) = attached.memberships.entry(membership(value)) {
                    *times.get_mut() -= 1;
                    if *times.get() == 0 {
                        times.remove();
                    }
                }
                self.charge_with(&attached);
            }
            (SocketLevel::SOL_IPV6, _) if name == Ipv6Option::IPV6_JOIN_ANYCAST.raw() => {
                self.sockets.memory.admit(BESIDE_OPTIONS * value.len() as u64 + ANYCAST_BYTES)?;
                let mut attached = self.kept.attached.lock();
                set()?;
                attached.anycasts += 1;
                self.charge_with(&attached);
            }
            (SocketLevel::SOL_IPV6, _) if name == Ipv6Option::IPV6_LEAVE_ANYCAST.raw() => {
                let mut attached = self.kept.attached.lock();
                set()?;
                attached.anycasts = attached.anycasts.saturating_sub(1);
                self.charge_with(&attached);
            }
            (SocketLevel::SOL_IP | SocketLevel::SOL_IPV6 | SocketLevel::SOL_PACKET, _) => {
                self.sockets.memory.admit(BESIDE_OPTIONS * value.len() as u64)?;
                set()?;
                self.sockets.memory.add_unsettled(BESIDE_OPTIONS * value.len() as u64);
            }
            (SocketLevel::SOL_TCP, _) if name == TcpOption::TCP_FASTOPEN.raw() => {
                set()?;
                self.charge_fast_open();
            }
            (SocketLevel::SOL_SOCKET, So::SO_REUSEPORT) => {
                self.shares_port.store(true, Ordering::Relaxed);
                set()?;
            }
            _ => set()?,
        }
        Ok(())
    }
}

/// The key of a membership: a `struct packet_mreq` up to the end of its address (packet(7)).
fn membership(value: &[u8]) -> Box<[u8]> {
    const ADDRESS: usize = 8;
    let len = value.get(6..).and_then(|rest| rest.first_chunk()).map_or(0, |len| u16::from_ne_bytes(*len).into());
    value.get(..ADDRESS + len).unwrap_or(value).into()
}

/// The state of updates of all charges.
pub(super) struct Updates {
    /// Held by the thread that runs an update.
    one: parking_lot::Mutex<()>,
    /// The size of all buffers at the last update, in bytes.
    seen: AtomicU64,
    /// The interval until the next update, in nanoseconds.
    after: AtomicU64,
}

impl Default for Updates {
    fn default() -> Self {
        Updates { one: parking_lot::Mutex::new(()), seen: AtomicU64::new(0), after: AtomicU64::new(SOON) }
    }
}

impl Sockets {
    /// Checks that there is memory for another socket.
    ///
    /// # Errors
    /// `ENOBUFS` at the limit of memory.
    pub(super) fn admit(&self) -> Result<(), Errno> {
        self.memory.admit(STREAM_BYTES).map_err(|_| Errno::ENOBUFS.here())
    }

    /// Makes the next task that returns to its program start an update, which also restarts the timer of the limit.
    pub(super) fn request_update(&self) {
        self.memory.add_unsettled(LOOK);
    }

    /// Updates the charges of all sockets if `always` is set or enough bytes were sent. Returns the maximum interval
    /// until the next update, in nanoseconds, if there are sockets.
    pub(super) fn charge(&self, always: bool) -> Option<u64> {
        let open = self.all.lock().len();
        let watches = self.watches.lock().len();
        let count = (open + watches + self.closed.count() + self.handshakes.count()) as u64;
        let after = self.updates.after.load(Ordering::Relaxed);
        let enough = LEAST_SENT.max(count * SENT_FOR_EACH);
        if always || self.memory.unsettled_bytes() >= enough {
            match self.updates.one.try_lock() {
                Some(_one) => self.update(after),
                // Wait for the other thread's update, which holds references to sockets closed in the meantime.
                None if always => drop(self.updates.one.lock()),
                // The other thread's update is sufficient.
                None => {}
            }
        }
        (count > 0).then(|| self.updates.after.load(Ordering::Relaxed).max(count * SOON_FOR_EACH))
    }

    /// Resets closed connections, the oldest first, until this many bytes are free.
    pub(super) fn give_up(&self, bytes: u64) {
        // During an update, the list of closed connections is empty.
        let _one = self.updates.one.lock();
        self.closed.give_up(bytes);
    }

    /// Queries the host for each socket. `after` is the last interval in nanoseconds. Only one thread runs this at a
    /// time.
    fn update(&self, after: u64) {
        self.memory.settle();
        // Only one socket is referenced at a time, since a process that ends must close its sockets before it is
        // reaped.
        let open = self.all();
        let sockets = open.iter().filter_map(Weak::upgrade).map(|socket| socket.take_over() + socket.charge());
        let buffers = sockets.sum::<u64>();
        let watches: Vec<_> = self.watches.lock().values().cloned().collect();
        let watches = watches.iter().filter_map(Weak::upgrade).map(|watch| watch.charge());
        let buffers = buffers + watches.sum::<u64>() + self.closed.charge();
        self.handshakes.let_go();
        self.left.let_go(&open);
        let changed = self.updates.seen.swap(buffers, Ordering::Relaxed) != buffers;
        let next = if changed { SOON } else { (2 * after).min(LATE) };
        self.updates.after.store(next, Ordering::Relaxed);
    }
}
