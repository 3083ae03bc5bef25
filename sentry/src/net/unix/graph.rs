//! The graph of AF_UNIX sockets in each other's queues (`SCM_RIGHTS`), and the search for unreachable ones.
//!
//! The search marks reachable sockets from a work list, in slices between which the lock is released. Concurrent
//! changes mark as well: a socket that enters or leaves a queue, or is peeked at in one, counts as reached. A socket
//! that is unmarked at the end was therefore unreachable when the search visited it, and cannot have become reachable
//! since.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use super::UnixSocket;
use crate::sync::{Mutex, Rank};
use crate::vfs::FileDescription;

/// The number of sockets visited with one acquisition of the lock.
const SLICE: usize = 1024;

/// The sockets in queues, and the sockets that have these queues, by number.
pub(super) struct Graph {
    state: Mutex<State>,
    /// The number of socket descriptors in queues.
    places: AtomicUsize,
    /// The number of distinct pairs of a socket and one whose queue it is in, which a search visits.
    edges: AtomicUsize,
}

#[derive(Default)]
struct State {
    passengers: BTreeMap<u64, Passenger>,
    holders: BTreeMap<u64, Holder>,
    /// Whether a socket was put into the queue of one that was in a queue itself. Otherwise there is no cycle.
    maybe_cyclic: bool,
    search: Option<Search>,
    /// The number of the last search.
    round: u64,
}

/// A socket in queues.
struct Passenger {
    socket: Weak<UnixSocket>,
    file: Weak<FileDescription>,
    /// The number of its descriptors in queues.
    places: usize,
    /// The last search that reached it.
    reached: u64,
}

/// A socket with others in its queue, or a listener with such sockets waiting to be accepted.
#[derive(Default)]
struct Holder {
    load: HashMap<u64, usize>,
    /// The listener through which alone it is reachable.
    listener: Option<u64>,
    /// Sockets that wait to be accepted here and have others in their queues.
    waiting: HashSet<u64>,
    reached: u64,
}

/// A search in progress.
struct Search {
    round: u64,
    /// The highest number when it began; newer sockets count as reached.
    last: u64,
    stage: Stage,
    /// The lowest number that this stage has not visited.
    next: u64,
    /// Reached sockets whose queues were not visited yet.
    reached: Vec<u64>,
    dead: Vec<Weak<UnixSocket>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    /// Finds holders that are in no queue.
    Holders,
    /// Finds passengers with references outside of queues.
    Passengers,
    /// Collects sockets that were not reached.
    Dead,
}

impl Default for Graph {
    fn default() -> Self {
        Graph {
            state: Mutex::new(Rank::Leaf, State::default()),
            places: AtomicUsize::new(0),
            edges: AtomicUsize::new(0),
        }
    }
}

impl Graph {
    /// The number of socket descriptors in queues.
    pub(super) fn places(&self) -> usize {
        self.places.load(Ordering::Relaxed)
    }

    /// The approximate cost of a search.
    pub(super) fn search_cost(&self) -> usize {
        self.edges.load(Ordering::Relaxed)
    }

    /// Whether sockets may be referenced only by each other's queues.
    pub(super) fn may_have_cycles(&self) -> bool {
        self.places() > 0 && self.state.lock().maybe_cyclic
    }

    fn enter(&self, holder: u64, listener: Option<u64>, travellers: &[Traveller]) {
        let mut state = self.state.lock();
        self.places.fetch_add(travellers.len(), Ordering::Relaxed);
        if let Some(listener) = listener {
            state.holders.entry(listener).or_default().waiting.insert(holder);
        }
        let entry = state.holders.entry(holder).or_default();
        entry.listener = listener;
        let known = entry.load.len();
        for traveller in travellers {
            *entry.load.entry(traveller.id).or_insert(0) += 1;
        }
        self.edges.fetch_add(entry.load.len() - known, Ordering::Relaxed);
        for traveller in travellers {
            let passenger = state.passengers.entry(traveller.id).or_insert_with(|| Passenger {
                socket: traveller.socket.clone(),
                file: traveller.file.clone(),
                places: 0,
                reached: 0,
            });
            passenger.places += 1;
            state.reach(traveller.id);
        }
        let through = listener.unwrap_or(holder);
        state.maybe_cyclic |= state.passengers.contains_key(&through);
    }

