//! Message queues: see msgop(2) and msgctl(2).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_platform::GuestMemory;

use super::ids::{Ids, Object, Permissions};
use super::limits::Limits;
use super::{OBJECT_BYTES, now};
use crate::credentials::Credentials;
use crate::sync::{Mutex, MutexGuard, Rank};
use crate::wait::WaitQueue;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The type, which is positive.
    pub kind: i64,
    /// The text.
    pub text: Vec<u8>,
}

/// The message that msgrcv(2) selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// The first.
    First,
    /// The first of a type.
    Of(i64),
    /// The first of another type.
    Except(i64),
    /// The first of the lowest type up to this one.
    UpTo(i64),
    /// A copy of the one at this index (`MSG_COPY`).
    Copy(i64),
}

impl Selection {
    /// Whether a message of this type is selected.
    fn takes(self, kind: i64) -> bool {
        match self {
            Selection::First | Selection::Copy(_) => true,
            Selection::Of(wanted) => kind == wanted,
            Selection::Except(unwanted) => kind != unwanted,
            Selection::UpTo(most) => kind <= most,
        }
    }
}

/// A message queue.
pub(crate) struct MessageQueue {
    permissions: Permissions,
    /// By sequence number, in the order of sending.
    messages: BTreeMap<u64, Message>,
    last: u64,
    /// The sequence numbers by type, and the first of each type.
    by_kind: BTreeMap<i64, VecDeque<u64>>,
    firsts: BTreeMap<u64, i64>,
    /// Bytes in the queue (`msg_cbytes`).
    pub bytes: u64,
    /// Bytes that the queue takes (`msg_qbytes`).
    pub most_bytes: u64,
    /// Process ID of the last msgsnd(2), or 0.
    pub sender: i32,
    /// Process ID of the last msgrcv(2), or 0.
    pub receiver: i32,
    /// Time of the last msgsnd(2) in seconds since the epoch, or 0.
    pub sent_at: i64,
    /// Time of the last msgrcv(2), likewise.
    pub received_at: i64,
    /// Time of the creation or the last change.
    pub changed_at: i64,
    /// Notified of room for messages, changed permissions and the removal.
    changed: Arc<WaitQueue>,
    /// Waiting callers of msgrcv(2), in order.
    receivers: BTreeMap<u64, Waiting>,
    last_receiver: u64,
}

/// A waiting caller of msgrcv(2).
struct Waiting {
    selection: Selection,
    queue: Arc<WaitQueue>,
    /// Notified of a message, and has not checked for it since.
    notified: bool,
}

/// A caller's registration among the receivers.
pub(crate) struct Receiver {
    number: u64,
    queue: Arc<WaitQueue>,
}

impl Receiver {
    /// Notified when a selected message may be present.
    pub(crate) fn queue(&self) -> &WaitQueue {
        &self.queue
    }
}

impl Object for MessageQueue {
    fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    fn permissions_mut(&mut self) -> &mut Permissions {
        &mut self.permissions
    }
}

impl MessageQueue {
    /// Number of messages.
    pub(crate) fn count(&self) -> u64 {
        self.messages.len() as u64
    }

    /// The wait queue of senders.
    pub(crate) fn queue(&self) -> Arc<WaitQueue> {
        self.changed.clone()
    }

    /// Registers a waiting receiver, until [`leave`](Self::leave).
    pub(crate) fn receiver(&mut self, selection: Selection) -> Receiver {
        self.last_receiver += 1;
        let (number, queue) = (self.last_receiver, Arc::new(WaitQueue::new()));
        self.receivers.insert(number, Waiting { selection, queue: queue.clone(), notified: false });
        Receiver { number, queue }
    }

    /// Called before a receiver checks for its message: the next message may notify it again.
    pub(crate) fn begin_check(&mut self, receiver: &Receiver) {
        if let Some(waiting) = self.receivers.get_mut(&receiver.number) {
            waiting.notified = false;
        }
    }

    /// Removes a receiver whose wait has ended. It may not have taken the message it was notified of, so this returns
    /// the queue of another receiver to notify.
    pub(crate) fn leave(&mut self, receiver: &Receiver) -> Option<Arc<WaitQueue>> {
        self.receivers.remove(&receiver.number);
        if self.messages.is_empty() {
            return None;
        }
        self.choose(|messages, selection| messages.find(selection).is_some())
    }

    /// The queue to notify of a new message of this type: that of the first receiver that selects it and is not
    /// notified already.
    pub(crate) fn receiver_for(&mut self, kind: i64) -> Option<Arc<WaitQueue>> {
        self.choose(|_, selection| selection.takes(kind))
    }

