//! What the host's kernel keeps for sockets of the guest: it counts for the guest's limit of memory.
//!
//! Structures and filters are charged when they are made. Buffers the host is asked about (`SO_MEMINFO`, see socket(7)):
//! after as much was sent as could matter, so that one send costs an addition and nothing else; and now and then, since
//! bytes also come in from outside.

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

/// What a socket takes with its file, its inode and a watch by the poller, by its kind; rounded up.
const STREAM_BYTES: u64 = 4352;
const OTHER_BYTES: u64 = 3328;
/// What the host keeps for a message beside its bytes, at most for one of few bytes.
pub(super) const MESSAGE_BYTES: u64 = 1024;
/// What a filter takes beside its instructions: pages of its own.
const FILTER_BYTES: u64 = 8192;
/// The bytes of an instruction as the guest gives it, which the host keeps.
const GIVEN: u64 = 8;
/// The most bytes of an instruction that was translated, which the host's `optmem_max` bounds as well.
const TRANSLATED: u64 = 128;
/// Much of what options set (memberships of groups above all) the host keeps once more for the interface, in larger
/// structures that it charges to no socket.
const BESIDE_OPTIONS: u64 = 12;
/// The table of a group of packet sockets, which the host makes at most this large.
const FANOUT_BYTES: u64 = (8 << 16) + 4096;
/// A membership of a packet socket, with the address that its interface then takes.
const MEMBERSHIP_BYTES: u64 = 320;
/// What an address of anycast takes beyond other options: a route, and a group of multicast.
const ANYCAST_BYTES: u64 = 512;
/// The bytes of `SO_MEMINFO`: nine numbers of 32 bits.
const MEMINFO_LEN: usize = 36;

/// The host is asked after so many bytes were sent at least, and so many for each socket.
const LEAST_SENT: u64 = 64 << 10;
const SENT_FOR_EACH: u64 = 1024;
/// More than any limit: makes the next task look that returns to its program.
const LOOK: u64 = 1 << 50;
/// How soon the host is asked again although nothing was sent, in nanoseconds: at first, for each socket at least, and at
/// most, if nothing changes.
const SOON: u64 = 50_000_000;
const SOON_FOR_EACH: u64 = 50_000;
const LATE: u64 = 1_000_000_000;

/// What was attached to a socket; numbers are bytes.
#[derive(Default)]
struct Attached {
    /// The filter as it was given.
    given: u64,
    /// The filter as the host runs it, which it counts among the options of the socket.
    translated: u64,
    /// What chooses among sockets of a port, or of a group of packet sockets.
    choosers: u64,
    /// How many moves had begun when the program was attached; none if one was going on.
    moves: Option<u32>,
    /// What a listener may have of connections that brought their first bytes along, and were reset.
    fast: u64,
    /// Memberships of a packet socket, which the host does not count among its options: interface, kind and address, and
    /// how often each was added.
    memberships: HashMap<Box<[u8]>, u64>,
    /// How many addresses of anycast it has joined.
    anycasts: u64,
}

impl Attached {
    fn bytes(&self) -> u64 {
        // A translated filter is translated once more, for the processor.
        let filters = self.given + 2 * self.translated + self.choosers + self.fast;
        filters + MEMBERSHIP_BYTES * self.memberships.len() as u64 + ANYCAST_BYTES * self.anycasts
    }
}

/// What is kept for a socket.
pub struct Kept {
    charge: KernelCharge,
    own: u64,
    attached: Mutex<Attached>,
    moves: Moves,
}

/// How often a socket may have left its group of sockets of one port.
#[derive(Default)]
struct Moves {
    begun: AtomicU32,
    ended: AtomicU32,
}

impl Kept {
    /// What a new socket of a kind takes.
    pub fn new(memory: &Arc<GuestMemory>, kind: SocketKind) -> Kept {
        let own = if kind == SocketKind::SOCK_STREAM { STREAM_BYTES } else { OTHER_BYTES };
        let charge = memory.charge(KernelPart::Sockets, own);
        Kept { charge, own, attached: Mutex::new(Rank::Leaf, Attached::default()), moves: Moves::default() }
    }

    /// What a connection takes that a listener accepted, with so many bytes of the packet that it began with: it shares
    /// the listener's filter.
    pub fn of_child(&self, packet: u64) -> Kept {
        let attached = Attached { translated: self.attached.lock().translated, ..Attached::default() };
        let own = self.own + packet;
        let (charge, attached) = (self.charge.another(own), Mutex::new(Rank::Leaf, attached));
        Kept { charge, own, attached, moves: Moves::default() }
    }

    /// Bytes that are charged.
    pub fn bytes(&self) -> u64 {
        self.charge.bytes()
    }

    /// What a socket takes without buffers, as it is when the guest closes it.
    pub(super) fn lasting_bytes(&self, socket: BorrowedFd<'_>) -> u64 {
        let attached = self.attached.lock();
        let others = MemInfo::of(socket).options.saturating_sub(attached.translated);
        self.own + attached.bytes() + BESIDE_OPTIONS * others
    }

    /// A charge for what stays when the socket is gone.
    pub(super) fn another(&self, bytes: u64) -> KernelCharge {
        self.charge.another(bytes)
    }

    /// The bytes of what chooses among sockets, and whether the group that has it may be another than the socket's.
    pub(super) fn choosers(&self) -> (u64, bool) {
        let attached = self.attached.lock();
        (attached.choosers, self.has_moved(&attached))
    }

    fn has_moved(&self, attached: &Attached) -> bool {
        attached.moves != Some(self.moves.begun.load(Ordering::SeqCst))
    }

