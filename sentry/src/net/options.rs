//! Options of level SOL_SOCKET (socket(7)).

use std::time::Duration;

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::socket::Linger;
use amber_abi::sockopt::SocketOption as So;
use amber_abi::time::Timeval;
use zerocopy::{FromBytes, IntoBytes};

use crate::net::socket::Socket;
use crate::sync::{Mutex, Rank};
use crate::task::TaskContext;

/// The minimum sizes of send and receive buffers in bytes, doubled as Linux stores them.
const LEAST_SEND: u32 = 4608;
const LEAST_RECEIVE: u32 = 2304;
/// The buffer sizes of sockets without a parameter of the network, in bytes.
const DEFAULT_BUFFER: u32 = 212_992;

/// The format of reception time stamps (`SO_TIMESTAMP`, `SO_TIMESTAMPNS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Whether it has nanoseconds instead of microseconds.
    pub nanoseconds: bool,
    /// Whether the option with 64-bit times was used (`SO_TIMESTAMP_NEW` and similar).
    pub new: bool,
}

/// The values of the options of all sockets.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields carry the names of socket(7)")]
pub struct Values {
    pub debug: bool,
    pub reuse_address: bool,
    pub reuse_port: bool,
    pub keep_alive: bool,
    pub broadcast: bool,
    pub dont_route: bool,
    pub oob_inline: bool,
    pub no_check: bool,
    pub pass_credentials: bool,
    pub pass_security: bool,
    pub pass_pidfd: bool,
    pub timestamp: Option<Stamp>,
    /// The offset of the next peek, if it was set.
    pub peek_offset: Option<usize>,
    pub priority: i32,
    pub mark: i32,
    pub linger: Option<u32>,
    pub send_buffer: u32,
    pub receive_buffer: u32,
    pub receive_low: u32,
    pub receive_timeout: Option<Duration>,
    pub send_timeout: Option<Duration>,
    pub incoming_cpu: i32,
    pub busy_poll: i32,
    pub select_error_queue: bool,
    pub receive_overflow: bool,
    pub device: Vec<u8>,
    pub inode: u64,
}

impl Default for Values {
    fn default() -> Self {
        Values {
            debug: false,
            reuse_address: false,
            reuse_port: false,
            keep_alive: false,
            broadcast: false,
            dont_route: false,
            oob_inline: false,
            no_check: false,
            pass_credentials: false,
            pass_security: false,
            pass_pidfd: false,
            timestamp: None,
            peek_offset: None,
            priority: 0,
            mark: 0,
            linger: None,
            send_buffer: DEFAULT_BUFFER,
            receive_buffer: DEFAULT_BUFFER,
            receive_low: 1,
            receive_timeout: None,
            send_timeout: None,
            incoming_cpu: -1,
            busy_poll: 0,
            select_error_queue: false,
            receive_overflow: false,
            device: Vec::new(),
            inode: 0,
        }
    }
}

/// The options of one socket.
pub struct SharedOptions(Mutex<Values>);

impl Default for SharedOptions {
    fn default() -> Self {
        SharedOptions(Mutex::new(Rank::Leaf, Values::default()))
    }
}

impl SharedOptions {
    /// The default options with these buffer sizes, in bytes.
    pub fn with_buffers(send: u32, receive: u32) -> Self {
        let values = Values { send_buffer: send, receive_buffer: receive, ..Values::default() };
        SharedOptions(Mutex::new(Rank::Leaf, values))
    }

    /// A copy for an accepted socket.
    pub fn inherit(&self) -> Self {
        SharedOptions(Mutex::new(Rank::Leaf, Values { inode: 0, ..self.values() }))
    }

    /// All values, read atomically.
    pub fn values(&self) -> Values {
        self.0.lock().clone()
    }

    /// Reads values.
    pub fn look<T>(&self, look: impl FnOnce(&Values) -> T) -> T {
        look(&self.0.lock())
    }

    /// Changes values.
    pub fn change(&self, change: impl FnOnce(&mut Values)) {
        change(&mut self.0.lock());
    }

