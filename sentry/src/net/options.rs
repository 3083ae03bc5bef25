//! The options of level SOL_SOCKET: see socket(7).

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

/// Default, least and greatest size of a send or receive buffer, as Linux's sysctls have them; sizes count double.
const DEFAULT_BUFFER: u32 = 212_992;
const LEAST_SEND: u32 = 4608;
const LEAST_RECEIVE: u32 = 2304;
const GREATEST: u32 = 212_992;

/// Values of the options that all sockets have.
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
    pub timestamp: bool,
    pub timestamp_ns: bool,
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
            timestamp: false,
            timestamp_ns: false,
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
    /// The options with other buffer sizes, in bytes.
    pub fn with_buffers(send: u32, receive: u32) -> Self {
        let values = Values { send_buffer: send, receive_buffer: receive, ..Values::default() };
        SharedOptions(Mutex::new(Rank::Leaf, values))
    }

    /// A copy, as a socket that is accepted inherits them.
    pub fn inherit(&self) -> Self {
        SharedOptions(Mutex::new(Rank::Leaf, Values { inode: 0, ..self.values() }))
    }

    /// All values at one moment.
    pub fn values(&self) -> Values {
        self.0.lock().clone()
    }

    /// Looks at the values.
    pub fn look<T>(&self, look: impl FnOnce(&Values) -> T) -> T {
        look(&self.0.lock())
    }

    /// Changes the values.
    pub fn change(&self, change: impl FnOnce(&mut Values)) {
        change(&mut self.0.lock());
    }

    /// How long a call waits at most (`SO_RCVTIMEO`, `SO_SNDTIMEO`).
    pub fn patience(&self, writing: bool) -> Option<Duration> {
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
/// `ENOPROTOOPT` for options Linux does not have or that this kind of socket lacks.
pub fn get(socket: &dyn Socket, name: i32) -> Result<Vec<u8>, Errno> {
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
        So::SO_TIMESTAMP_OLD | So::SO_TIMESTAMP_NEW => flag(values.timestamp && !values.timestamp_ns),
        So::SO_TIMESTAMPNS_OLD | So::SO_TIMESTAMPNS_NEW => flag(values.timestamp_ns),
        So::SO_TIMESTAMPING_OLD | So::SO_TIMESTAMPING_NEW | So::SO_LOCK_FILTER | So::SO_ZEROCOPY => flag(false),
        So::SO_SELECT_ERR_QUEUE => flag(values.select_error_queue),
        So::SO_RXQ_OVFL => flag(values.receive_overflow),
        So::SO_PRIORITY => number(values.priority),
        So::SO_MARK => number(values.mark),
        So::SO_SNDBUF => number(values.send_buffer as i32),
        So::SO_RCVBUF => number(values.receive_buffer as i32),
        So::SO_RCVLOWAT => number(values.receive_low as i32),
        So::SO_SNDLOWAT => number(1),
        // No offset can be set, and none is what it says then.
        So::SO_PEEK_OFF => number(-1),
        So::SO_INCOMING_CPU => number(values.incoming_cpu),
        So::SO_BUSY_POLL => number(values.busy_poll),
        So::SO_RCVTIMEO_OLD | So::SO_RCVTIMEO_NEW => time(values.receive_timeout),
        So::SO_SNDTIMEO_OLD | So::SO_SNDTIMEO_NEW => time(values.send_timeout),
        So::SO_LINGER => {
            let linger =
                Linger { l_onoff: i32::from(values.linger.is_some()), l_linger: values.linger.unwrap_or(0) as i32 };
            linger.as_bytes().to_vec()
        }
        So::SO_BINDTODEVICE => values.device,
        So::SO_TYPE => number(kind.raw() as i32),
        So::SO_PROTOCOL => number(protocol),
        So::SO_DOMAIN => number(i32::from(family.raw())),
        So::SO_ERROR => number(socket.take_error().map_or(0, Errno::raw)),
        So::SO_ACCEPTCONN => flag(socket.is_listening()),
        So::SO_PEERCRED => match socket.peer_credentials() {
            Some(credentials) => credentials.as_bytes().to_vec(),
            // Nobody: as Linux says for sockets without a peer.
            None => [0i32, -1, -1].as_bytes().to_vec(),
        },
        So::SO_PEERNAME => socket.peer_address()?,
        So::SO_COOKIE => values.inode.to_ne_bytes().to_vec(),
        _ => return Err(Errno::ENOPROTOOPT),
    })
}

