//! Sockets that nobody can reach any more because they lie in each other's queues (`SCM_RIGHTS`).

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use super::{State, UnixNames, UnixSocket};
use crate::fs::FileDescription;
use crate::net::inbox::Inbox;
use crate::net::socket::SocketFile;
use crate::net::stream::ByteStream;
use crate::sync::MutexGuard;

/// How many descriptors of sockets may be on their way before a sender looks for garbage.
const MANY: usize = 16_000;

/// How many sockets on their way are worth looking at for one that is closed.
const SHARE: usize = 64;

type Unread = (ByteStream, Inbox);

thread_local! {
    /// What is to be dropped by whoever of this thread began to drop; none while nobody does.
    static GRAVES: RefCell<Option<Vec<Unread>>> = const { RefCell::new(None) };
}

/// Drops what was in a socket's queues. That may close other sockets, and so on: they take turns here, so that a long
/// chain of them does not need a deep stack.
pub fn bury(unread: Unread) {
    let first = GRAVES.with_borrow_mut(|graves| match graves {
        Some(graves) => {
            graves.push(unread);
            None
        }
        None => {
            *graves = Some(Vec::new());
            Some(unread)
        }
    });
    let mut next = first;
    while let Some(unread) = next {
        drop(unread);
        next = GRAVES.with_borrow_mut(|graves| {
            let left = graves.as_mut().and_then(Vec::pop);
            if left.is_none() {
                *graves = None;
            }
            left
        });
    }
}

/// A socket was closed, which may make others unreachable: looks for them, but not for each of those that go together,
/// and the less often the more there are to look at.
pub fn socket_closed(names: &UnixNames) {
    let burying = GRAVES.with_borrow(Option::is_some);
    if names.sockets_in_flight() > 0 && names.owe(SHARE) >= names.sockets_in_flight() && !burying {
        collect(names);
    }
}

/// Looks for garbage if so many sockets are on their way that there may be much.
pub fn collect_if_many(names: &UnixNames) {
    if names.sockets_in_flight() > MANY {
        collect(names);
    }
}

/// Closes the sockets that are reachable from each other's queues alone.
fn collect(names: &UnixNames) {
    let Some(_one) = names.begin_collection() else { return };
    let garbage = unreachable(&names.all());
    let unread = take_unread(garbage);
    unread.into_iter().for_each(bury);
}

/// The socket behind an open file, if it is one of AF_UNIX.
pub fn socket_of(file: &FileDescription) -> Option<&UnixSocket> {
    file.downcast::<SocketFile>()?.socket().as_any().downcast_ref()
}

fn files(state: &State) -> impl Iterator<Item = &Arc<FileDescription>> {
    let packets = state.stream.inbox().packets().chain(state.messages.packets());
    packets.flat_map(|packet| packet.control.files.iter())
}

/// A socket whose descriptor is on its way.
struct Passenger {
    socket: Weak<UnixSocket>,
    file: Weak<FileDescription>,
    /// How often it lies in a queue.
    count: usize,
    /// Whose queues those are.
    holders: Vec<usize>,
}

fn address(socket: &UnixSocket) -> usize {
    std::ptr::from_ref(socket).addr()
}

/// Sockets that seem to be held by queues of each other alone. The queues are looked at one after another, so that this is
/// no more than a suspicion.
fn unreachable(all: &[Arc<UnixSocket>]) -> Vec<Arc<UnixSocket>> {
    // What lies in the queue of a socket that waits to be accepted is reached through the listener.
    let mut listeners = HashMap::new();
    for socket in all {
        let state = socket.state.lock();
        if let Some(listening) = &state.listening {
            listeners.extend(listening.waiting.iter().map(|end| (address(end), address(socket))));
        }
    }
    let mut passengers: HashMap<usize, Passenger> = HashMap::new();
    for holder in all {
        let key = address(holder);
        let key = listeners.get(&key).copied().unwrap_or(key);
        let state = holder.state.lock();
        for file in files(&state) {
            let Some(socket) = socket_of(file) else { continue };
            let passenger = passengers.entry(address(socket)).or_insert_with(|| Passenger {
                socket: socket.me.clone(),
                file: Arc::downgrade(file),
                count: 0,
                holders: Vec::new(),
            });
            passenger.count += 1;
            passenger.holders.push(key);
        }
    }
    let mut suspects: HashSet<usize> = passengers
        .iter()
        .filter(|(_, passenger)| passenger.file.strong_count() == passenger.count)
        .map(|(&key, _)| key)
        .collect();
    // Whoever lies in the queue of one that can be reached can be reached as well.
    loop {
        let reached: HashSet<usize> = suspects
            .iter()
            .filter(|key| passengers.get(key).is_none_or(|p| p.holders.iter().any(|h| !suspects.contains(h))))
            .copied()
            .collect();
        if reached.is_empty() {
            break;
        }
        suspects.retain(|key| !reached.contains(key));
    }
    suspects.iter().filter_map(|key| passengers.get(key)?.socket.upgrade()).collect()
}

/// Empties the queues of the sockets if, with all of those locked, it is sure that nothing else holds any of them.
fn take_unread(mut suspects: Vec<Arc<UnixSocket>>) -> Vec<Unread> {
    let waiting: Vec<_> = suspects
        .iter()
        .flat_map(|socket| {
            let state = socket.state.lock();
            state.listening.iter().flat_map(|listening| listening.waiting.iter().cloned()).collect::<Vec<_>>()
        })
        .collect();
    let named: HashSet<usize> = suspects.iter().map(|socket| address(socket)).collect();
    suspects.extend(waiting);
    // Nobody else holds two sockets' locks at once, and there is one collection at a time, so no circle can arise.
    let mut states: Vec<MutexGuard<'_, State>> = suspects.iter().map(|socket| socket.state.lock_beside()).collect();
    let mut counts: HashMap<usize, (usize, usize)> = HashMap::new();
    for file in states.iter().flat_map(|state| files(state)) {
        if let Some(socket) = socket_of(file) {
            let entry = counts.entry(address(socket)).or_insert((0, Arc::strong_count(file)));
            entry.0 += 1;
        }
    }
    let sure = named.iter().all(|key| counts.get(key).is_some_and(|(found, held)| found == held));
    if sure { states.iter_mut().map(|state| state.empty()).collect() } else { Vec::new() }
}
