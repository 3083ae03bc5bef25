//! The options of level SOL_SOCKET: one line each. Their values are in [`options`](super::options).

use std::time::Duration;

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::socket::Linger;
use amber_abi::sockopt::SocketOption as So;
use amber_abi::time::Timeval;
use zerocopy::{FromBytes, IntoBytes};

use crate::net::options::{Stamp, Values};
use crate::net::socket::Socket;
use crate::task::TaskContext;

/// The minimum sizes of send and receive buffers in bytes, doubled as Linux stores them.
const LEAST_SEND: u32 = 4608;
const LEAST_RECEIVE: u32 = 2304;
/// The largest size that a privileged process can set with `SO_SNDBUFFORCE` and `SO_RCVBUFFORCE`.
const MOST_FORCED: u64 = u32::MAX as u64 / 4;
/// The longest name of a device, without its zero byte.
const MOST_DEVICE: usize = 15;

/// A read of an option.
struct Read<'a> {
    socket: &'a dyn Socket,
    values: Values,
}

/// A change of an option.
struct Change<'a> {
    ctx: &'a TaskContext,
    socket: &'a dyn Socket,
}

impl Change<'_> {
    fn store(&self, change: impl FnOnce(&mut Values)) -> Result<(), Errno> {
        self.socket.options().change(change);
        Ok(())
    }

    fn require_admin(&self) -> Result<(), Errno> {
        let able = self.ctx.credentials().has(Capability::CAP_NET_ADMIN);
        if able { Ok(()) } else { Err(Errno::EPERM.here()) }
    }
}

