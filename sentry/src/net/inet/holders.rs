//! The sockets of one port, indexed by their claims, so that the receiver of a packet is found among many.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Weak};

use super::ports::Holder;
use super::{Claim, Endpoint};

/// The sockets in one place receive the same packets.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    /// Connected, from this local address to the remote end.
    Connected(IpAddr, Endpoint),
    /// Not connected.
    Open { ip: IpAddr, v6_only: bool, listening: bool },
}

impl Place {
    fn of(claim: &Claim) -> Self {
        match claim.remote {
            Some(remote) => Place::Connected(claim.ip, remote),
            None => Place::Open { ip: claim.ip, v6_only: claim.v6_only, listening: claim.listening },
        }
    }
}

/// The sockets of one place.
struct Bucket<T> {
    members: Vec<(u64, Weak<T>)>,
    /// The position of each number in the list.
    at: BTreeMap<u64, usize>,
    /// The number of sockets that set SO_REUSEPORT.
    sharing: usize,
}

impl<T> Default for Bucket<T> {
    fn default() -> Self {
        Bucket { members: Vec::new(), at: BTreeMap::new(), sharing: 0 }
    }
}

impl<T> Bucket<T> {
    fn insert(&mut self, number: u64, socket: Weak<T>) {
        self.at.insert(number, self.members.len());
        self.members.push((number, socket));
    }

    fn remove(&mut self, number: u64) {
        let Some(at) = self.at.remove(&number) else { return };
        self.members.swap_remove(at);
        if let Some((moved, _)) = self.members.get(at) {
            self.at.insert(*moved, at);
        }
    }

    /// The latest socket that still exists.
    fn last(&self) -> Option<(u64, Arc<T>)> {
        let upgrade = |(&number, &at): (&u64, &usize)| Some((number, self.members.get(at)?.1.upgrade()?));
        self.at.iter().rev().find_map(upgrade)
    }
}

struct Filed {
    number: u64,
    claim: Claim,
}

/// The sockets of one port.
pub(super) struct Holders<T> {
    last: u64,
    all: BTreeMap<u64, Weak<T>>,
    filed: HashMap<usize, Filed>,
    buckets: HashMap<Place, Bucket<T>>,
    /// The number of sockets with each claim, without their remote end.
    claims: HashMap<Claim, usize>,
}

impl<T> Default for Holders<T> {
    fn default() -> Self {
        Holders {
            last: 0,
            all: BTreeMap::new(),
            filed: HashMap::new(),
            buckets: HashMap::new(),
            claims: HashMap::new(),
        }
    }
}

/// The identity of a socket while a reference to it is kept.
fn key<T>(socket: *const T) -> usize {
    socket.addr()
}

