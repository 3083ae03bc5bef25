//! What goes along with a message: descriptors and credentials (cmsg(3), unix(7)).

use std::sync::Arc;

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::socket::{CMSG_ALIGN, Cmsghdr, ControlType, MessageFlags, SCM_MAX_FD, Ucred};
use amber_abi::sockopt::SocketLevel;
use amber_abi::task::Resource;
use zerocopy::{FromBytes, IntoBytes};

use crate::fs::FileDescription;
use crate::task::TaskContext;

/// What goes along with a message.
#[derive(Clone, Default)]
pub struct Control {
    /// Open file descriptions (`SCM_RIGHTS`).
    pub files: Vec<Arc<FileDescription>>,
    /// Who sent it (`SCM_CREDENTIALS`).
    pub credentials: Option<Ucred>,
    /// Messages that only one family has, ready to be copied out: level, type, data.
    pub others: Vec<(i32, i32, Vec<u8>)>,
}

impl Control {
    /// Whether nothing goes along but perhaps credentials.
    pub fn has_no_files(&self) -> bool {
        self.files.is_empty()
    }
}

/// The credentials a task sends unless it says others.
pub fn own_credentials(ctx: &TaskContext) -> Ucred {
    let credentials = ctx.credentials();
    Ucred { pid: ctx.group().pid(), uid: credentials.euid, gid: credentials.egid }
}

fn align(len: usize) -> usize {
    len.next_multiple_of(CMSG_ALIGN)
}

/// Reads the control messages a guest sends.
///
/// # Errors
/// `EINVAL` for malformed ones, too many descriptors or unknown types; `EBADF` for a descriptor that is not open;
/// `EPERM` for credentials that are not the task's to give.
pub fn parse(ctx: &TaskContext, bytes: &[u8]) -> Result<Control, Errno> {
    let mut control = Control::default();
    let mut rest = bytes;
    while let Ok((header, _)) = Cmsghdr::read_from_prefix(rest) {
        let len = usize::try_from(header.cmsg_len).map_err(|_| Errno::EINVAL)?;
        let data = rest.get(size_of::<Cmsghdr>()..len).ok_or(Errno::EINVAL)?;
        if header.cmsg_level == SocketLevel::SOL_SOCKET.raw() {
            match ControlType::from_raw(header.cmsg_type) {
                ControlType::SCM_RIGHTS => take_files(ctx, data, &mut control)?,
                ControlType::SCM_CREDENTIALS => {
                    let credentials = Ucred::read_from_bytes(data).map_err(|_| Errno::EINVAL)?;
                    check_credentials(ctx, &credentials)?;
                    control.credentials = Some(credentials);
                }
                _ => return Err(Errno::EINVAL),
            }
        } else {
            control.others.push((header.cmsg_level, header.cmsg_type, data.to_vec()));
        }
        rest = rest.get(align(len)..).unwrap_or_default();
    }
    Ok(control)
}

fn take_files(ctx: &TaskContext, data: &[u8], control: &mut Control) -> Result<(), Errno> {
    let table = ctx.files();
    for fd in data.chunks_exact(4) {
        if control.files.len() >= SCM_MAX_FD {
            return Err(Errno::EINVAL);
        }
        let fd = i32::from_ne_bytes(*fd.first_chunk().ok_or(Errno::EINVAL)?);
        control.files.push(table.get_any(fd)?);
    }
    Ok(())
}

fn check_credentials(ctx: &TaskContext, claimed: &Ucred) -> Result<(), Errno> {
    let own = ctx.credentials();
    let uid_ok = [own.uid, own.euid, own.suid].contains(&claimed.uid) || own.has(Capability::CAP_SETUID);
    let gid_ok = [own.gid, own.egid, own.sgid].contains(&claimed.gid) || own.has(Capability::CAP_SETGID);
    let pid_ok = claimed.pid == ctx.group().pid() || own.has(Capability::CAP_SYS_ADMIN);
    if !(uid_ok && gid_ok && pid_ok) {
        return Err(Errno::EPERM);
    }
    if claimed.pid != ctx.group().pid() && ctx.kernel().processes.lock().process(claimed.pid).is_none() {
        return Err(Errno::ESRCH);
    }
    Ok(())
}

/// Puts control messages into the guest's buffer of `room` bytes; descriptors are opened on the way. Answers how many
/// bytes were used and the flags that say what did not fit.
///
/// # Errors
/// `EFAULT` if the buffer cannot be written.
pub fn deliver(
    ctx: &TaskContext,
    control: Control,
    address: u64,
    room: u64,
    close_on_exec: bool,
) -> Result<(u64, MessageFlags), Errno> {
    let mut out = Outbox { ctx, address, room: room as usize, used: 0, flags: MessageFlags::empty() };
    if let Some(credentials) = control.credentials {
        let kind = ControlType::SCM_CREDENTIALS.raw();
        out.put(SocketLevel::SOL_SOCKET.raw(), kind, credentials.as_bytes())?;
    }
    if !control.files.is_empty() {
        out.put_files(control.files, close_on_exec)?;
    }
    for (level, kind, data) in &control.others {
        out.put(*level, *kind, data)?;
    }
    Ok((out.used as u64, out.flags))
}

/// The guest's control buffer while it fills.
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

    fn put(&mut self, level: i32, kind: i32, data: &[u8]) -> Result<(), Errno> {
        let head = size_of::<Cmsghdr>();
        if self.left() < head {
            self.flags |= MessageFlags::MSG_CTRUNC;
            return Ok(());
        }
        let whole = head + data.len();
        let len = whole.min(self.left());
        if len < whole {
            self.flags |= MessageFlags::MSG_CTRUNC;
        }
        let header = Cmsghdr { cmsg_len: len as u64, cmsg_level: level, cmsg_type: kind };
        let bytes = [header.as_bytes(), &data[..len - head]].concat();
        self.ctx.write_bytes(self.address.wrapping_add(self.used as u64), &bytes)?;
        self.used = (self.used + align(len)).min(self.room);
        Ok(())
    }

    fn put_files(&mut self, files: Vec<Arc<FileDescription>>, close_on_exec: bool) -> Result<(), Errno> {
        let fit = self.left().saturating_sub(size_of::<Cmsghdr>()) / 4;
        let limit = self.ctx.group().limits().soft(Resource::RLIMIT_NOFILE);
        let table = self.ctx.files();
        let mut numbers = Vec::new();
        let count = files.len();
        for file in files.into_iter().take(fit) {
            match table.insert(file, close_on_exec, limit) {
                Ok(fd) => numbers.push(fd),
                Err(_) => break,
            }
        }
        if numbers.len() < count {
            self.flags |= MessageFlags::MSG_CTRUNC;
        }
        if numbers.is_empty() {
            return Ok(());
        }
        let data: Vec<u8> = numbers.iter().flat_map(|fd: &i32| fd.to_ne_bytes()).collect();
        self.put(SocketLevel::SOL_SOCKET.raw(), ControlType::SCM_RIGHTS.raw(), &data)
    }
}