    /// Moves the offset of the next peek, if it was set: forward by a peek, back by a receive.
    pub fn move_peek_offset(&self, peeked: bool, len: usize) {
        let mut values = self.0.lock();
        if let Some(offset) = &mut values.peek_offset {
            *offset = if peeked { offset.saturating_add(len) } else { offset.saturating_sub(len) };
        }
    }

    /// The maximum time a call waits (`SO_RCVTIMEO`, `SO_SNDTIMEO`).
    pub fn timeout(&self, writing: bool) -> Option<Duration> {
        self.look(|values| if writing { values.send_timeout } else { values.receive_timeout })
    }
}

fn number(value: i32) -> Vec<u8> {
    value.to_ne_bytes().to_vec()
}

fn flag(value: bool) -> Vec<u8> {
    number(i32::from(value))
}

fn time(value: Option<Duration>) -> Vec<u8> {
    let value = value.unwrap_or_default();
    let timeval = Timeval { tv_sec: value.as_secs() as i64, tv_usec: i64::from(value.subsec_micros()) };
    timeval.as_bytes().to_vec()
}

/// Reads an option of SOL_SOCKET.
///
/// # Errors
/// `ENOPROTOOPT` for options that are unknown or not supported by this kind of socket.
pub fn get(socket: &dyn Socket, name: i32) -> Result<Vec<u8>, Errno> {
    if let Some(answer) = socket.socket_option(name) {
        return answer;
    }
    let (family, kind, protocol) = socket.identity();
    let values = socket.options().values();
    Ok(match So::from_raw(name) {
        So::SO_DEBUG => flag(values.debug),
        So::SO_REUSEADDR => flag(values.reuse_address),
        So::SO_REUSEPORT => flag(values.reuse_port),
        So::SO_KEEPALIVE => flag(values.keep_alive),
        So::SO_BROADCAST => flag(values.broadcast),
        So::SO_DONTROUTE => flag(values.dont_route),
        So::SO_OOBINLINE => flag(values.oob_inline),
        So::SO_NO_CHECK => flag(values.no_check),
        So::SO_PASSCRED => flag(values.pass_credentials),
        So::SO_PASSSEC => flag(values.pass_security),
        So::SO_PASSPIDFD => flag(values.pass_pidfd),
        So::SO_TIMESTAMP_OLD => flag(values.timestamp == Some(Stamp { nanoseconds: false, new: false })),
        So::SO_TIMESTAMP_NEW => flag(values.timestamp == Some(Stamp { nanoseconds: false, new: true })),
        So::SO_TIMESTAMPNS_OLD => flag(values.timestamp == Some(Stamp { nanoseconds: true, new: false })),
        So::SO_TIMESTAMPNS_NEW => flag(values.timestamp == Some(Stamp { nanoseconds: true, new: true })),
        So::SO_TIMESTAMPING_OLD | So::SO_TIMESTAMPING_NEW | So::SO_LOCK_FILTER | So::SO_ZEROCOPY => flag(false),
        So::SO_SELECT_ERR_QUEUE => flag(values.select_error_queue),
        So::SO_RXQ_OVFL => flag(values.receive_overflow),
        So::SO_PRIORITY => number(values.priority),
        So::SO_MARK => number(values.mark),
        So::SO_SNDBUF => number(values.send_buffer as i32),
        So::SO_RCVBUF => number(values.receive_buffer as i32),
        So::SO_RCVLOWAT => number(values.receive_low as i32),
        So::SO_SNDLOWAT => number(1),
        So::SO_PEEK_OFF if !socket.can_peek_from() => return Err(Errno::EOPNOTSUPP.here()),
        So::SO_PEEK_OFF => number(values.peek_offset.map_or(-1, |offset| i32::try_from(offset).unwrap_or(i32::MAX))),
        So::SO_INCOMING_CPU => number(values.incoming_cpu),
        So::SO_BUSY_POLL => number(values.busy_poll),
        So::SO_RCVTIMEO_OLD | So::SO_RCVTIMEO_NEW => time(values.receive_timeout),
        So::SO_SNDTIMEO_OLD | So::SO_SNDTIMEO_NEW => time(values.send_timeout),
        So::SO_LINGER => {
            let linger =
                Linger { l_onoff: i32::from(values.linger.is_some()), l_linger: values.linger.unwrap_or(0) as i32 };
            linger.as_bytes().to_vec()
        }
        So::SO_BINDTODEVICE if values.device.is_empty() => Vec::new(),
        So::SO_BINDTODEVICE => [&values.device[..], b"\0"].concat(),
        So::SO_BINDTOIFINDEX => number(i32::from(!values.device.is_empty())),
        So::SO_TYPE => number(kind.raw() as i32),
        So::SO_PROTOCOL => number(protocol),
        So::SO_DOMAIN => number(i32::from(family.raw())),
        So::SO_ERROR => number(socket.take_error().map_or(0, Errno::raw)),
        So::SO_ACCEPTCONN => flag(socket.is_listening()),
        So::SO_PEERCRED => match socket.peer_credentials() {
            Some(peer) => peer.credentials.as_bytes().to_vec(),
            // The values that Linux returns for sockets without a peer.
            None => [0i32, -1, -1].as_bytes().to_vec(),
        },
        So::SO_PEERNAME => socket.peer_address()?,
        So::SO_PEERGROUPS => {
            let peer = socket.peer_credentials().ok_or_else(|| Errno::ENODATA.here())?;
            peer.groups.iter().flat_map(|group| group.to_ne_bytes()).collect()
        }
        So::SO_COOKIE => values.inode.to_ne_bytes().to_vec(),
        _ => return Err(Errno::ENOPROTOOPT.here()),
    })
}