/// Changes an option of SOL_SOCKET.
///
/// # Errors
/// `EINVAL` for values that are too short or make no sense, `EDOM` for times out of range, `EPERM` for what only the
/// privileged may do, `ENOPROTOOPT` for options Linux does not have.
pub fn set(ctx: &TaskContext, socket: &dyn Socket, name: i32, value: &[u8]) -> Result<(), Errno> {
    let privileged = || {
        let able = ctx.credentials().has(Capability::CAP_NET_ADMIN);
        if able { Ok(()) } else { Err(Errno::EPERM) }
    };
    let options = socket.options();
    if So::from_raw(name) == So::SO_BINDTODEVICE {
        let device: Vec<u8> = value.iter().take(15).copied().take_while(|&b| b != 0).collect();
        if !device.is_empty() && device != b"lo" {
            return Err(Errno::ENODEV);
        }
        options.change(|values| values.device = device);
        return Ok(());
    }
    let int = i32::from_ne_bytes(*value.first_chunk().ok_or(Errno::EINVAL)?);
    let on = int != 0;
    match So::from_raw(name) {
        So::SO_DEBUG => {
            if on {
                privileged().map_err(|_| Errno::EACCES)?;
            }
            options.change(|v| v.debug = on);
        }
        So::SO_REUSEADDR => options.change(|v| v.reuse_address = on),
        So::SO_REUSEPORT => options.change(|v| v.reuse_port = on),
        So::SO_KEEPALIVE => options.change(|v| v.keep_alive = on),
        So::SO_BROADCAST => options.change(|v| v.broadcast = on),
        So::SO_DONTROUTE => options.change(|v| v.dont_route = on),
        So::SO_OOBINLINE => options.change(|v| v.oob_inline = on),
        So::SO_NO_CHECK => options.change(|v| v.no_check = on),
        So::SO_PASSCRED => options.change(|v| v.pass_credentials = on),
        So::SO_PASSSEC => options.change(|v| v.pass_security = on),
        So::SO_TIMESTAMP_OLD | So::SO_TIMESTAMP_NEW => options.change(|v| (v.timestamp, v.timestamp_ns) = (on, false)),
        So::SO_TIMESTAMPNS_OLD | So::SO_TIMESTAMPNS_NEW => options.change(|v| (v.timestamp, v.timestamp_ns) = (on, on)),
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
        So::SO_SNDBUF => options.change(|v| v.send_buffer = doubled(int, LEAST_SEND, GREATEST)),
        So::SO_RCVBUF => options.change(|v| v.receive_buffer = doubled(int, LEAST_RECEIVE, GREATEST)),
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
            let (linger, _) = Linger::read_from_prefix(value).map_err(|_| Errno::EINVAL)?;
            options.change(|v| v.linger = (linger.l_onoff != 0).then_some(linger.l_linger.max(0) as u32));
        }
        So::SO_INCOMING_CPU => options.change(|v| v.incoming_cpu = int),
        So::SO_PEEK_OFF => return Err(Errno::EOPNOTSUPP),
        So::SO_BUSY_POLL => {
            privileged()?;
            if int < 0 {
                return Err(Errno::EINVAL);
            }
            options.change(|v| v.busy_poll = int);
        }
        _ => return Err(Errno::ENOPROTOOPT),
    }
    Ok(())
}

/// A buffer size as Linux keeps it: twice what was asked for, within bounds.
fn doubled(asked: i32, least: u32, greatest: u32) -> u32 {
    let asked = u32::try_from(asked).unwrap_or(greatest).min(greatest);
    asked.saturating_mul(2).max(least)
}

fn timeout(value: &[u8]) -> Result<Option<Duration>, Errno> {
    let (time, _) = Timeval::read_from_prefix(value).map_err(|_| Errno::EINVAL)?;
    if !(0..1_000_000).contains(&time.tv_usec) {
        return Err(Errno::EDOM);
    }
    // A negative time does not wait at all; zero waits for ever.
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let wait = Duration::from_secs(seconds) + Duration::from_micros(time.tv_usec as u64);
    Ok((!wait.is_zero() || time.tv_sec < 0).then_some(wait))
}