    fn leave(&self, holder: u64, travellers: &[Traveller]) {
        let mut state = self.state.lock();
        self.places.fetch_sub(travellers.len(), Ordering::Relaxed);
        state.reach(holder);
        for traveller in travellers {
            state.reach(traveller.id);
            if let Some(passenger) = state.passengers.get_mut(&traveller.id) {
                passenger.places -= 1;
                if passenger.places == 0 {
                    state.passengers.remove(&traveller.id);
                }
            }
            if let Some(entry) = state.holders.get_mut(&holder)
                && let Some(count) = entry.load.get_mut(&traveller.id)
            {
                *count -= 1;
                if *count == 0 {
                    entry.load.remove(&traveller.id);
                    self.edges.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
        if state.holders.get(&holder).is_some_and(|entry| entry.load.is_empty()) {
            state.detach(holder);
            state.forget_if_idle(holder);
        }
        state.maybe_cyclic &= !state.passengers.is_empty();
    }

    fn look(&self, holder: u64, travellers: &[Traveller]) {
        let mut state = self.state.lock();
        state.reach(holder);
        travellers.iter().for_each(|traveller| state.reach(traveller.id));
    }

    /// Notes that a socket that waited at a listener was accepted.
    pub(super) fn accepted(&self, socket: u64) {
        if self.places() > 0 {
            let mut state = self.state.lock();
            state.detach(socket);
            state.reach(socket);
        }
    }

    /// Whether a search is in progress or was left unfinished.
    pub(super) fn is_searching(&self) -> bool {
        self.state.lock().search.is_some()
    }

    /// Begins a search; there is one at a time. `last` is the highest number of a socket.
    pub(super) fn begin_search(&self, last: u64) {
        self.state.lock().begin(last);
    }

    /// Continues the search. Returns the sockets that are referenced only by each other's queues; none if `interrupted`
    /// returned true, which leaves the search unfinished.
    pub(super) fn unreachable(&self, interrupted: impl Fn() -> bool) -> Option<Vec<Weak<UnixSocket>>> {
        loop {
            let mut state = self.state.lock();
            if state.step() {
                return Some(state.search.take().map(|search| search.dead).unwrap_or_default());
            }
            drop(state);
            if interrupted() {
                return None;
            }
        }
    }
}

impl State {
    /// Marks a socket and adds its queue to the work list, if a search is in progress.
    fn reach(&mut self, id: u64) {
        let Some(search) = &mut self.search else { return };
        let marks = [
            self.passengers.get_mut(&id).map(|passenger| &mut passenger.reached),
            self.holders.get_mut(&id).map(|holder| &mut holder.reached),
        ];
        let mut new = false;
        for mark in marks.into_iter().flatten() {
            new |= std::mem::replace(mark, search.round) != search.round;
        }
        if new {
            search.reached.push(id);
        }
    }

    /// Notes that a holder is no longer reachable through its listener.
    fn detach(&mut self, holder: u64) {
        let Some(listener) = self.holders.get_mut(&holder).and_then(|entry| entry.listener.take()) else { return };
        if let Some(entry) = self.holders.get_mut(&listener) {
            entry.waiting.remove(&holder);
        }
        self.forget_if_idle(listener);
    }

    fn forget_if_idle(&mut self, holder: u64) {
        if self.holders.get(&holder).is_some_and(|entry| entry.load.is_empty() && entry.waiting.is_empty()) {
            self.holders.remove(&holder);
        }
    }

    fn begin(&mut self, last: u64) {
        self.round += 1;
        self.search = Some(Search {
            round: self.round,
            last,
            stage: Stage::Holders,
            next: 0,
            reached: Vec::new(),
            dead: Vec::new(),
        });
    }

    /// Runs a slice of the search. Returns true at its end.
    fn step(&mut self) -> bool {
        for _ in 0..SLICE {
            let Some(search) = &mut self.search else { return true };
            if let Some(id) = search.reached.pop() {
                self.reach_load(id);
                continue;
            }
            let range = search.next..=search.last;
            let found = match search.stage {
                Stage::Holders => self.holders.range(range).next().map(|(&id, holder)| {
                    let through = holder.listener.unwrap_or(id);
                    (id, !self.passengers.contains_key(&through))
                }),
                Stage::Passengers => self
                    .passengers
                    .range(range)
                    .next()
                    .map(|(&id, passenger)| (id, passenger.file.strong_count() != passenger.places)),
                Stage::Dead => self.passengers.range(range).next().map(|(&id, passenger)| {
                    if passenger.reached != search.round {
                        search.dead.push(passenger.socket.clone());
                    }
                    (id, false)
                }),
            };
            match (found, search.stage) {
                (Some((id, reached)), _) => {
                    search.next = id + 1;
                    if reached {
                        self.reach(id);
                    }
                }
                (None, Stage::Holders) => (search.stage, search.next) = (Stage::Passengers, 0),
                (None, Stage::Passengers) => (search.stage, search.next) = (Stage::Dead, 0),
                (None, Stage::Dead) => return true,
            }
        }
        false
    }

    /// Marks the sockets in a socket's queue, and those that wait there to be accepted.
    fn reach_load(&mut self, id: u64) {
        let Some(holder) = self.holders.get(&id) else { return };
        let inside: Vec<u64> = holder.load.keys().chain(&holder.waiting).copied().collect();
        inside.into_iter().for_each(|id| self.reach(id));
    }
}

/// A socket that is passed with a message.
struct Traveller {
    id: u64,
    socket: Weak<UnixSocket>,
    file: Weak<FileDescription>,
}

/// The sockets whose descriptors are passed with a message.
pub(crate) struct SocketsInFlight {
    graph: Arc<Graph>,
    travellers: Vec<Traveller>,
    /// The socket whose queue the message is in; 0 if none.
    holder: AtomicU64,
}

impl SocketsInFlight {
    /// The sockets of this family among the files.
    pub(super) fn among(files: &[Arc<FileDescription>], graph: &Arc<Graph>) -> Self {
        let travellers = files.iter().filter_map(|file| {
            let socket = super::garbage::socket_of(file)?;
            Some(Traveller { id: socket.id, socket: socket.me.clone(), file: Arc::downgrade(file) })
        });
        SocketsInFlight { graph: graph.clone(), travellers: travellers.collect(), holder: AtomicU64::new(0) }
    }

    /// Notes that the message enters the queue of `holder`, whose lock is held. The socket may be waiting to be
    /// accepted at `listener`.
    pub(crate) fn enter(&self, holder: u64, listener: Option<u64>) {
        if !self.travellers.is_empty() {
            self.holder.store(holder, Ordering::Relaxed);
            self.graph.enter(holder, listener, &self.travellers);
        }
    }

    /// Notes that the message leaves the queue, whose lock is held.
    pub(crate) fn leave(&self) {
        if !self.travellers.is_empty() {
            let holder = self.holder.swap(0, Ordering::Relaxed);
            if holder != 0 {
                self.graph.leave(holder, &self.travellers);
            }
        }
    }

    /// Notes that the message's files are copied by a peek, under the queue's lock.
    pub(crate) fn look(&self) {
        if !self.travellers.is_empty() {
            self.graph.look(self.holder.load(Ordering::Relaxed), &self.travellers);
        }
    }
}

impl Drop for SocketsInFlight {
    fn drop(&mut self) {
        self.leave();
    }
}