/// Sets an option of SOL_SOCKET.
///
/// # Errors
/// `EINVAL` for values that are too short or invalid; `EDOM` for times out of range; `EPERM` without the required
/// capability; `ENOPROTOOPT` for unknown options.
pub fn set(ctx: &TaskContext, socket: &dyn Socket, name: i32, value: &[u8]) -> Result<(), Errno> {
    if let Some(answer) = socket.set_socket_option(ctx, name, value) {
        return answer;
    }
    let privileged = || {
        let able = ctx.credentials().has(Capability::CAP_NET_ADMIN);
        if able { Ok(()) } else { Err(Errno::EPERM.here()) }
    };
    let options = socket.options();
    let numbers = &ctx.kernel().network.limits.numbers;
    let (most_send, most_receive) = (numbers.wmem_max.count() as u32, numbers.rmem_max.count() as u32);
    if So::from_raw(name) == So::SO_BINDTODEVICE {
        let device: Vec<u8> = value.iter().take(15).copied().take_while(|&b| b != 0).collect();
        if !device.is_empty() && device != b"lo" {
            return Err(Errno::ENODEV.here());
        }
        options.change(|values| values.device = device);
        return Ok(());
    }
    let int = i32::from_ne_bytes(*value.first_chunk().ok_or_else(|| Errno::EINVAL.here())?);
    let on = int != 0;
    match So::from_raw(name) {
        So::SO_DEBUG => {
            if on {
                privileged().map_err(|_| Errno::EACCES.here())?;
            }
            options.change(|v| v.debug = on);
        }
        So::SO_REUSEADDR => {
            options.change(|v| v.reuse_address = on);
            socket.sharing_changed();
        }
        So::SO_REUSEPORT => {
            options.change(|v| v.reuse_port = on);
            socket.sharing_changed();
        }
        So::SO_KEEPALIVE => options.change(|v| v.keep_alive = on),
        So::SO_BROADCAST => options.change(|v| v.broadcast = on),
        So::SO_DONTROUTE => options.change(|v| v.dont_route = on),
        So::SO_OOBINLINE => options.change(|v| v.oob_inline = on),
        So::SO_NO_CHECK => options.change(|v| v.no_check = on),
        So::SO_PASSCRED => options.change(|v| v.pass_credentials = on),
        So::SO_PASSSEC => options.change(|v| v.pass_security = on),
        So::SO_PASSPIDFD => options.change(|v| v.pass_pidfd = on),
        option @ (So::SO_TIMESTAMP_OLD | So::SO_TIMESTAMP_NEW | So::SO_TIMESTAMPNS_OLD | So::SO_TIMESTAMPNS_NEW) => {
            let nanoseconds = matches!(option, So::SO_TIMESTAMPNS_OLD | So::SO_TIMESTAMPNS_NEW);
            let new = matches!(option, So::SO_TIMESTAMP_NEW | So::SO_TIMESTAMPNS_NEW);
            options.change(|v| v.timestamp = on.then_some(Stamp { nanoseconds, new }));
        }
        So::SO_SELECT_ERR_QUEUE => options.change(|v| v.select_error_queue = on),
        So::SO_RXQ_OVFL => options.change(|v| v.receive_overflow = on),
        So::SO_PRIORITY => {
            if !(0..=6).contains(&int) {
                privileged()?;
            }
            options.change(|v| v.priority = int);
        }
        So::SO_MARK => {
            privileged()?;
            options.change(|v| v.mark = int);
        }
        So::SO_SNDBUF => options.change(|v| v.send_buffer = doubled(int, LEAST_SEND, most_send)),
        So::SO_RCVBUF => options.change(|v| v.receive_buffer = doubled(int, LEAST_RECEIVE, most_receive)),
        So::SO_SNDBUFFORCE => {
            privileged()?;
            options.change(|v| v.send_buffer = doubled(int, LEAST_SEND, u32::MAX / 4));
        }
        So::SO_RCVBUFFORCE => {
            privileged()?;
            options.change(|v| v.receive_buffer = doubled(int, LEAST_RECEIVE, u32::MAX / 4));
        }
        So::SO_RCVLOWAT => {
            let low = if int < 0 { i32::MAX } else { int.max(1) };
            options.change(|v| v.receive_low = low as u32);
        }
        So::SO_RCVTIMEO_OLD | So::SO_RCVTIMEO_NEW => {
            let timeout = timeout(value)?;
            options.change(|v| v.receive_timeout = timeout);
        }
        So::SO_SNDTIMEO_OLD | So::SO_SNDTIMEO_NEW => {
            let timeout = timeout(value)?;
            options.change(|v| v.send_timeout = timeout);
        }
        So::SO_LINGER => {
            let (linger, _) = Linger::read_from_prefix(value).map_err(|_| Errno::EINVAL.here())?;
            options.change(|v| v.linger = (linger.l_onoff != 0).then_some(linger.l_linger.max(0) as u32));
        }
        So::SO_INCOMING_CPU => options.change(|v| v.incoming_cpu = int),
        So::SO_PEEK_OFF => {
            if !socket.can_peek_from() {
                return Err(Errno::EOPNOTSUPP.here());
            }
            if int < -1 {
                return Err(Errno::EINVAL.here());
            }
            options.change(|v| v.peek_offset = usize::try_from(int).ok());
        }
        So::SO_BINDTOIFINDEX => {
            let device: &[u8] = match int {
                0 => b"",
                1 => b"lo",
                negative if negative < 0 => return Err(Errno::EINVAL.here()),
                _ => return Err(Errno::ENODEV.here()),
            };
            options.change(|v| v.device = device.to_vec());
        }
        So::SO_BUSY_POLL => {
            privileged()?;
            if int < 0 {
                return Err(Errno::EINVAL.here());
            }
            options.change(|v| v.busy_poll = int);
        }
        _ => return Err(Errno::ENOPROTOOPT.here()),
    }
    Ok(())
}

/// A buffer size as Linux stores it: twice the requested one, in a range.
fn doubled(asked: i32, least: u32, greatest: u32) -> u32 {
    let asked = u32::try_from(asked).unwrap_or(greatest).min(greatest);
    asked.saturating_mul(2).max(least)
}

fn timeout(value: &[u8]) -> Result<Option<Duration>, Errno> {
    let (time, _) = Timeval::read_from_prefix(value).map_err(|_| Errno::EINVAL.here())?;
    if !(0..1_000_000).contains(&time.tv_usec) {
        return Err(Errno::EDOM.here());
    }
    // A negative time means no wait; zero means an unlimited one.
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let wait = Duration::from_secs(seconds) + Duration::from_micros(time.tv_usec as u64);
    Ok((!wait.is_zero() || time.tv_sec < 0).then_some(wait))
}
