//! Socket options that the host keeps.

use std::sync::atomic::Ordering;

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::seccomp::{SockFilter, SockFprog};
use amber_abi::socket::Linger;
use amber_abi::sockopt::{SocketLevel, SocketOption as So, TcpOption as Tcp};
use amber_host::socket as host;
use zerocopy::{FromBytes, IntoBytes};

use super::rules::{Rule, rule};
use super::socket::HostSocket;
use crate::net::inet::NetworkFacts;
use crate::task::TaskContext;

/// The maximum length of a value.
const MOST_VALUE: usize = 512;
/// The size of `struct tcp_info` in the release that guests see.
const TCP_INFO_LEN: usize = 248;
/// The maximum number of instructions of a filter (`BPF_MAXINSNS`).
const MOST_INSTRUCTIONS: u16 = 4096;
/// Priorities that require no capability.
const FREE_PRIORITIES: std::ops::RangeInclusive<i32> = 0..=6;

fn int(value: &[u8]) -> Result<i32, Errno> {
    Ok(i32::from_ne_bytes(*value.first_chunk().ok_or_else(|| Errno::EINVAL.here())?))
}

impl HostSocket {
    /// Reads an option.
    ///
    /// # Errors
    /// `ENOPROTOOPT` for options that are not passed to the host; errors of the host.
    pub(super) fn read_option(&self, level: SocketLevel, name: i32) -> Result<Vec<u8>, Errno> {
        if !rule(level, name).is_some_and(|rule| rule != Rule::Write) {
            return Err(Errno::ENOPROTOOPT.here());
        }
        let mut value = host::option(self.fd(), level.raw(), name, MOST_VALUE)?;
        if (level, name) == (SocketLevel::SOL_TCP, Tcp::TCP_INFO.raw()) {
            // The size in the guest's release, not in the host's.
            value.resize(TCP_INFO_LEN, 0);
            self.count_waiting(&mut value);
        }
        Ok(value)
    }

    /// Sets an option.
    ///
    /// # Errors
    /// `ENOPROTOOPT` for options that are not passed to the host; `EPERM` without the required capability; errors of
    /// the host.
    pub(super) fn change_option(
        &self,
        ctx: &TaskContext,
        level: SocketLevel,
        name: i32,
        value: &[u8],
    ) -> Result<(), Errno> {
        let has = |capability| ctx.credentials().has(capability);
        let (raw, admin) = (has(Capability::CAP_NET_RAW), has(Capability::CAP_NET_ADMIN));
        let allowed = match rule(level, name).ok_or_else(|| Errno::ENOPROTOOPT.here())? {
            Rule::Free | Rule::Write => true,
            Rule::Read => return Err(Errno::ENOPROTOOPT.here()),
            Rule::Raw => raw,
            Rule::Admin => admin,
            Rule::RawOrAdmin => raw || admin,
        };
        if !allowed {
            return Err(Errno::EPERM.here());
        }
        match (level, Tcp::from_raw(name)) {
            (SocketLevel::SOL_TCP, Tcp::TCP_CONGESTION) if !admin => check_congestion(ctx, value)?,
            (SocketLevel::SOL_TCP, Tcp::TCP_INQ) => self.has_control.store(true, Ordering::Relaxed),
            _ => {}
        }
        if self.requests.note_option(level, name) {
            self.bound_backlog();
        }
        self.set_kept(level, name, value)
    }

    /// Reads an option of SOL_SOCKET, if the host keeps it.
    pub(super) fn read_common_option(&self, name: i32) -> Option<Result<Vec<u8>, Errno>> {
        rule(SocketLevel::SOL_SOCKET, name)?;
        Some(self.read_option(SocketLevel::SOL_SOCKET, name))
    }