    /// Does what may give the socket another port or group.
    pub(super) fn moving<T>(&self, action: impl FnOnce() -> T) -> T {
        self.moves.begun.fetch_add(1, Ordering::SeqCst);
        let result = action();
        self.moves.ended.fetch_add(1, Ordering::SeqCst);
        result
    }

    /// Charges what a socket without programs keeps now; returns the bytes of its buffers.
    pub(super) fn charge_buffers(&self, socket: BorrowedFd<'_>) -> u64 {
        let now = MemInfo::of(socket);
        self.charge.set(self.own + now.buffers);
        now.buffers
    }
}

/// What the host reports of a socket's memory, in bytes.
#[derive(Clone, Copy, Default)]
pub(super) struct MemInfo {
    /// Of what was received and of what is sent.
    pub(super) buffers: u64,
    /// Of options: filters, memberships, headers.
    options: u64,
    /// How much it may receive before it is read.
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
    /// Charges what the host keeps now; returns the bytes of its buffers.
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

    /// Charges the queue that the host keeps for TCP_FASTOPEN, by its limit.
    pub(super) fn charge_fast_open(&self) {
        let most = self.number_option(SocketLevel::SOL_TCP, TcpOption::TCP_FASTOPEN.raw()).unwrap_or(0);
        let mut attached = self.kept.attached.lock();
        if most == 0 && attached.fast == 0 {
            return;
        }
        attached.fast = u64::from(most.unsigned_abs()) * REQUEST_BYTES;
        self.charge_with(&attached);
    }

    /// Attaches a filter of classic BPF, by the option that takes one.
    ///
    /// # Errors
    /// `ENOMEM` above the limit of memory; those of the host, which checks the program.
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
            // It took the place of the one before.
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

    /// A charge for the program so far, if a group that the socket has left may keep it.
    fn moved_program(&self, attached: &Attached) -> Option<KernelCharge> {
        let may_stay = attached.choosers > 0 && self.kept.has_moved(attached);
        may_stay.then(|| self.kept.another(attached.choosers))
    }

    /// Changes an option of the host's, and charges what it keeps for it.
    ///
    /// # Errors
    /// `ENOMEM` above the limit of memory; those of the host.
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
            // Any member may be the last, so that each is charged for the whole table.
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
                // The host takes away as well what is not there.
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

/// What tells one membership from another: a `struct packet_mreq` up to the end of its address (packet(7)).
fn membership(value: &[u8]) -> Box<[u8]> {
    const ADDRESS: usize = 8;
    let len = value.get(6..ADDRESS).map_or(0, |bytes| usize::from(u16::from_ne_bytes([bytes[0], bytes[1]])));
    value.get(..ADDRESS + len).unwrap_or(value).into()
}

/// When the host is asked about all sockets.
pub struct Looks {
    /// One asks at a time.
    one: parking_lot::Mutex<()>,
    /// The bytes of all buffers when it was last asked.
    seen: AtomicU64,
    /// After how long to ask again, in nanoseconds.
    after: AtomicU64,
}

impl Default for Looks {
    fn default() -> Self {
        Looks { one: parking_lot::Mutex::new(()), seen: AtomicU64::new(0), after: AtomicU64::new(SOON) }
    }
}

impl Sockets {
    /// Whether there may be one more socket.
    ///
    /// # Errors
    /// `ENOBUFS` above the limit of memory.
    pub(super) fn admit(&self) -> Result<(), Errno> {
        self.memory.admit(STREAM_BYTES).map_err(|_| Errno::ENOBUFS.here())
    }

    /// Has the next task that returns to its program update the charges, and the timer of the limit from then on: there are
    /// sockets again.
    pub(super) fn ask_for_look(&self) {
        self.memory.add_unsettled(LOOK);
    }

    /// Charges what the host keeps for all sockets: `always`, or if enough was sent; returns how soon to ask again in any
    /// case, in nanoseconds, if there are sockets.
    pub(super) fn charge(&self, always: bool) -> Option<u64> {
        let open = self.all.lock().len();
        let watches = self.watches.lock().len();
        let count = (open + watches + self.closed.count() + self.handshakes.count()) as u64;
        let after = self.looks.after.load(Ordering::Relaxed);
        let enough = LEAST_SENT.max(count * SENT_FOR_EACH);
        if always || self.memory.unsettled_bytes() >= enough {
            match self.looks.one.try_lock() {
                Some(_one) => self.look(after),
                // What another thread looks at stays until it is done, even what was closed meanwhile.
                None if always => drop(self.looks.one.lock()),
                // It sees the same.
                None => {}
            }
        }
        (count > 0).then(|| self.looks.after.load(Ordering::Relaxed).max(count * SOON_FOR_EACH))
    }

    /// Resets closed connections, the oldest first, until so many bytes are free.
    pub(super) fn give_up(&self, bytes: u64) {
        // A look has them all meanwhile.
        let _one = self.looks.one.lock();
        self.closed.give_up(bytes);
    }

    /// Asks the host about each socket; the last time was `after` so many nanoseconds. One thread does at a time.
    fn look(&self, after: u64) {
        self.memory.settle();
        // One is held at a time: a process that ends is to close its own before it is gone.
        let open = self.all();
        let sockets = open.iter().filter_map(Weak::upgrade).map(|socket| socket.take_over() + socket.charge());
        let buffers = sockets.sum::<u64>();
        let watches: Vec<_> = self.watches.lock().values().cloned().collect();
        let watches = watches.iter().filter_map(Weak::upgrade).map(|watch| watch.charge());
        let buffers = buffers + watches.sum::<u64>() + self.closed.charge();
        self.handshakes.let_go();
        self.left.let_go(&open);
        let changed = self.looks.seen.swap(buffers, Ordering::Relaxed) != buffers;
        let next = if changed { SOON } else { (2 * after).min(LATE) };
        self.looks.after.store(next, Ordering::Relaxed);
    }
}
