//! Sockets that nobody can reach any more because they lie in each other's queues (`SCM_RIGHTS`).

use std::cell::RefCell;

use super::{UnixNames, UnixSocket};
use crate::net::receive_queue::ReceiveQueue;
use crate::net::socket::SocketFile;
use crate::net::stream::ByteStream;
use crate::vfs::FileDescription;

/// How many descriptors of sockets may be on their way before a sender looks for garbage.
const MANY: usize = 16_000;

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
/// and the less often the more there are to look at.
pub fn socket_closed(names: &UnixNames) {
    if PENDING_CLOSE.with_borrow(Option::is_none) {
        collect_if_due(names);
    }
}

/// Descriptors are sent: looks for garbage now and then if so many sockets are on their way that there may be much.
pub fn collect_if_many(names: &UnixNames) {
    if names.graph().places() > MANY {
        collect_if_due(names);
    }
}

/// Closes the sockets that are reachable from each other's queues alone, if looking at all of them has been paid for.
fn collect_if_due(names: &UnixNames) {
    if !names.graph().may_have_cycles() || names.owe(SHARE) < names.graph().places() {
        return;
    }
    let Some(_one) = names.begin_collection() else { return };
    let task = crate::task::current();
    let interrupted = || task.as_ref().is_some_and(|task| task.is_killed());
    let Some(dead) = names.graph().unreachable(names.next_id(), interrupted) else { return };
    names.settle();
    for socket in dead {
        if let Some(socket) = socket.upgrade() {
            empty(&socket);
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