impl<T: Holder> Holders<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All sockets in order of insertion.
    pub(super) fn iter(&self) -> impl Iterator<Item = Arc<T>> {
        self.all.values().filter_map(Weak::upgrade)
    }

    pub(super) fn insert(&mut self, socket: &Arc<T>) {
        self.remove(socket);
        self.last += 1;
        self.all.insert(self.last, Arc::downgrade(socket));
        self.file(self.last, socket);
    }

    pub(super) fn remove(&mut self, socket: &T) {
        if let Some(number) = self.unfile(socket) {
            self.all.remove(&number);
        }
    }

    /// Updates the index after a socket's claim has changed.
    pub(super) fn refile(&mut self, socket: &T) {
        if let Some(number) = self.unfile(socket) {
            self.file(number, socket);
        }
    }

    fn file(&mut self, number: u64, socket: &T) {
        let Some(weak) = self.all.get(&number).cloned() else { return };
        let claim = socket.claim();
        let bucket = self.buckets.entry(Place::of(&claim)).or_default();
        bucket.insert(number, weak);
        bucket.sharing += usize::from(claim.reuse_port);
        *self.claims.entry(Claim { remote: None, ..claim }).or_default() += 1;
        self.filed.insert(key(socket), Filed { number, claim });
    }

    fn unfile(&mut self, socket: &T) -> Option<u64> {
        let Filed { number, claim } = self.filed.remove(&key(socket))?;
        let place = Place::of(&claim);
        if let Some(bucket) = self.buckets.get_mut(&place) {
            bucket.remove(number);
            bucket.sharing -= usize::from(claim.reuse_port);
            if bucket.members.is_empty() {
                self.buckets.remove(&place);
            }
        }
        if let Entry::Occupied(mut count) = self.claims.entry(Claim { remote: None, ..claim }) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        Some(number)
    }

    /// Whether the claim conflicts with that of another socket.
    pub(super) fn conflict(&self, claim: &Claim, socket: &T) -> bool {
        let own = self.filed.get(&key(socket)).map(|filed| Claim { remote: None, ..filed.claim });
        let others = self.claims.iter().filter(|&(other, &count)| count > usize::from(own == Some(*other)));
        others.into_iter().any(|(other, _)| claim.conflicts(other))
    }

    /// The sockets connected from `ip` to `remote`.
    pub(super) fn connected(&self, ip: IpAddr, remote: Endpoint) -> impl Iterator<Item = Arc<T>> {
        let bucket = self.buckets.get(&Place::Connected(ip, remote));
        bucket.into_iter().flat_map(|bucket| &bucket.members).filter_map(|(_, socket)| socket.upgrade())
    }

    /// The receiver of a packet: a socket connected to its sender, or else an unconnected one.
    pub(super) fn find(&self, from: Endpoint, to: IpAddr) -> Option<Arc<T>> {
        self.choose(from, &[Place::Connected(to, from)]).or_else(|| self.find_open(from, to, false))
    }

    /// The receiver of a packet among unconnected sockets. A specific address takes precedence over all addresses of
    /// one family, and these over all of both families.
    pub(super) fn find_open(&self, from: Endpoint, to: IpAddr, listening: bool) -> Option<Arc<T>> {
        let place = |ip, v6_only| Place::Open { ip, v6_only, listening };
        let (any4, any6) = (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
        let exact = self.choose(from, &[place(to, false), place(to, true)]);
        if to.is_ipv4() {
            let other = || self.choose(from, &[place(any4, false), place(any4, true)]);
            exact.or_else(other).or_else(|| self.choose(from, &[place(any6, false)]))
        } else {
            exact.or_else(|| self.choose(from, &[place(any6, false), place(any6, true)]))
        }
    }

    /// Selects a socket of several equivalent places.
    fn choose(&self, from: Endpoint, places: &[Place]) -> Option<Arc<T>> {
        let buckets = || places.iter().filter_map(|place| self.buckets.get(place));
        let count: usize = buckets().map(|bucket| bucket.members.len()).sum();
        if count > 0 && count == buckets().map(|bucket| bucket.sharing).sum::<usize>() {
            // Any hash will do, as long as packets of one sender always reach the same socket.
            let mixed = usize::from(from.port).wrapping_mul(0x9e37_79b1) >> 7;
            let found = buckets().flat_map(|bucket| &bucket.members).nth(mixed % count);
            if let Some(socket) = found.and_then(|(_, socket)| socket.upgrade()) {
                return Some(socket);
            }
        }
        // Without SO_REUSEPORT, the latest socket receives everything.
        buckets().filter_map(Bucket::last).max_by_key(|(number, _)| *number).map(|(_, socket)| socket)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use parking_lot::Mutex;

    use super::*;

    /// A socket that counts calls of [`Holder::claim`].
    struct Fake {
        ip: IpAddr,
        remote: Mutex<Option<Endpoint>>,
        reuse_port: bool,
        asked: AtomicUsize,
    }

    impl Holder for Fake {
        fn claim(&self) -> Claim {
            self.asked.fetch_add(1, Ordering::Relaxed);
            Claim {
                ip: self.ip,
                v6_only: false,
                reuse_address: true,
                reuse_port: self.reuse_port,
                listening: false,
                uid: 0,
                remote: *self.remote.lock(),
            }
        }
    }

    fn fake(ip: &str, remote: Option<Endpoint>, reuse_port: bool) -> Arc<Fake> {
        let asked = AtomicUsize::new(0);
        Arc::new(Fake { ip: ip.parse().unwrap(), remote: Mutex::new(remote), reuse_port, asked })
    }

    fn end(port: u16) -> Endpoint {
        Endpoint { ip: Ipv4Addr::LOCALHOST.into(), port }
    }

    #[test]
    fn the_best_fit_gets_a_packet() {
        let mut holders = Holders::default();
        let all6 = fake("::", None, false);
        let all4 = fake("0.0.0.0", None, false);
        let own = fake("127.0.0.1", None, false);
        let peer = fake("127.0.0.1", Some(end(9)), false);
        let found = |holders: &Holders<Fake>, port| holders.find(end(port), end(1).ip);
        let is = |found: Option<Arc<Fake>>, socket: &Arc<Fake>| found.is_some_and(|found| Arc::ptr_eq(&found, socket));
        for (socket, port) in [(&all6, 9), (&all4, 9), (&own, 9), (&peer, 9)] {
            holders.insert(socket);
            assert!(is(found(&holders, port), socket));
        }
        assert!(is(found(&holders, 8), &own));
        *own.remote.lock() = Some(end(7));
        holders.refile(&own);
        assert!(is(found(&holders, 8), &all4));
        assert!(is(found(&holders, 7), &own));
        let later = fake("0.0.0.0", None, false);
        holders.insert(&later);
        assert!(is(found(&holders, 8), &later));
        [&all6, &all4, &own, &peer, &later].iter().for_each(|socket| holders.remove(socket));
        assert!(holders.is_empty() && holders.buckets.is_empty() && holders.filed.is_empty());
    }

    #[test]
    fn many_on_one_port_are_not_asked() {
        let mut holders = Holders::default();
        let connected: Vec<_> = (1..=5000).map(|port| fake("127.0.0.1", Some(end(port)), false)).collect();
        let sharing: Vec<_> = (0..1000).map(|_| fake("0.0.0.0", None, true)).collect();
        connected.iter().chain(&sharing).for_each(|socket| holders.insert(socket));
        for port in 1..=6000 {
            let found = holders.find(end(port), end(1).ip).unwrap();
            assert_eq!(found.remote.lock().is_some(), port <= 5000);
            assert!(Arc::ptr_eq(&found, &holders.find(end(port), end(1).ip).unwrap()), "one sender, one receiver");
        }
        let claim = *holders.claims.keys().find(|claim| claim.reuse_port).unwrap();
        assert!(!holders.conflict(&claim, &sharing[0]));
        assert!(holders.conflict(&Claim { reuse_address: false, ..claim }, &sharing[0]));
        assert!(connected.iter().chain(&sharing).all(|socket| socket.asked.load(Ordering::Relaxed) == 1));
        connected.iter().chain(&sharing).for_each(|socket| holders.remove(socket));
        assert!(holders.is_empty());
    }
}
