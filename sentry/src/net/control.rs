//! Control messages: descriptors, credentials and others (cmsg(3), unix(7)).

use std::sync::{Arc, Weak};

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::socket::{AddressFamily, CMSG_ALIGN, Cmsghdr, ControlType, MessageFlags, SCM_MAX_FD, Ucred};
use amber_abi::sockopt::SocketLevel;
use amber_abi::task::Resource;
use amber_abi::time::{Timespec, Timeval};
use zerocopy::{FromBytes, IntoBytes};

use crate::net::options::Values;
use crate::net::unix::SocketsInFlight;
use crate::slices::at_most;
use crate::task::pidfd::PidFd;
use crate::task::{Task, TaskContext, ThreadGroup};
use crate::users::{Counted, UserCharge};
use crate::vfs::FileDescription;

/// The control data of a message.
#[derive(Clone, Default)]
pub(crate) struct Control {
    /// Open file descriptions (`SCM_RIGHTS`).
    pub files: Vec<Arc<FileDescription>>,
    /// Counts the files as in flight.
    in_flight: Option<Arc<InFlight>>,
    /// The sender's credentials (`SCM_CREDENTIALS`).
    pub credentials: Option<Ucred>,
    /// The process of the credentials (`SCM_PIDFD`).
    pub process: Option<Weak<ThreadGroup>>,
    /// Messages specific to one family, in the format of recvmsg(2): level, type, data.
    pub others: Vec<(i32, i32, Vec<u8>)>,
}

/// File descriptions in a message, counted for the sending user.
struct InFlight {
    _charges: Vec<UserCharge>,
    sockets: SocketsInFlight,
}

impl Control {
    /// Whether there are no files.
    pub(crate) fn has_no_files(&self) -> bool {
        self.files.is_empty()
    }

    /// Notes that the message enters the queue of the AF_UNIX socket `holder`, whose lock is held. The socket may be
    /// waiting to be accepted at `listener`.
    pub(crate) fn enter_queue(&self, holder: u64, listener: Option<u64>) {
        if let Some(in_flight) = &self.in_flight {
            in_flight.sockets.enter(holder, listener);
        }
    }

    /// Notes that the message leaves the queue, whose lock is held.
    pub(crate) fn leave_queue(&self) {
        if let Some(in_flight) = &self.in_flight {
            in_flight.sockets.leave();
        }
    }

    /// A copy for MSG_PEEK, made under the queue's lock. The original stays in the queue.
    pub(crate) fn peek(&self) -> Control {
        if let Some(in_flight) = &self.in_flight {
            in_flight.sockets.look();
        }
        self.clone()
    }

    /// Drops the file descriptions.
    pub(crate) fn forget_files(&mut self) {
        self.files.clear();
        self.in_flight = None;
    }

    /// Adds the time of arrival if the receiver's options request it.
    pub(crate) fn stamp(&mut self, values: &Values, time: Timespec) {
        if let Some(stamp) = values.timestamp {
            let kind = match (stamp.nanoseconds, stamp.new) {
                (true, true) => ControlType::SCM_TIMESTAMPNS_NEW,
                (true, false) => ControlType::SCM_TIMESTAMPNS_OLD,
                (false, true) => ControlType::SCM_TIMESTAMP_NEW,
                (false, false) => ControlType::SCM_TIMESTAMP_OLD,
            };
            let microseconds = Timeval { tv_sec: time.tv_sec, tv_usec: time.tv_nsec / 1000 };
            let bytes = if stamp.nanoseconds { time.as_bytes() } else { microseconds.as_bytes() };
            self.others.push((SocketLevel::SOL_SOCKET.raw(), kind.raw(), bytes.to_vec()));
        }
    }

    /// Whether both have the same sender credentials.
    pub(crate) fn is_of_sender(&self, other: &Control) -> bool {
        let id = |c: &Control| c.credentials.map(|u| (u.pid, u.uid, u.gid));
        id(self) == id(other)
    }
}

/// The process of a peer and its credentials at the time of the connection.
pub(crate) struct PeerCredentials {
    /// The PID and the effective user and group IDs.
    pub credentials: Ucred,
    /// The supplementary group IDs.
    pub groups: Vec<u32>,
    /// The process.
    pub process: Weak<ThreadGroup>,
}

impl PeerCredentials {
    /// The present process and credentials of a task.
    pub(crate) fn of(task: &Task) -> Arc<Self> {
        Arc::new(PeerCredentials {
            credentials: credentials_of(task),
            groups: task.credentials().groups.clone(),
            process: Arc::downgrade(task.group()),
        })
    }
}

