//! Allocation of ports.

use std::collections::HashMap;
use std::sync::Arc;

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;

use super::holders::Holders;
use super::{Claim, Endpoint};
use crate::net::limits::Limits;
use crate::sync::{Mutex, Rank};
use crate::task::TaskContext;

/// A socket that can have a port.
pub(crate) trait Holder: Send + Sync {
    /// The present claim. A change takes effect with [`Ports::refile`].
    fn claim(&self) -> Claim;
}

/// The ports of one protocol.
pub(crate) struct Ports<T> {
    table: Mutex<Table<T>>,
    limits: Arc<Limits>,
}

struct Table<T> {
    holders: HashMap<u16, Holders<T>>,
    next: u16,
}

/// Checks whether a task may bind to a port.
///
/// # Errors
/// `EACCES` for a privileged port without CAP_NET_BIND_SERVICE.
pub(crate) fn check_port(ctx: &TaskContext, port: u16) -> Result<(), Errno> {
    let privileged = port != 0 && i64::from(port) < ctx.kernel().tunables.unprivileged_ports.get();
    if privileged && !ctx.credentials().has(Capability::CAP_NET_BIND_SERVICE) {
        return Err(Errno::EACCES.here());
    }
    Ok(())
}

impl<T: Holder> Ports<T> {
    /// A table without sockets. The search for free ports starts at a random port.
    pub(crate) fn new(limits: Arc<Limits>) -> Self {
        let mut seed = [0; 2];
        // Without random numbers the search starts at the first port, which is acceptable.
        let _ = getrandom::fill(&mut seed);
        let next = u16::from_ne_bytes(seed);
        Ports { table: Mutex::new(Rank::Ports, Table { holders: HashMap::new(), next }), limits }
    }

    /// Allocates the port, or any free one if it is 0. `commit` is called with the port under the lock.
    ///
    /// # Errors
    /// `EADDRINUSE`.
    pub(crate) fn take(
        &self,
        socket: &Arc<T>,
        claim: &Claim,
        port: u16,
        commit: impl FnOnce(u16),
    ) -> Result<u16, Errno> {
        let mut table = self.table.lock();
        let port = match port {
            0 => table.find_free(self.limits.port_range()).ok_or_else(|| Errno::EADDRINUSE.here())?,
            port => port,
        };
        table.check(claim, port, &**socket)?;
        commit(port);
        table.holders.entry(port).or_default().insert(socket);
        Ok(port)
    }

    /// Checks a changed claim for the socket's port, and applies the change by `commit` under the lock.
    ///
    /// # Errors
    /// `EADDRINUSE`.
    pub(crate) fn check_again(&self, socket: &T, claim: &Claim, port: u16, commit: impl FnOnce()) -> Result<(), Errno> {
        let mut table = self.table.lock();
        table.check(claim, port, socket)?;
        commit();
        table.refile(socket, port);
        Ok(())
    }

    /// Adds a socket to a port that is shared: a connection of a listener.
    pub(crate) fn share(&self, socket: &Arc<T>, port: u16) {
        self.table.lock().holders.entry(port).or_default().insert(socket);
    }

    /// Updates the index after a socket's claim has changed. Does nothing without a port.
    pub(crate) fn refile(&self, socket: &T, port: u16) {
        if port != 0 {
            self.table.lock().refile(socket, port);
        }
    }

    /// Releases a socket's port.
    pub(crate) fn release(&self, socket: &T, port: u16) {
        let mut table = self.table.lock();
        if let Some(holders) = table.holders.get_mut(&port) {
            holders.remove(socket);
            if holders.is_empty() {
                table.holders.remove(&port);
            }
        }
    }

    /// The sockets with a port.
    pub(crate) fn holders(&self, port: u16) -> Vec<Arc<T>> {
        let table = self.table.lock();
        table.holders.get(&port).into_iter().flat_map(Holders::iter).collect()
    }

    /// The sockets connected from `local` to `remote`.
    pub(crate) fn connected(&self, local: Endpoint, remote: Endpoint) -> Vec<Arc<T>> {
        let table = self.table.lock();
        table.holders.get(&local.port).into_iter().flat_map(|holders| holders.connected(local.ip, remote)).collect()
    }

    /// All sockets with ports.
    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        self.table.lock().holders.values().flat_map(Holders::iter).collect()
    }

    /// The receiver of a packet. Sockets that share the port with SO_REUSEPORT are selected by sender.
    pub(crate) fn find(&self, from: Endpoint, to: Endpoint) -> Option<Arc<T>> {
        self.table.lock().holders.get(&to.port)?.find(from, to.ip)
    }

    /// The listener for a connection request.
    pub(crate) fn find_listener(&self, from: Endpoint, to: Endpoint) -> Option<Arc<T>> {
        self.table.lock().holders.get(&to.port)?.find_open(from, to.ip, true)
    }
}

impl<T: Holder> Table<T> {
    fn find_free(&mut self, (first, last): (u16, u16)) -> Option<u16> {
        for _ in first..=last {
            let inside = (first..=last).contains(&self.next);
            let span = u32::from(last.saturating_sub(first)) + 1;
            let port = if inside { self.next } else { first.saturating_add((u32::from(self.next) % span) as u16) };
            self.next = if port >= last { first } else { port + 1 };
            if self.holders.get(&port).is_none_or(|holders| holders.iter().next().is_none()) {
                return Some(port);
            }
        }
        None
    }

    fn refile(&mut self, socket: &T, port: u16) {
        if let Some(holders) = self.holders.get_mut(&port) {
            holders.refile(socket);
        }
    }

    fn check(&self, claim: &Claim, port: u16, socket: &T) -> Result<(), Errno> {
        let free = self.holders.get(&port).is_none_or(|holders| !holders.conflict(claim, socket));
        if free { Ok(()) } else { Err(Errno::EADDRINUSE.here()) }
    }
}