    fn choose(&mut self, selects: impl Fn(&Self, Selection) -> bool) -> Option<Arc<WaitQueue>> {
        let waits = |waiting: &Waiting| !waiting.notified && selects(self, waiting.selection);
        let number = self.receivers.iter().find(|(_, waiting)| waits(waiting)).map(|(&number, _)| number)?;
        let waiting = self.receivers.get_mut(&number)?;
        waiting.notified = true;
        Some(waiting.queue.clone())
    }

    /// The queues of all waiting receivers and senders.
    pub(crate) fn all_queues(&self) -> Vec<Arc<WaitQueue>> {
        self.receivers.values().map(|waiting| &waiting.queue).chain([&self.changed]).cloned().collect()
    }

    /// Appends a message, or returns it if there is no room.
    ///
    /// # Errors
    /// The message, if there is no room.
    pub(crate) fn push(&mut self, message: Message, sender: i32) -> Result<(), Message> {
        let len = message.text.len() as u64;
        if self.bytes + len > self.most_bytes || self.count() + 1 > self.most_bytes {
            return Err(message);
        }
        self.bytes += len;
        self.last += 1;
        let numbers = self.by_kind.entry(message.kind).or_default();
        if numbers.is_empty() {
            self.firsts.insert(self.last, message.kind);
        }
        numbers.push_back(self.last);
        self.messages.insert(self.last, message);
        (self.sender, self.sent_at) = (sender, now());
        Ok(())
    }

    /// The sequence number of the selected message. Except for a copy, it is the first of its type.
    fn find(&self, selection: Selection) -> Option<u64> {
        let first = |numbers: &VecDeque<u64>| numbers.front().copied();
        match selection {
            Selection::First => self.messages.first_key_value().map(|(&number, _)| number),
            Selection::Of(kind) => self.by_kind.get(&kind).and_then(first),
            Selection::Except(kind) => self.firsts.iter().find(|&(_, &k)| k != kind).map(|(&number, _)| number),
            Selection::UpTo(most) => self.by_kind.range(..=most).next().and_then(|(_, numbers)| first(numbers)),
            Selection::Copy(place) => {
                usize::try_from(place).ok().and_then(|place| self.messages.keys().nth(place).copied())
            }
        }
    }

    /// Removes a message that is the first of its type.
    fn remove(&mut self, number: u64) -> Option<Message> {
        let message = self.messages.remove(&number)?;
        self.firsts.remove(&number);
        if let Entry::Occupied(mut numbers) = self.by_kind.entry(message.kind) {
            numbers.get_mut().pop_front();
            match numbers.get().front() {
                Some(&next) => drop(self.firsts.insert(next, message.kind)),
                None => drop(numbers.remove()),
            }
        }
        self.bytes = self.bytes.saturating_sub(message.text.len() as u64);
        Some(message)
    }

    /// Takes the selected message, if there is one. With `cut`, a message longer than `most` is truncated.
    ///
    /// # Errors
    /// `E2BIG` if the message is longer and may not be truncated.
    pub(crate) fn take(
        &mut self,
        selection: Selection,
        most: usize,
        cut: bool,
        receiver: i32,
    ) -> Result<Option<Message>, Errno> {
        let Some(at) = self.find(selection) else { return Ok(None) };
        let Some(found) = self.messages.get(&at) else { return Ok(None) };
        let copies = matches!(selection, Selection::Copy(_));
        if found.text.len() > most && (copies || !cut) {
            // A copy is never truncated.
            return Err(if cut { Errno::EINVAL.here() } else { Errno::E2BIG.here() });
        }
        let mut message = if copies {
            found.clone()
        } else {
            let Some(message) = self.remove(at) else { return Ok(None) };
            (self.receiver, self.received_at) = (receiver, now());
            message
        };
        message.text.truncate(most);
        Ok(Some(message))
    }
}

/// The message queues of a sandbox.
pub(crate) struct Messages {
    queues: Mutex<Ids<MessageQueue>>,
    memory: Arc<GuestMemory>,
    limits: Arc<Limits>,
}

impl Messages {
    pub(super) fn new(memory: Arc<GuestMemory>, limits: Arc<Limits>) -> Self {
        Messages { queues: Mutex::new(Rank::Leaf, Ids::default()), memory, limits }
    }