/// The credentials that a task sends by default.
pub(crate) fn credentials_of(task: &Task) -> Ucred {
    let credentials = task.credentials();
    Ucred { pid: task.group().pid(), uid: credentials.euid, gid: credentials.egid }
}

fn align(len: usize) -> usize {
    len.next_multiple_of(CMSG_ALIGN)
}

/// Parses the control messages passed to sendmsg(2) on a socket of the family.
///
/// # Errors
/// `EINVAL` for malformed messages, too many descriptors or unknown types; `EBADF` for a closed descriptor; `EPERM` for
/// credentials that the task may not claim; `ETOOMANYREFS` for too many descriptors in flight.
pub(crate) fn parse(ctx: &TaskContext, family: AddressFamily, bytes: &[u8]) -> Result<Control, Errno> {
    let mut control = Control::default();
    let mut rest = bytes;
    while let Ok((header, _)) = Cmsghdr::read_from_prefix(rest) {
        let len = usize::try_from(header.cmsg_len).map_err(|_| Errno::EINVAL.here())?;
        let data = rest.get(size_of::<Cmsghdr>()..len).ok_or_else(|| Errno::EINVAL.here())?;
        let internet = matches!(family, AddressFamily::AF_INET | AddressFamily::AF_INET6);
        if header.cmsg_level != SocketLevel::SOL_SOCKET.raw() || internet {
            control.others.push((header.cmsg_level, header.cmsg_type, data.to_vec()));
        } else {
            match ControlType::from_raw(header.cmsg_type) {
                ControlType::SCM_RIGHTS if family == AddressFamily::AF_UNIX => take_files(ctx, data, &mut control)?,
                ControlType::SCM_CREDENTIALS => {
                    let credentials = Ucred::read_from_bytes(data).map_err(|_| Errno::EINVAL.here())?;
                    control.process = Some(check_credentials(ctx, &credentials)?);
                    control.credentials = Some(credentials);
                }
                _ => return Err(Errno::EINVAL.here()),
            }
        }
        rest = rest.get(align(len)..).unwrap_or_default();
    }
    if !control.files.is_empty() {
        control.in_flight = Some(count_in_flight(ctx, &control.files)?);
    }
    Ok(control)
}

fn take_files(ctx: &TaskContext, data: &[u8], control: &mut Control) -> Result<(), Errno> {
    let table = ctx.files();
    for fd in data.chunks_exact(4) {
        if control.files.len() >= SCM_MAX_FD {
            return Err(Errno::EINVAL.here());
        }
        let fd = i32::from_ne_bytes(*fd.first_chunk().ok_or_else(|| Errno::EINVAL.here())?);
        control.files.push(table.get_any(fd)?);
    }
    Ok(())
}

fn count_in_flight(ctx: &TaskContext, files: &[Arc<FileDescription>]) -> Result<Arc<InFlight>, Errno> {
    let credentials = ctx.credentials();
    let user = ctx.kernel().users.get(credentials.uid);
    let limit = ctx.group().limits().soft(Resource::RLIMIT_NOFILE);
    let able = credentials.has(Capability::CAP_SYS_RESOURCE) || credentials.has(Capability::CAP_SYS_ADMIN);
    if user.count(Counted::InFlight) > limit && !able {
        return Err(Errno::ETOOMANYREFS.here());
    }
    let charges = files.iter().map(|_| user.charge(Counted::InFlight)).collect();
    Ok(Arc::new(InFlight { _charges: charges, sockets: ctx.kernel().network.unix.sockets_among(files) }))
}

/// Checks claimed credentials and returns their process.
fn check_credentials(ctx: &TaskContext, claimed: &Ucred) -> Result<Weak<ThreadGroup>, Errno> {
    ctx.kernel().id_maps.check_owner(Some(claimed.uid), Some(claimed.gid))?;
    let own = ctx.credentials();
    let uid_ok = [own.uid, own.euid, own.suid].contains(&claimed.uid) || own.has(Capability::CAP_SETUID);
    let gid_ok = [own.gid, own.egid, own.sgid].contains(&claimed.gid) || own.has(Capability::CAP_SETGID);
    let pid_ok = claimed.pid == ctx.group().pid() || own.has(Capability::CAP_SYS_ADMIN);
    if !(uid_ok && gid_ok && pid_ok) {
        return Err(Errno::EPERM.here());
    }
    if claimed.pid == ctx.group().pid() {
        return Ok(Arc::downgrade(ctx.group()));
    }
    let table = ctx.kernel().processes.lock();
    table.process(claimed.pid).map(|process| Arc::downgrade(&process.group)).ok_or_else(|| Errno::ESRCH.here())
}

