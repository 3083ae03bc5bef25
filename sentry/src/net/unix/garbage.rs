//! Sockets that nobody can reach any more because they lie in each other's queues (`SCM_RIGHTS`).

use std::cell::RefCell;
use std::time::Duration;

use super::{UnixNames, UnixSocket};
use crate::interruption;
use crate::net::receive_queue::ReceiveQueue;
use crate::net::socket::SocketFile;
use crate::net::stream::ByteStream;
use crate::vfs::FileDescription;

/// How many descriptors of sockets may be on their way before a sender looks for garbage.
const MANY: usize = 16_000;

/// How often a thread that waits for another's collection checks whether to stop waiting.
const PATIENCE: Duration = Duration::from_millis(10);

/// How many sockets on their way are worth looking at for one that is closed, or sent beyond [`MANY`].
const SHARE: usize = 64;

type Unread = (ByteStream, ReceiveQueue);

thread_local! {
    /// What is to be dropped by whoever of this thread began to drop; none while nobody does.
    static PENDING_CLOSE: RefCell<Option<Vec<Unread>>> = const { RefCell::new(None) };
}

/// Drops what was in a socket's queues. That may close other sockets, and so on: they take turns here, so that a long
/// chain of them does not need a deep stack.
pub fn bury(unread: Unread) {
    let first = PENDING_CLOSE.with_borrow_mut(|pending| match pending {
        Some(pending) => {
            pending.push(unread);
            None
        }
        None => {
            *pending = Some(Vec::new());
            Some(unread)
        }
    });
    let mut next = first;
    while let Some(unread) = next {
        drop(unread);
        next = PENDING_CLOSE.with_borrow_mut(|pending| {
            let left = pending.as_mut().and_then(Vec::pop);
            if left.is_none() {
                *pending = None;
            }
            left
        });
    }
}

/// A socket was closed, which may make others unreachable: looks for them, but not for each of those that go together,
/// and the less often the more there are to look at. A task that was killed leaves that to its end.
pub fn socket_closed(names: &UnixNames) {
    if PENDING_CLOSE.with_borrow(Option::is_none) && names.graph().may_have_cycles() {
        names.ask_for_collection();
        if !interruption::is_killed() {
            collect_if_due(names, names.graph().search_cost());
        }
    }
}

/// Descriptors are sent: looks for garbage now and then if so many sockets are on their way that there may be much.
pub fn collect_if_many(names: &UnixNames) {
    if names.graph().places() > MANY && names.graph().may_have_cycles() {
        names.ask_for_collection();
        collect_if_due(names, names.graph().places());
    }
}

/// Closes the sockets that are reachable from each other's queues alone, if looking at all of them has been paid for.
fn collect_if_due(names: &UnixNames, cost: usize) {
    if names.owe(SHARE) >= cost {
        collect(names, Duration::ZERO, interruption::is_killed);
    }
}

/// Closes the sockets that are reachable from each other's queues alone, if somebody asked for that. False if that did
/// not come to an end: `interrupted` said to stop, or somebody else does it for longer than `patience`.
fn collect(names: &UnixNames, patience: Duration, interrupted: impl Fn() -> bool) -> bool {
    // The last may have been asked for just when the thread that collects thought it was done.
    while names.is_collection_asked() {
        let Some(_one) = names.begin_collection(patience) else { return false };
        loop {
            // A search that others left unfinished may have passed what is to be found now.
            if !names.graph().is_searching() {
                if !names.answer_request() {
                    break;
                }
                names.graph().begin_search(names.next_id());
            }
            let Some(dead) = names.graph().unreachable(&interrupted) else {
                names.ask_for_collection();
                return false;
            };
            names.settle();
            for socket in dead {
                if let Some(socket) = socket.upgrade() {
                    empty(&socket);
                }
            }
        }
    }
    true
}

impl UnixNames {
    /// Called when a task has released its descriptors; `alone` if no other task shares them. Closes the sockets that
    /// have become unreachable, until `over` returns true.
    pub fn descriptors_released(&self, alone: bool, over: impl Fn() -> bool) {
        if !self.graph().may_have_cycles() {
            return;
        }
        if alone {
            // Closing the descriptor of a socket that lies in a queue does not close the socket.
            self.ask_for_collection();
        }
        collect(self, Duration::ZERO, over);
    }

    /// Closes unreachable sockets when memory is short, until `interrupted` returns true. Waits for a collection of
    /// another thread; no lock may be held. Returns false if the collection is incomplete.
    pub fn reclaim(&self, interrupted: impl Fn() -> bool) -> bool {
        if !self.graph().may_have_cycles() {
            return true;
        }
        self.ask_for_collection();
        loop {
            if collect(self, PATIENCE, &interrupted) {
                return true;
            }
            if interrupted() {
                return false;
            }
        }
    }
}

/// Drops what lies in the queues of a socket that nobody can reach, and of those that wait there to be accepted.
fn empty(socket: &UnixSocket) {
    let (unread, waiting) = {
        let mut state = socket.state.lock();
        let waiting: Vec<_> = state.listening.iter().flat_map(|listening| listening.waiting.iter().cloned()).collect();
        (state.empty(), waiting)
    };
    bury(unread);
    for end in waiting {
        let unread = end.state.lock().empty();
        bury(unread);
    }
}

/// The socket behind an open file, if it is one of AF_UNIX.
pub fn socket_of(file: &FileDescription) -> Option<&UnixSocket> {
    file.downcast::<SocketFile>()?.socket().as_any().downcast_ref()
}
