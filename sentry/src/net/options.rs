//! The values of the options of level SOL_SOCKET (socket(7)).

use std::time::Duration;

use crate::sync::{Mutex, Rank};

/// The buffer sizes of sockets without a parameter of the network, in bytes.
const DEFAULT_BUFFER: u32 = 212_992;

/// The format of reception time stamps (`SO_TIMESTAMP`, `SO_TIMESTAMPNS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Whether it has nanoseconds instead of microseconds.
    pub nanoseconds: bool,
    /// Whether the option with 64-bit times was used (`SO_TIMESTAMP_NEW` and similar).
    pub new: bool,
}

/// The values of the options of all sockets.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    /// `SO_DEBUG`.
    pub debug: bool,
    /// `SO_REUSEADDR`.
    pub reuse_address: bool,
    /// `SO_REUSEPORT`.
    pub reuse_port: bool,
    /// `SO_KEEPALIVE`.
    pub keep_alive: bool,
    /// `SO_BROADCAST`.
    pub broadcast: bool,
    /// `SO_DONTROUTE`.
    pub dont_route: bool,
    /// `SO_OOBINLINE`.
    pub oob_inline: bool,
    /// `SO_NO_CHECK`.
    pub no_check: bool,
    /// `SO_PASSCRED`.
    pub pass_credentials: bool,
    /// `SO_PASSSEC`.
    pub pass_security: bool,
    /// `SO_PASSPIDFD`.
    pub pass_pidfd: bool,
    /// `SO_TIMESTAMP` or `SO_TIMESTAMPNS`, if set.
    pub timestamp: Option<Stamp>,
    /// The offset of the next peek, if it was set.
    pub peek_offset: Option<usize>,
    /// `SO_PRIORITY`.
    pub priority: i32,
    /// `SO_MARK`.
    pub mark: i32,
    /// `SO_LINGER`: seconds, if on.
    pub linger: Option<u32>,
    /// `SO_SNDBUF`.
    pub send_buffer: u32,
    /// `SO_RCVBUF`.
    pub receive_buffer: u32,
    /// `SO_RCVLOWAT`.
    pub receive_low: u32,
    /// `SO_RCVTIMEO`, if set.
    pub receive_timeout: Option<Duration>,
    /// `SO_SNDTIMEO`, if set.
    pub send_timeout: Option<Duration>,
    /// `SO_INCOMING_CPU`.
    pub incoming_cpu: i32,
    /// `SO_BUSY_POLL`.
    pub busy_poll: i32,
    /// `SO_SELECT_ERR_QUEUE`.
    pub select_error_queue: bool,
    /// `SO_RXQ_OVFL`.
    pub receive_overflow: bool,
    /// `SO_BINDTODEVICE`: the name of the interface, or empty.
    pub device: Vec<u8>,
    /// The inode number of the socket.
    pub inode: u64,
}

impl Default for Values {
    fn default() -> Self {
        Values {
            debug: false,
            reuse_address: false,
            reuse_port: false,
            keep_alive: false,
            broadcast: false,
            dont_route: false,
            oob_inline: false,
            no_check: false,
            pass_credentials: false,
            pass_security: false,
            pass_pidfd: false,
            timestamp: None,
            peek_offset: None,
            priority: 0,
            mark: 0,
            linger: None,
            send_buffer: DEFAULT_BUFFER,
            receive_buffer: DEFAULT_BUFFER,
            receive_low: 1,
            receive_timeout: None,
            send_timeout: None,
            incoming_cpu: -1,
            busy_poll: 0,
            select_error_queue: false,
            receive_overflow: false,
            device: Vec::new(),
            inode: 0,
        }
    }
}

/// The options of one socket.
pub(crate) struct SharedOptions(Mutex<Values>);

impl Default for SharedOptions {
    fn default() -> Self {
        SharedOptions(Mutex::new(Rank::Leaf, Values::default()))
    }
}

impl SharedOptions {
    /// The default options with these buffer sizes, in bytes.
    pub(crate) fn with_buffers(send: u32, receive: u32) -> Self {
        let values = Values { send_buffer: send, receive_buffer: receive, ..Values::default() };
        SharedOptions(Mutex::new(Rank::Leaf, values))
    }

    /// A copy for an accepted socket.
    pub(crate) fn inherit(&self) -> Self {
        SharedOptions(Mutex::new(Rank::Leaf, Values { inode: 0, ..self.values() }))
    }

    /// All values, read atomically.
    pub(crate) fn values(&self) -> Values {
        self.0.lock().clone()
    }

    /// Reads values.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Values) -> T) -> T {
        look(&self.0.lock())
    }

    /// Changes values.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Values)) {
        change(&mut self.0.lock());
    }

    /// Moves the offset of the next peek, if it was set: forward by a peek, back by a receive.
    pub(crate) fn move_peek_offset(&self, peeked: bool, len: usize) {
        let mut values = self.0.lock();
        if let Some(offset) = &mut values.peek_offset {
            *offset = if peeked { offset.saturating_add(len) } else { offset.saturating_sub(len) };
        }
    }

    /// The maximum time a call waits (`SO_RCVTIMEO`, `SO_SNDTIMEO`).
    pub(crate) fn timeout(&self, writing: bool) -> Option<Duration> {
        self.look(|values| if writing { values.send_timeout } else { values.receive_timeout })
    }
}
