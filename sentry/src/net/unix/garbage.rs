//! Garbage collection of AF_UNIX sockets that are referenced only by each other's queues (`SCM_RIGHTS`).

use std::cell::RefCell;
use std::time::Duration;

use super::{UnixNames, UnixSocket};
use crate::interruption;
use crate::net::receive_queue::ReceiveQueue;
use crate::net::socket::SocketFile;
use crate::net::stream::ByteStream;
use crate::vfs::FileDescription;

/// The number of socket descriptors in flight above which a send triggers a collection.
const MANY: usize = 16_000;

/// The interval at which a thread that waits for another's collection checks for an interruption.
const PATIENCE: Duration = Duration::from_millis(10);

/// The number of sockets whose visit is paid for by each close, or send above [`MANY`].
const SHARE: usize = 64;

type Unread = (ByteStream, ReceiveQueue);

thread_local! {
    /// The queues to be dropped by the outermost [`bury`] of this thread; none outside of it.
    static PENDING_CLOSE: RefCell<Option<Vec<Unread>>> = const { RefCell::new(None) };
}

/// Drops the contents of a socket's queues. This may close other sockets, and so on; a list instead of recursion keeps
/// the stack small.
pub(super) fn bury(unread: Unread) {
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

/// Called when a socket was closed, which may make others unreachable. Triggers a collection, but not for sockets
/// closed by another, and less often the more there are to visit. A killed task leaves this to its exit.
pub(super) fn socket_closed(names: &UnixNames) {
    if PENDING_CLOSE.with_borrow(Option::is_none) && names.graph().may_have_cycles() {
        names.ask_for_collection();
        if !interruption::is_killed() {
            collect_if_due(names, names.graph().search_cost());
        }
    }
}

/// Called when descriptors are sent. Triggers a collection now and then if many sockets are in flight.
pub(super) fn collect_if_many(names: &UnixNames) {
    if names.graph().places() > MANY && names.graph().may_have_cycles() {
        names.ask_for_collection();
        collect_if_due(names, names.graph().places());
    }
}

/// Closes sockets that are referenced only by each other's queues, if the cost of a search is paid for.
fn collect_if_due(names: &UnixNames, cost: usize) {
    if names.owe(SHARE) >= cost {
        collect(names, Duration::ZERO, interruption::is_killed);
    }
}

/// Closes sockets that are referenced only by each other's queues, if a collection was requested. Returns false if it
/// is incomplete: `interrupted` returned true, or another thread's collection took longer than `patience`.
fn collect(names: &UnixNames, patience: Duration, interrupted: impl Fn() -> bool) -> bool {
    // A request may arrive just when the collecting thread has finished.
    while names.is_collection_asked() {
        let Some(_one) = names.begin_collection(patience) else { return false };
        loop {
            // A search that another thread left unfinished may have passed what became unreachable since.
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
    pub(crate) fn descriptors_released(&self, alone: bool, over: impl Fn() -> bool) {
        if !self.graph().may_have_cycles() {
            return;
        }
        if alone {
            // Closing the descriptor of a socket that is also in a queue does not close the socket.
            self.ask_for_collection();
        }
        collect(self, Duration::ZERO, over);
    }

    /// Closes unreachable sockets when memory is short, until `interrupted` returns true. Waits for a collection of
    /// another thread; no lock may be held. Returns false if the collection is incomplete.
    pub(crate) fn reclaim(&self, interrupted: impl Fn() -> bool) -> bool {
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

/// Drops the contents of the queues of an unreachable socket, and of connections that wait there to be accepted.
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

/// The socket of an open file, if it is an AF_UNIX socket.
pub(super) fn socket_of(file: &FileDescription) -> Option<&UnixSocket> {
    file.downcast::<SocketFile>()?.socket().as_any().downcast_ref()
}