/// One option.
struct Rule {
    name: So,
    get: Option<fn(&Read<'_>) -> Result<Vec<u8>, Errno>>,
    set: Option<fn(&Change<'_>, &[u8]) -> Result<(), Errno>>,
}

/// One line an option: name, type, what a read returns, what a change does. `_` stands for an option that cannot be read or
/// changed, a field of [`Values`] for one that is simply stored.
macro_rules! rules {
    ($($name:ident $kind:ident $get:tt $set:tt;)*) => {
        const RULES: &[Rule] = &[
            $(Rule { name: So::$name, get: rules!(@get $kind $get), set: rules!(@set $kind $set) },)*
        ];
    };
    (@get $kind:ident _) => { None };
    (@get $kind:ident ($get:expr)) => { Some(|read| Ok(<$kind as Kind>::encode($get(read)?))) };
    (@get $kind:ident $field:ident) => { Some(|read| Ok(<$kind as Kind>::encode(read.values.$field.clone()))) };
    (@set $kind:ident _) => { None };
    (@set $kind:ident ($set:expr)) => { Some(|change, value| $set(change, <$kind as Kind>::decode(value)?)) };
    (@set $kind:ident $field:ident) => {
        Some(|change, value| {
            let value = <$kind as Kind>::decode(value)?;
            change.store(|values| values.$field = value)
        })
    };
}

rules! {
    SO_DEBUG             Flag   debug                      (set_debug);
    SO_REUSEADDR         Flag   reuse_address              (set_reuse_address);
    SO_REUSEPORT         Flag   reuse_port                 (set_reuse_port);
    SO_KEEPALIVE         Flag   keep_alive                 keep_alive;
    SO_BROADCAST         Flag   broadcast                  broadcast;
    SO_DONTROUTE         Flag   dont_route                 dont_route;
    SO_OOBINLINE         Flag   oob_inline                 oob_inline;
    SO_NO_CHECK          Flag   no_check                   no_check;
    SO_PASSCRED          Flag   pass_credentials           pass_credentials;
    SO_PASSSEC           Flag   pass_security              pass_security;
    SO_PASSPIDFD         Flag   pass_pidfd                 pass_pidfd;
    SO_SELECT_ERR_QUEUE  Flag   select_error_queue         select_error_queue;
    SO_RXQ_OVFL          Flag   receive_overflow           receive_overflow;
    SO_TIMESTAMP_OLD     Flag   (stamp::<false, false>)    (set_stamp::<false, false>);
    SO_TIMESTAMP_NEW     Flag   (stamp::<false, true>)     (set_stamp::<false, true>);
    SO_TIMESTAMPNS_OLD   Flag   (stamp::<true, false>)     (set_stamp::<true, false>);
    SO_TIMESTAMPNS_NEW   Flag   (stamp::<true, true>)      (set_stamp::<true, true>);
    SO_TIMESTAMPING_OLD  Flag   (never)                    _;
    SO_TIMESTAMPING_NEW  Flag   (never)                    _;
    SO_LOCK_FILTER       Flag   (never)                    _;
    SO_ZEROCOPY          Flag   (never)                    _;
    SO_ACCEPTCONN        Flag   (is_listening)             _;
    SO_PRIORITY          Int    priority                   (set_priority);
    SO_MARK              Int    mark                       (set_mark);
    SO_INCOMING_CPU      Int    incoming_cpu               incoming_cpu;
    SO_BUSY_POLL         Int    busy_poll                  (set_busy_poll);
    SO_SNDBUF            Int    (send_buffer)              (set_send_buffer);
    SO_RCVBUF            Int    (receive_buffer)           (set_receive_buffer);
    SO_SNDBUFFORCE       Int    _                          (force_send_buffer);
    SO_RCVBUFFORCE       Int    _                          (force_receive_buffer);
    SO_SNDLOWAT          Int    (send_low)                 _;
    SO_RCVLOWAT          Int    (receive_low)              (set_receive_low);
    SO_PEEK_OFF          Int    (peek_offset)              (set_peek_offset);
    SO_BINDTOIFINDEX     Int    (device_index)             (set_device_index);
    SO_TYPE              Int    (kind)                     _;
    SO_PROTOCOL          Int    (protocol)                 _;
    SO_DOMAIN            Int    (domain)                   _;
    SO_ERROR             Int    (take_error)               _;
    SO_RCVTIMEO_OLD      Time   receive_timeout            receive_timeout;
    SO_RCVTIMEO_NEW      Time   receive_timeout            receive_timeout;
    SO_SNDTIMEO_OLD      Time   send_timeout               send_timeout;
    SO_SNDTIMEO_NEW      Time   send_timeout               send_timeout;
    SO_LINGER            Delay  linger                     linger;
    SO_BINDTODEVICE      Bytes  (device)                   (set_device);
    SO_PEERCRED          Bytes  (peer_credentials)         _;
    SO_PEERNAME          Bytes  (peer_name)                _;
    SO_PEERGROUPS        Bytes  (peer_groups)              _;
    SO_COOKIE            Bytes  (cookie)                   _;
}

fn rule(name: i32) -> Result<&'static Rule, Errno> {
    RULES.iter().find(|rule| rule.name == So::from_raw(name)).ok_or_else(|| Errno::ENOPROTOOPT.here())
}

/// Reads an option of SOL_SOCKET.
///
/// # Errors
/// `ENOPROTOOPT` for options that Linux or this kind of socket does not have.
pub(crate) fn get(socket: &dyn Socket, name: i32) -> Result<Vec<u8>, Errno> {
    if let Some(answer) = socket.socket_option(name) {
        return answer;
    }
    let get = rule(name)?.get.ok_or_else(|| Errno::ENOPROTOOPT.here())?;
    get(&Read { socket, values: socket.options().values() })
}

/// Changes an option of SOL_SOCKET.
///
/// # Errors
/// `EINVAL` for values that are too short or invalid, `EDOM` for times out of range, `EPERM` without the necessary
/// capability, `ENOPROTOOPT` for options that Linux does not have.
pub(crate) fn set(ctx: &TaskContext, socket: &dyn Socket, name: i32, value: &[u8]) -> Result<(), Errno> {
    if let Some(answer) = socket.set_socket_option(ctx, name, value) {
        return answer;
    }
    // Linux checks the length before the name; only the name of a device may be shorter.
    if So::from_raw(name) != So::SO_BINDTODEVICE && value.len() < size_of::<i32>() {
        return Err(Errno::EINVAL.here());
    }
    let set = rule(name)?.set.ok_or_else(|| Errno::ENOPROTOOPT.here())?;
    set(&Change { ctx, socket }, value)
}

/// The type of an option: its value for the sentry, and its bytes for the guest.
trait Kind {
    type Value;
    fn encode(value: Self::Value) -> Vec<u8>;
    fn decode(bytes: &[u8]) -> Result<Self::Value, Errno>;
}

/// An `int`.
struct Int;

impl Kind for Int {
    type Value = i32;

    fn encode(value: i32) -> Vec<u8> {
        value.to_ne_bytes().to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<i32, Errno> {
        Ok(i32::from_ne_bytes(*bytes.first_chunk().ok_or_else(|| Errno::EINVAL.here())?))
    }
}

/// An `int` that is zero or one.
struct Flag;

impl Kind for Flag {
    type Value = bool;

    fn encode(value: bool) -> Vec<u8> {
        Int::encode(i32::from(value))
    }

    fn decode(bytes: &[u8]) -> Result<bool, Errno> {
        Ok(Int::decode(bytes)? != 0)
    }
}

/// A `struct timeval`; zero stands for no timeout.
struct Time;

impl Kind for Time {
    type Value = Option<Duration>;

