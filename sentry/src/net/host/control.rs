//! Conversion of control messages between guest and host.

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::socket::{CMSG_ALIGN, Cmsghdr, ControlType};
use amber_abi::sockopt::{Ipv6Option as V6, SocketLevel, SocketOption};
use zerocopy::{FromBytes, IntoBytes};

use crate::task::TaskContext;

/// IPv6 headers, which require CAP_NET_RAW.
const RAW_HEADERS: [V6; 7] = [
    V6::IPV6_HOPOPTS,
    V6::IPV6_2292HOPOPTS,
    V6::IPV6_DSTOPTS,
    V6::IPV6_2292DSTOPTS,
    V6::IPV6_RTHDRDSTOPTS,
    V6::IPV6_RTHDR,
    V6::IPV6_2292RTHDR,
];

/// Encodes control messages for sendmsg(2) of the host: those that the guest may send. The host checks their values.
///
/// # Errors
/// `EPERM` for messages that require a capability; `EINVAL` for unknown ones.
pub(super) fn encode(ctx: Option<&TaskContext>, messages: &[(i32, i32, Vec<u8>)]) -> Result<Vec<u8>, Errno> {
    let has = |capability| ctx.is_some_and(|ctx| ctx.credentials().has(capability));
    let mut bytes = Vec::new();
    for (level, kind, data) in messages {
        match SocketLevel::from_raw(*level) {
            SocketLevel::SOL_SOCKET => match (ControlType::from_raw(*kind), SocketOption::from_raw(*kind)) {
                // Ignored outside AF_UNIX.
                (ControlType::SCM_RIGHTS | ControlType::SCM_CREDENTIALS, _) => continue,
                (_, SocketOption::SO_TIMESTAMPING_OLD) => {}
                (_, SocketOption::SO_MARK) if has(Capability::CAP_NET_RAW) || has(Capability::CAP_NET_ADMIN) => {}
                (_, SocketOption::SO_MARK) => return Err(Errno::EPERM.here()),
                _ => return Err(Errno::EINVAL.here()),
            },
            SocketLevel::SOL_IPV6
                if RAW_HEADERS.iter().any(|header| header.raw() == *kind) && !has(Capability::CAP_NET_RAW) =>
            {
                return Err(Errno::EPERM.here());
            }
            SocketLevel::SOL_IP | SocketLevel::SOL_IPV6 | SocketLevel::SOL_UDP => {}
            // Linux ignores messages of other levels.
            _ => continue,
        }
        let header =
            Cmsghdr { cmsg_len: (size_of::<Cmsghdr>() + data.len()) as u64, cmsg_level: *level, cmsg_type: *kind };
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(CMSG_ALIGN), 0);
    }
    Ok(bytes)
}

/// Decodes control messages of the host: level, type and data of each.
pub(super) fn decode(mut bytes: &[u8]) -> Vec<(i32, i32, Vec<u8>)> {
    let mut messages = Vec::new();
    while let Ok((header, _)) = Cmsghdr::read_from_prefix(bytes) {
        let len = usize::try_from(header.cmsg_len).unwrap_or(usize::MAX);
        let Some(data) = bytes.get(size_of::<Cmsghdr>()..len) else { break };
        messages.push((header.cmsg_level, header.cmsg_type, data.to_vec()));
        bytes = bytes.get(len.next_multiple_of(CMSG_ALIGN)..).unwrap_or_default();
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_taken_apart(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn messages_survive(kind in 0..100i32, data in proptest::collection::vec(any::<u8>(), 0..40)) {
            let messages = vec![(SocketLevel::SOL_IP.raw(), kind, data), (SocketLevel::SOL_IP.raw(), 8, vec![0; 12])];
            prop_assert_eq!(decode(&encode(None, &messages).unwrap()), messages);
        }
    }
}
