//! Multicast groups of a netlink socket, and their events.
//!
//! The sentry's own network never changes, so it has no events. Otherwise a socket in groups has a watch on the other
//! kernel, whose events are moved to its receive queue when the queue is read or polled.

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::netlink::{NetlinkOption, NetlinkProtocol};
use amber_abi::sockopt::SocketLevel;
use zerocopy::IntoBytes;

use super::{NetlinkSocket, State};
use crate::net::control::Control;
use crate::net::inet::NetworkFacts;
use crate::net::receive_queue::Packet;
use crate::task::TaskContext;

/// The last group of NETLINK_ROUTE (`RTNLGRP_STATS`).
const LAST_ROUTE_GROUP: u32 = 36;
/// The last group of other protocols: the number of bits in an address.
const LAST_GROUP: u32 = 32;
/// Groups of multicast routing, whose messages reveal senders (`RTNLGRP_IPV4_MROUTE_R` and its IPv6 counterpart).
const PRIVILEGED: [u32; 2] = [30, 31];

/// The bit of a group, counted from 1.
fn bit(group: u32) -> u64 {
    group.checked_sub(1).and_then(|shift| 1u64.checked_shl(shift)).unwrap_or(0)
}

/// The control data of a message of a group, or with 0 of none.
pub(super) fn told_beside(group: u32) -> Control {
    let value = group.as_bytes().to_vec();
    let mut control = Control::default();
    control.others.push((SocketLevel::SOL_NETLINK.raw(), NetlinkOption::NETLINK_PKTINFO.raw(), value));
    control
}

impl NetlinkSocket {
    pub(super) fn last_group(&self) -> u32 {
        if self.protocol == NetlinkProtocol::NETLINK_ROUTE { LAST_ROUTE_GROUP } else { LAST_GROUP }
    }

    /// Joins or leaves a group.
    ///
    /// # Errors
    /// `EINVAL` for an unknown group; `EPERM`.
    pub(super) fn change_group(&self, ctx: &TaskContext, group: u32, member: bool) -> Result<(), Errno> {
        if group == 0 || group > self.last_group() {
            return Err(Errno::EINVAL.here());
        }
        let groups = self.state.lock().groups;
        let bit = bit(group);
        self.set_groups(ctx, if member { groups | bit } else { groups & !bit })
    }

    /// Replaces the lowest 32 groups by those of an address.
    ///
    /// # Errors
    /// `EPERM`.
    pub(super) fn set_low_groups(&self, ctx: &TaskContext, low: u32) -> Result<(), Errno> {
        let groups = self.state.lock().groups;
        self.set_groups(ctx, groups & !u64::from(u32::MAX) | u64::from(low))
    }

    fn set_groups(&self, ctx: &TaskContext, groups: u64) -> Result<(), Errno> {
        let before = self.state.lock().groups;
        let able = ctx.credentials().has(Capability::CAP_NET_ADMIN);
        let joins = |group| groups & !before & bit(group) != 0;
        if self.protocol == NetlinkProtocol::NETLINK_ROUTE && !able && PRIVILEGED.into_iter().any(joins) {
            return Err(Errno::EPERM.here());
        }
        self.follow(ctx, before, groups)?;
        let mut state = self.state.lock();
        state.groups = groups;
        state.had_groups |= groups != 0;
        Ok(())
    }

    /// Joins and leaves groups of the other kernel.
    fn follow(&self, ctx: &TaskContext, before: u64, after: u64) -> Result<(), Errno> {
        let NetworkFacts::Foreign(foreign) = ctx.kernel().network.inet.network_facts() else { return Ok(()) };
        if self.protocol != NetlinkProtocol::NETLINK_ROUTE {
            return Ok(());
        }
        for group in (1..=self.last_group()).filter(|group| (before ^ after) & bit(*group) != 0) {
            let watch = match self.watch.get() {
                Some(watch) => watch,
                None => {
                    let fresh = foreign.watch()?;
                    self.watch.get_or_init(|| fresh)
                }
            };
            match watch.change_group(group, after & bit(group) != 0) {
                // An older host does not have the group and so no events for it.
                Ok(()) | Err(Errno::EINVAL) => {}
                Err(errno) => return Err(errno),
            }
            self.queue.add_host(watch.file().clone());
        }
        Ok(())
    }

    /// Moves events of the watch to the receive queue, while it has room.
    pub(super) fn pull(&self, state: &mut State) {
        let Some(watch) = self.watch.get() else { return };
        let limit = self.options.look(|values| values.receive_buffer) as usize;
        while state.receive_queue.has_room(limit) {
            match watch.next() {
                Ok((bytes, group)) => {
                    // Groups above 32 have no bit in an address.
                    let source = Self::address_of(0, bit(group) as u32);
                    state.receive_queue.push(Packet::new(&bytes, Some(source), told_beside(group)));
                }
                // Messages were lost.
                Err(Errno::ENOBUFS) => {
                    let tells = !state.flags.contains(&NetlinkOption::NETLINK_NO_ENOBUFS);
                    state.error = state.error.or(tells.then_some(Errno::ENOBUFS));
                }
                Err(_) => return,
            }
        }
    }
}