    fn encode(value: Option<Duration>) -> Vec<u8> {
        let value = value.unwrap_or_default();
        let timeval = Timeval { tv_sec: value.as_secs() as i64, tv_usec: i64::from(value.subsec_micros()) };
        timeval.as_bytes().to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Option<Duration>, Errno> {
        let (time, _) = Timeval::read_from_prefix(bytes).map_err(|_| Errno::EINVAL.here())?;
        if !(0..1_000_000).contains(&time.tv_usec) {
            return Err(Errno::EDOM.here());
        }
        // A negative time does not wait at all.
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let wait = Duration::from_secs(seconds) + Duration::from_micros(time.tv_usec as u64);
        Ok((!wait.is_zero() || time.tv_sec < 0).then_some(wait))
    }
}

/// A `struct linger`: the seconds that close(2) waits, if it waits.
struct Delay;

impl Kind for Delay {
    type Value = Option<u32>;

    fn encode(value: Option<u32>) -> Vec<u8> {
        let linger = Linger { l_onoff: i32::from(value.is_some()), l_linger: value.unwrap_or(0) as i32 };
        linger.as_bytes().to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Option<u32>, Errno> {
        let (linger, _) = Linger::read_from_prefix(bytes).map_err(|_| Errno::EINVAL.here())?;
        Ok((linger.l_onoff != 0).then_some(linger.l_linger.max(0) as u32))
    }
}

/// Bytes of a length of their own.
struct Bytes;

impl Kind for Bytes {
    type Value = Vec<u8>;

    fn encode(value: Vec<u8>) -> Vec<u8> {
        value
    }