    /// Sets an option of SOL_SOCKET, if the host keeps it. Options that affect waits remain the sentry's.
    pub(super) fn change_common_option(&self, ctx: &TaskContext, name: i32, value: &[u8]) -> Option<Result<(), Errno>> {
        let level = SocketLevel::SOL_SOCKET;
        let pass = || host::set_option(self.fd(), level.raw(), name, value);
        match So::from_raw(name) {
            So::SO_LINGER => return self.pass_linger(value).err().map(Err),
            // Set on both: the host reports input by it, and the sentry waits by it.
            So::SO_RCVLOWAT => return pass().err().map(Err),
            So::SO_ATTACH_FILTER | So::SO_ATTACH_REUSEPORT_CBPF => return Some(self.attach_filter(ctx, name, value)),
            So::SO_BINDTODEVICE | So::SO_BINDTOIFINDEX if !self.may_rebind(ctx) => {
                return Some(Err(Errno::EPERM.here()));
            }
            So::SO_PRIORITY if !may_have_priority(ctx, value) => return Some(Err(Errno::EPERM.here())),
            So::SO_TIMESTAMP_OLD
            | So::SO_TIMESTAMP_NEW
            | So::SO_TIMESTAMPNS_OLD
            | So::SO_TIMESTAMPNS_NEW
            | So::SO_TIMESTAMPING_OLD
            | So::SO_TIMESTAMPING_NEW => self.has_control.store(true, Ordering::Relaxed),
            _ => {}
        }
        rule(level, name)?;
        Some(self.change_option(ctx, level, name, value))
    }

    /// Sets SO_LINGER on the host such that close never waits, and resets the connection if the guest sets a time of
    /// zero. Other times are waited for by the sentry before.
    fn pass_linger(&self, value: &[u8]) -> Result<(), Errno> {
        let (linger, _) = Linger::read_from_prefix(value).map_err(|_| Errno::EINVAL.here())?;
        let resets = linger.l_onoff != 0 && linger.l_linger == 0;
        let passed = Linger { l_onoff: i32::from(resets), l_linger: 0 };
        let (level, name) = (SocketLevel::SOL_SOCKET.raw(), So::SO_LINGER.raw());
        host::set_option(self.fd(), level, name, passed.as_bytes())
    }

    /// Reads a classic BPF filter from the guest and attaches it; the host kernel verifies it.
    fn attach_filter(&self, ctx: &TaskContext, name: i32, value: &[u8]) -> Result<(), Errno> {
        let program = SockFprog::read_from_bytes(value).map_err(|_| Errno::EINVAL.here())?;
        if program.len == 0 || program.len > MOST_INSTRUCTIONS {
            return Err(Errno::EINVAL.here());
        }
        let instructions = ctx.read_array::<SockFilter>(program.filter, usize::from(program.len))?;
        let bytes: Vec<[u8; 8]> =
            instructions.iter().filter_map(|instruction| instruction.as_bytes().try_into().ok()).collect();
        self.attach(name, &bytes)
    }

    /// Changing the device of a bound socket requires CAP_NET_RAW.
    fn may_rebind(&self, ctx: &TaskContext) -> bool {
        let bound = self.number_option(SocketLevel::SOL_SOCKET, So::SO_BINDTOIFINDEX.raw());
        bound == Ok(0) || ctx.credentials().has(Capability::CAP_NET_RAW)
    }
}

fn may_have_priority(ctx: &TaskContext, value: &[u8]) -> bool {
    let has = |capability| ctx.credentials().has(capability);
    // The host refuses a value that is too short.
    int(value).map_or(true, |priority| FREE_PRIORITIES.contains(&priority))
        || has(Capability::CAP_NET_RAW)
        || has(Capability::CAP_NET_ADMIN)
}

/// Without CAP_NET_ADMIN, only congestion controls that the host's administrator allows can be set.
fn check_congestion(ctx: &TaskContext, value: &[u8]) -> Result<(), Errno> {
    let NetworkFacts::Foreign(foreign) = ctx.kernel().network.inet.network_facts() else { return Ok(()) };
    let names = |path| {
        let value = foreign.parameters().read(path).unwrap_or_default();
        String::from_utf8_lossy(&value).into_owned()
    };
    let allowed = names("net/ipv4/tcp_allowed_congestion_control");
    let available = names("net/ipv4/tcp_available_congestion_control");
    let name = value.split(|&byte| byte == 0).next().unwrap_or_default();
    let among = |names: &str| names.split_whitespace().any(|other| other.as_bytes() == name);
    match (among(&allowed), among(&available)) {
        (true, _) => Ok(()),
        (false, true) => Err(Errno::EPERM.here()),
        (false, false) => Err(Errno::ENOENT.here()),
    }
}