    /// Checks for memory for a message of `len` bytes.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn admit(&self, len: usize) -> Result<(), Errno> {
        Ok(self.memory.admit_lasting((size_of::<Message>() + len) as u64)?)
    }

    /// The locked queues. Callers notify waiters after releasing the lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Ids<MessageQueue>> {
        self.queues.lock()
    }

    /// msgget(2).
    ///
    /// # Errors
    /// Those of msgget(2).
    pub(crate) fn find_or_make(&self, credentials: &Credentials, key: i32, flags: u32) -> Result<i32, Errno> {
        self.lock().find_or_make(
            credentials,
            key,
            flags,
            &self.limits.msgmni,
            |_| Ok(()),
            |_, permissions| {
                self.memory.admit_lasting(OBJECT_BYTES)?;
                Ok(MessageQueue {
                    permissions,
                    messages: BTreeMap::new(),
                    last: 0,
                    by_kind: BTreeMap::new(),
                    firsts: BTreeMap::new(),
                    bytes: 0,
                    most_bytes: self.limits.msgmnb.get(),
                    sender: 0,
                    receiver: 0,
                    sent_at: 0,
                    received_at: 0,
                    changed_at: now(),
                    changed: Arc::new(WaitQueue::new()),
                    receivers: BTreeMap::new(),
                    last_receiver: 0,
                })
            },
        )
    }

    /// Removes a queue with its messages, and ends all waits for it.
    ///
    /// # Errors
    /// `EINVAL`, `EPERM`.
    pub(crate) fn remove(&self, credentials: &Credentials, id: i32) -> Result<(), Errno> {
        let removed = {
            let mut queues = self.lock();
            queues.get(id)?.permissions.check_owner(credentials)?;
            queues.remove(id)
        };
        if let Some(queue) = removed {
            queue.all_queues().iter().for_each(|queue| queue.notify_all());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_wakes_one_receiver_that_selects_it() {
        let messages = Messages::new(GuestMemory::new(1 << 20).unwrap(), Arc::default());
        let id = messages.find_or_make(&Credentials::root(), 0, 0o600).unwrap();
        let mut queues = messages.lock();
        let queue = queues.get_mut(id).unwrap();
        let [two, any, also] = [Selection::Of(2), Selection::First, Selection::UpTo(9)].map(|s| queue.receiver(s));
        let is = |chosen: Option<Arc<WaitQueue>>, receiver: &Receiver| {
            chosen.is_some_and(|q| Arc::ptr_eq(&q, &receiver.queue))
        };
        assert!(is(queue.receiver_for(2), &two));
        // Notified receivers are skipped until they have checked.
        assert!(is(queue.receiver_for(2), &any));
        assert!(is(queue.receiver_for(2), &also));
        assert!(queue.receiver_for(2).is_none());
        queue.begin_check(&any);
        assert!(queue.receiver_for(10).is_some_and(|chosen| Arc::ptr_eq(&chosen, &any.queue)));
        // A leaving receiver passes the message on, if another receiver selects it.
        queue.begin_check(&also);
        assert!(queue.leave(&two).is_none());
        assert!(queue.push(Message { kind: 3, text: Vec::new() }, 1).is_ok());
        assert!(is(queue.leave(&any), &also));
    }

    #[test]
    fn messages_are_found_by_type() {
        let messages = Messages::new(GuestMemory::new(1 << 20).unwrap(), Arc::default());
        let id = messages.find_or_make(&Credentials::root(), 0, 0o600).unwrap();
        let mut queues = messages.lock();
        let queue = queues.get_mut(id).unwrap();
        for (kind, text) in [(5, "five"), (2, "two"), (3, "three"), (2, "too")] {
            assert!(queue.push(Message { kind, text: text.into() }, 1).is_ok());
        }
        let mut take =
            |selection| queue.take(selection, 10, false, 1).unwrap().map(|m| String::from_utf8(m.text).unwrap());
        assert_eq!(take(Selection::Copy(1)).as_deref(), Some("two"));
        assert_eq!(take(Selection::UpTo(4)).as_deref(), Some("two"));
        assert_eq!(take(Selection::Of(9)), None);
        assert_eq!(take(Selection::Except(5)).as_deref(), Some("three"));
        assert_eq!(take(Selection::First).as_deref(), Some("five"));
        assert_eq!(queue.take(Selection::First, 2, false, 1), Err(Errno::E2BIG));
        assert_eq!(queue.bytes, 3);
        assert_eq!((queue.by_kind.len(), queue.firsts.len()), (1, 1));
        assert!(queue.push(Message { kind: 1, text: vec![0; amber_abi::ipc::MSGMNB as usize] }, 1).is_err());
    }
}