/// Writes control messages to the guest's buffer of `room` bytes and installs descriptors. Returns the number of bytes
/// used, and flags for what did not fit. Messages that cannot be written are skipped, as on Linux.
pub(crate) fn deliver(
    ctx: &TaskContext,
    control: Control,
    address: u64,
    room: u64,
    close_on_exec: bool,
) -> (u64, MessageFlags) {
    let mut out = Outbox { ctx, address, room: room as usize, used: 0, flags: MessageFlags::empty() };
    let level = SocketLevel::SOL_SOCKET.raw();
    if let Some(credentials) = control.credentials {
        out.put(level, ControlType::SCM_CREDENTIALS.raw(), credentials.as_bytes());
    }
    if !control.files.is_empty() {
        out.put_files(control.files, close_on_exec);
    }
    if let Some(process) = control.process {
        out.put_pidfd(&process);
    }
    for (level, kind, data) in &control.others {
        out.put(*level, *kind, data);
    }
    (out.used as u64, out.flags)
}

/// The guest's control buffer while it is filled.
struct Outbox<'a> {
    ctx: &'a TaskContext,
    address: u64,
    room: usize,
    used: usize,
    flags: MessageFlags,
}

impl Outbox<'_> {
    fn left(&self) -> usize {
        self.room.saturating_sub(self.used)
    }

    /// Adds a message, truncated to the room. Returns false if the guest does not receive it.
    fn put(&mut self, level: i32, kind: i32, data: &[u8]) -> bool {
        let head = size_of::<Cmsghdr>();
        if self.left() < head {
            self.flags |= MessageFlags::MSG_CTRUNC;
            return false;
        }
        let whole = head + data.len();
        let len = whole.min(self.left());
        if len < whole {
            self.flags |= MessageFlags::MSG_CTRUNC;
        }
        let header = Cmsghdr { cmsg_len: len as u64, cmsg_level: level, cmsg_type: kind };
        let bytes = [header.as_bytes(), at_most(data, len - head)].concat();
        if self.ctx.write_bytes(self.address.wrapping_add(self.used as u64), &bytes).is_err() {
            return false;
        }
        self.used = (self.used + align(len)).min(self.room);
        true
    }

    fn put_files(&mut self, files: Vec<Arc<FileDescription>>, close_on_exec: bool) {
        let fit = self.left().saturating_sub(size_of::<Cmsghdr>()) / 4;
        let limit = self.ctx.group().limits().soft(Resource::RLIMIT_NOFILE);
        let table = self.ctx.files();
        let count = files.len();
        let places: Vec<_> = (0..count.min(fit)).map_while(|_| table.reserve(0, limit).ok()).collect();
        if places.len() < count {
            self.flags |= MessageFlags::MSG_CTRUNC;
        }
        let data: Vec<u8> = places.iter().flat_map(|place| place.fd().to_ne_bytes()).collect();
        if places.is_empty() || !self.put(SocketLevel::SOL_SOCKET.raw(), ControlType::SCM_RIGHTS.raw(), &data) {
            return;
        }
        for (place, file) in places.into_iter().zip(files) {
            place.install(file, close_on_exec);
        }
    }

    /// Adds a pidfd of the sender, or the error if there is none.
    fn put_pidfd(&mut self, process: &Weak<ThreadGroup>) {
        let kind = ControlType::SCM_PIDFD.raw();
        if self.left() < size_of::<Cmsghdr>() + size_of::<i32>() {
            self.flags |= MessageFlags::MSG_CTRUNC;
            return;
        }
        let limit = self.ctx.group().limits().soft(Resource::RLIMIT_NOFILE);
        let opened = open_process(self.ctx, process)
            .and_then(|description| Ok((self.ctx.files().reserve(0, limit)?, description)));
        match opened {
            Ok((place, description)) => {
                if self.put(SocketLevel::SOL_SOCKET.raw(), kind, &place.fd().to_ne_bytes()) {
                    place.install(description, true);
                }
            }
            Err(errno) => {
                self.put(SocketLevel::SOL_SOCKET.raw(), kind, &(-errno.raw()).to_ne_bytes());
            }
        }
    }
}

/// Opens a pidfd of a process.
///
/// # Errors
/// `EINVAL` if the process no longer exists.
pub(crate) fn open_process(ctx: &TaskContext, process: &Weak<ThreadGroup>) -> Result<Arc<FileDescription>, Errno> {
    let group = process.upgrade().ok_or_else(|| Errno::EINVAL.here())?;
    let leader = {
        let table = ctx.kernel().processes.lock();
        let found = table.process(group.pid()).is_some_and(|process| Arc::ptr_eq(&process.group, &group));
        if found { table.task(group.pid()).cloned() } else { None }
    };
    Ok(PidFd::describe(leader.ok_or_else(|| Errno::EINVAL.here())?, false, false))
}