    fn decode(bytes: &[u8]) -> Result<Vec<u8>, Errno> {
        Ok(bytes.to_vec())
    }
}

fn never(_: &Read<'_>) -> Result<bool, Errno> {
    Ok(false)
}

fn set_debug(change: &Change<'_>, on: bool) -> Result<(), Errno> {
    if on {
        change.require_admin().map_err(|_| Errno::EACCES.here())?;
    }
    change.store(|values| values.debug = on)
}

fn set_reuse_address(change: &Change<'_>, on: bool) -> Result<(), Errno> {
    change.store(|values| values.reuse_address = on)?;
    change.socket.sharing_changed();
    Ok(())
}

fn set_reuse_port(change: &Change<'_>, on: bool) -> Result<(), Errno> {
    change.store(|values| values.reuse_port = on)?;
    change.socket.sharing_changed();
    Ok(())
}

fn stamp<const NANOSECONDS: bool, const NEW: bool>(read: &Read<'_>) -> Result<bool, Errno> {
    Ok(read.values.timestamp == Some(Stamp { nanoseconds: NANOSECONDS, new: NEW }))
}

fn set_stamp<const NANOSECONDS: bool, const NEW: bool>(change: &Change<'_>, on: bool) -> Result<(), Errno> {
    change.store(|values| values.timestamp = on.then_some(Stamp { nanoseconds: NANOSECONDS, new: NEW }))
}

fn is_listening(read: &Read<'_>) -> Result<bool, Errno> {
    Ok(read.socket.is_listening())
}

fn set_priority(change: &Change<'_>, priority: i32) -> Result<(), Errno> {
    if !(0..=6).contains(&priority) {
        change.require_admin()?;
    }
    change.store(|values| values.priority = priority)
}

fn set_mark(change: &Change<'_>, mark: i32) -> Result<(), Errno> {
    change.require_admin()?;
    change.store(|values| values.mark = mark)
}

fn set_busy_poll(change: &Change<'_>, microseconds: i32) -> Result<(), Errno> {
    change.require_admin()?;
    if microseconds < 0 {
        return Err(Errno::EINVAL.here());
    }
    change.store(|values| values.busy_poll = microseconds)
}

/// A buffer size as Linux stores it: twice the given one, within bounds.
fn doubled(size: i32, least: u32, most: u64) -> u32 {
    let most = most as u32;
    u32::try_from(size).unwrap_or(most).min(most).saturating_mul(2).max(least)
}

fn send_buffer(read: &Read<'_>) -> Result<i32, Errno> {
    Ok(read.values.send_buffer as i32)
}

fn receive_buffer(read: &Read<'_>) -> Result<i32, Errno> {
    Ok(read.values.receive_buffer as i32)
}

fn set_send_buffer(change: &Change<'_>, size: i32) -> Result<(), Errno> {
    let most = change.ctx.kernel().network.limits.numbers.wmem_max.count();
    change.store(|values| values.send_buffer = doubled(size, LEAST_SEND, most))
}

fn set_receive_buffer(change: &Change<'_>, size: i32) -> Result<(), Errno> {
    let most = change.ctx.kernel().network.limits.numbers.rmem_max.count();
    change.store(|values| values.receive_buffer = doubled(size, LEAST_RECEIVE, most))
}

fn force_send_buffer(change: &Change<'_>, size: i32) -> Result<(), Errno> {
    change.require_admin()?;
    change.store(|values| values.send_buffer = doubled(size, LEAST_SEND, MOST_FORCED))
}

fn force_receive_buffer(change: &Change<'_>, size: i32) -> Result<(), Errno> {
    change.require_admin()?;
    change.store(|values| values.receive_buffer = doubled(size, LEAST_RECEIVE, MOST_FORCED))
}

fn send_low(_: &Read<'_>) -> Result<i32, Errno> {
    Ok(1)
}

fn receive_low(read: &Read<'_>) -> Result<i32, Errno> {
    Ok(read.values.receive_low as i32)
}

fn set_receive_low(change: &Change<'_>, low: i32) -> Result<(), Errno> {
    let low = if low < 0 { i32::MAX } else { low.max(1) };
    change.store(|values| values.receive_low = low as u32)
}

fn check_peek(socket: &dyn Socket) -> Result<(), Errno> {
    if socket.can_peek_from() { Ok(()) } else { Err(Errno::EOPNOTSUPP.here()) }
}

fn peek_offset(read: &Read<'_>) -> Result<i32, Errno> {
    check_peek(read.socket)?;
    Ok(read.values.peek_offset.map_or(-1, |offset| i32::try_from(offset).unwrap_or(i32::MAX)))
}

fn set_peek_offset(change: &Change<'_>, offset: i32) -> Result<(), Errno> {
    check_peek(change.socket)?;
    if offset < -1 {
        return Err(Errno::EINVAL.here());
    }
    change.store(|values| values.peek_offset = usize::try_from(offset).ok())
}

fn kind(read: &Read<'_>) -> Result<i32, Errno> {
    let (_, kind, _) = read.socket.identity();
    Ok(kind.raw() as i32)
}

fn protocol(read: &Read<'_>) -> Result<i32, Errno> {
    let (_, _, protocol) = read.socket.identity();
    Ok(protocol)
}

fn domain(read: &Read<'_>) -> Result<i32, Errno> {
    let (family, _, _) = read.socket.identity();
    Ok(i32::from(family.raw()))
}

fn take_error(read: &Read<'_>) -> Result<i32, Errno> {
    Ok(read.socket.take_error().map_or(0, Errno::raw))
}

fn device(read: &Read<'_>) -> Result<Vec<u8>, Errno> {
    let device = &read.values.device;
    Ok(if device.is_empty() { Vec::new() } else { [&device[..], b"\0"].concat() })
}

fn set_device(change: &Change<'_>, name: Vec<u8>) -> Result<(), Errno> {
    let device: Vec<u8> = name.into_iter().take(MOST_DEVICE).take_while(|&byte| byte != 0).collect();
    if !device.is_empty() && device != b"lo" {
        return Err(Errno::ENODEV.here());
    }
    change.store(|values| values.device = device)
}

fn device_index(read: &Read<'_>) -> Result<i32, Errno> {
    Ok(i32::from(!read.values.device.is_empty()))
}

fn set_device_index(change: &Change<'_>, index: i32) -> Result<(), Errno> {
    let device: &[u8] = match index {
        0 => b"",
        1 => b"lo",
        negative if negative < 0 => return Err(Errno::EINVAL.here()),
        _ => return Err(Errno::ENODEV.here()),
    };
    change.store(|values| values.device = device.to_vec())
}

fn peer_credentials(read: &Read<'_>) -> Result<Vec<u8>, Errno> {
    Ok(match read.socket.peer_credentials() {
        Some(peer) => peer.credentials.as_bytes().to_vec(),
        // What Linux returns for sockets without a peer.
        None => [0i32, -1, -1].as_bytes().to_vec(),
    })
}

fn peer_name(read: &Read<'_>) -> Result<Vec<u8>, Errno> {
    read.socket.peer_address()
}

fn peer_groups(read: &Read<'_>) -> Result<Vec<u8>, Errno> {
    let peer = read.socket.peer_credentials().ok_or_else(|| Errno::ENODATA.here())?;
    Ok(peer.groups.iter().flat_map(|group| group.to_ne_bytes()).collect())
}

fn cookie(read: &Read<'_>) -> Result<Vec<u8>, Errno> {
    Ok(read.values.inode.to_ne_bytes().to_vec())
}
