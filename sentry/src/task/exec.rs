//! Executing programs: what execve(2) changes in a task that has a program loaded for it.
//!
//! See docs/internals/exec-and-credentials.md.

use std::sync::Arc;

use amber_abi::Errno;
use amber_abi::Signal;
use amber_abi::capability::{
    Capability, CapabilitySet, SecureBits, VFS_CAP_FLAGS_EFFECTIVE, VFS_CAP_REVISION_1, VFS_CAP_REVISION_2,
    VFS_CAP_REVISION_3, VFS_CAP_REVISION_MASK,
};
use amber_abi::open::AT_FDCWD;
use amber_abi::task::{Personality, RLimit, Resource, WaitStatus};
use amber_abi::xattr::XATTR_CAPABILITY;
use amber_platform::Registers;

use crate::credentials::Credentials;
use crate::error::{Restart, SysError};
use crate::loader::{LoadOptions, Program};
use crate::syscalls::task::exec::open_program;
use crate::task::{AltStack, TaskContext, exit};
use crate::vfs::access::{self, Access, Ownership};
use crate::vfs::mounting::check_member;
use crate::vfs::{FileDescription, FsContext, MountNamespace, MountOptions};

/// Mode bits: set-user-ID, set-group-ID, executable by the group.
const SET_UID: u16 = 0o4000;
const SET_GID: u16 = 0o2000;
const GROUP_EXECUTE: u16 = 0o010;
/// Personality flags that are cleared for a program that gains privileges.
const CLEARED_ON_SETID: Personality = Personality::READ_IMPLIES_EXEC
    .union(Personality::ADDR_NO_RANDOMIZE)
    .union(Personality::ADDR_COMPAT_LAYOUT)
    .union(Personality::MMAP_PAGE_ZERO);
/// The stack limit of such a program in bytes, as on Linux: a larger limit would move its mappings.
const STACK_ON_SETID: u64 = 8 << 20;

/// The capabilities of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileCapabilities {
    permitted: CapabilitySet,
    inheritable: CapabilitySet,
    effective: bool,
}

impl FileCapabilities {
    /// Parses the attribute `security.capability` (see capabilities(7)). An attribute of a namespace's root counts only
    /// for the sandbox's own root.
    fn parse(attribute: &[u8]) -> Option<Self> {
        let word = |i: usize| attribute.get(i * 4..i * 4 + 4)?.try_into().ok().map(u32::from_le_bytes);
        let magic = word(0)?;
        let wide = match (magic & VFS_CAP_REVISION_MASK, attribute.len()) {
            (VFS_CAP_REVISION_1, 12) => false,
            (VFS_CAP_REVISION_2, 20) => true,
            (VFS_CAP_REVISION_3, 24) if word(5) == Some(0) => true,
            _ => return None,
        };
        let set = |low: usize, high: usize| {
            let high = if wide { word(high)? } else { 0 };
            Some(CapabilitySet::from_bits(u64::from(word(low)?) | u64::from(high) << 32))
        };
        let effective = magic & VFS_CAP_FLAGS_EFFECTIVE != 0;
        Some(FileCapabilities { permitted: set(1, 3)?, inheritable: set(2, 4)?, effective })
    }
}

impl Credentials {
    /// The credentials of a task after executing a file, and whether it gains privileges (`AT_SECURE`). The file grants
    /// privileges only through a mount of the task's own `namespace`, not through a mount of another one, a detached
    /// mount or a memfd, and never under `no_new_privs`. `watched`: another process could change the task's view of the
    /// file system.
    ///
    /// # Errors
    /// `EPERM` if the task cannot get all of the file's capabilities.
    pub(crate) fn for_program(
        &self,
        file: &FileDescription,
        namespace: &Arc<MountNamespace>,
        no_new_privs: bool,
        watched: bool,
    ) -> Result<(Credentials, bool), Errno> {
        let inode = file.file().inode();
        let honoured = file.path().is_some_and(|path| {
            !path.mount.options().contains(MountOptions::NO_SUID) && check_member(namespace, &path.mount).is_ok()
        });
        let mut new = self.clone();
        if honoured
            && !no_new_privs
            && let Some(path) = file.path()
            && inode.metadata()?.permissions & (SET_UID | SET_GID) != 0
        {
            // Owner and mode are read at the same moment, and the file must still be executable.
            let m = path.dentry.vfs().change_attributes(&*inode, || inode.metadata())?;
            let owner = Ownership { permissions: m.permissions, uid: m.uid, gid: m.gid };
            let executable = owner.is_mapped() && access::check_owned(self, &*inode, owner, Access::EXECUTE).is_ok();
            if executable && owner.permissions & SET_UID != 0 {
                new.euid = owner.uid;
            }
            if executable && owner.permissions & (SET_GID | GROUP_EXECUTE) == SET_GID | GROUP_EXECUTE {
                new.egid = owner.gid;
            }
        }
        let attribute = if honoured { inode.xattr(XATTR_CAPABILITY).ok() } else { None };
        new.take_capabilities(self, attribute.as_deref().and_then(FileCapabilities::parse), no_new_privs, watched)
    }

    fn take_capabilities(
        mut self,
        old: &Credentials,
        file: Option<FileCapabilities>,
        no_new_privs: bool,
        watched: bool,
    ) -> Result<(Credentials, bool), Errno> {
        let secure = SecureBits::from_bits_retain(old.securebits);
        let mut effective = false;
        self.permitted = CapabilitySet::EMPTY;
        if let Some(file) = file {
            let inherited = file.inheritable.intersection(old.inheritable);
            self.permitted = file.permitted.intersection(old.bounding).union(inherited);
            effective = file.effective;
            if effective && !self.permitted.is_superset(file.permitted) {
                return Err(Errno::EPERM.here());
            }
        }
        let by_file_alone = file.is_some() && old.uid != 0 && self.euid == 0;
        if !secure.contains(SecureBits::SECBIT_NOROOT) && !by_file_alone {
            if self.euid == 0 || old.uid == 0 {
                self.permitted = old.bounding.union(old.inheritable);
            }
            effective |= self.euid == 0;
        }
        let changes_id = self.euid != old.uid || self.egid != old.gid;
        let gains = changes_id || !old.permitted.is_superset(self.permitted);
        if gains && (watched || no_new_privs) {
            if no_new_privs || !old.has(Capability::CAP_SETUID) {
                (self.euid, self.egid) = (old.uid, old.gid);
            }
            self.permitted = self.permitted.intersection(old.permitted);
        }
        (self.suid, self.fsuid) = (self.euid, self.euid);
        (self.sgid, self.fsgid) = (self.egid, self.egid);
        if file.is_some() || changes_id {
            self.ambient = CapabilitySet::EMPTY;
        }
        self.permitted = self.permitted.union(self.ambient);
        self.effective = if effective { self.permitted } else { self.ambient };
        self.securebits = secure.difference(SecureBits::SECBIT_KEEP_CAPS).bits();
        let grew = effective || !self.ambient.is_superset(self.permitted);
        Ok((self, changes_id || (old.uid != 0 && grew)))
    }
}

impl Credentials {
    /// The `PR_GET_DUMPABLE` value of a program that changes these credentials to `new`. It is `hidden`
    /// (`fs.suid_dumpable`) if the program gains privileges or one of its files is not `readable`, else 1.
    pub(crate) fn dumpable_program(&self, new: &Credentials, readable: bool, hidden: i32) -> i32 {
        let plain = self.euid == self.uid && self.egid == self.gid;
        if plain && readable && !self.hides_as(new) { 1 } else { hidden }
    }

    /// Whether an executed file may also be read.
    pub(crate) fn may_read(&self, file: &FileDescription) -> bool {
        access::check(self, &*file.file().inode(), Access::READ).is_ok()
    }
}

/// Loads a program and, on success, makes the task run it.
///
/// # Errors
/// As execve(2). An error leaves the caller unchanged, except that its other threads may have ended.
pub(crate) fn execute(ctx: &mut TaskContext, program: &Program) -> Result<(), SysError> {
    let old = ctx.credentials();
    let fs = ExecFs::of(ctx);
    let no_new_privs = ctx.seccomp().no_new_privs();
    let (credentials, secure) = old.for_program(&program.file, &fs.fs.namespace(), no_new_privs, fs.shared)?;
    let mut readable = old.may_read(&program.file);
    let mut personality = Personality::from_bits_retain(ctx.settings().personality);
    if secure {
        personality.remove(CLEARED_ON_SETID);
    }
    // A 64-bit program states its own needs for executable memory.
    personality.remove(Personality::READ_IMPLIES_EXEC);
    let limits = ctx.mm().limits().clone();
    if secure {
        limits.set_stack(limits.stack().min(STACK_ON_SETID));
    }
    let loaded = {
        let options = LoadOptions {
            credentials: &credentials,
            secure,
            limits,
            flags: ctx.mm().flags().inherited(),
            randomize: !personality.contains(Personality::ADDR_NO_RANDOMIZE),
        };
        let mut open =
            |path: &[u8]| open_program(ctx, AT_FDCWD, path, true, false).inspect(|file| readable &= old.may_read(file));
        program.load(ctx.kernel(), &options, &mut open)?
    };
    end_other_threads(ctx, no_new_privs)?;
    exit::note_peak(ctx);
    // Before the parent can notice the exec, by a vfork or a pipe that is closed.
    {
        let _table = ctx.kernel().processes.lock();
        ctx.group().begin_program();
    }
    ctx.group().timers().clear_posix(ctx.group());
    exit::leave_memory(ctx);
    ctx.leave_space();
    let left = {
        // Rights over the old program do not extend to the new one.
        let group = ctx.group().clone();
        let _change = group.change_program();
        let hidden = ctx.kernel().tunables.suid_dumpable.get() as i32;
        group.set_dumpable(old.dumpable_program(&credentials, readable, hidden));
        ctx.commit_credentials(credentials);
        if secure {
            ctx.set_parent_death_signal(0);
            group.change_limits(|limits| {
                let RLimit { rlim_cur, rlim_max } = limits.get(Resource::RLIMIT_STACK);
                limits.set(Resource::RLIMIT_STACK, RLimit { rlim_cur: rlim_cur.min(STACK_ON_SETID), rlim_max });
            });
        }
        ctx.replace_memory(loaded.mm)
    };
    exit::release_vfork(ctx);
    drop(left);
    ctx.registers = Registers::for_program(loaded.entry, loaded.stack);
    // Only a broken host refuses this, and the next run reports that.
    if let Err(fault) = ctx.platform.reset_fpu_state() {
        log::error!("execve: {fault}");
    }
    ctx.thread.alt_stack = AltStack::default();
    ctx.thread.resume = None;
    close_descriptors(ctx);
    let name = program.original_path.rsplit(|&b| b == b'/').next().unwrap_or_default();
    ctx.set_name(name);
    ctx.change_settings(|settings| settings.personality = personality.bits());
    Ok(())
}

/// The root and working directory of a task that executes a program. While this exists, clone(2) makes no task that shares
/// them: another process can change them only if it could before (Linux's `fs_struct.in_exec`).
struct ExecFs {
    fs: Arc<FsContext>,
    /// Whether another process shares them.
    shared: bool,
}

impl ExecFs {
    fn of(ctx: &TaskContext) -> Self {
        let fs = ctx.fs();
        // clone(2) checks the mark under the same lock.
        let table = ctx.kernel().processes.lock();
        fs.begin_exec();
        // The task and this function hold one reference each.
        let shared = Arc::strong_count(&fs) > 2
            && table.tasks().any(|task| !Arc::ptr_eq(task.group(), ctx.group()) && Arc::ptr_eq(&task.fs(), &fs));
        drop(table);
        ExecFs { fs, shared }
    }
}

impl Drop for ExecFs {
    fn drop(&mut self) {
        self.fs.end_exec();
    }
}

/// Ends all other threads of the group. The caller becomes the leader, with the leader's ID. `no_new_privs` is the
/// caller's value when the program was loaded.
fn end_other_threads(ctx: &TaskContext, no_new_privs: bool) -> Result<(), SysError> {
    let group = ctx.group().clone();
    {
        let mut state = group.state();
        if state.ending.is_some() || state.executing.is_some() {
            // Another thread was faster: this one ends when the call returns.
            return Err(Restart::Always.into());
        }
        state.executing = Some(ctx.task().clone());
        for task in state.tasks.iter().filter(|t| !Arc::ptr_eq(t, ctx.task())) {
            task.kill();
        }
    }
    loop {
        {
            let mut state = group.state();
            if state.ending.is_some() {
                state.executing = None;
                return Err(Restart::Always.into());
            }
            if state.tasks.len() == 1 {
                if ctx.seccomp().no_new_privs() == no_new_privs {
                    break;
                }
                // Another thread has set its filter for this one meanwhile; the filter applies to this call as well.
                state.executing = None;
                return Err(Restart::Always.into());
            }
        }
        ctx.parker().park(None);
    }
    let (old, pid) = (ctx.tid(), group.pid());
    {
        let mut table = ctx.kernel().processes.lock();
        if old != pid {
            table.renumber_task(ctx.task(), pid);
            table.renumber_parent_thread(old, pid);
        }
        table.set_exit_signal(pid, Signal::SIGCHLD.raw());
        let mut state = group.state();
        state.executing = None;
        state.actions = Arc::new(state.actions.for_new_program());
        state.change_member(ctx.task(), |signals| signals.ended = false);
        ctx.update_work_pending(&state);
    }
    if old != pid {
        ctx.kernel().futexes.renumber(old, pid);
    }
    Ok(())
}

/// Gives the task its own table of descriptors, without those marked close-on-exec.
fn close_descriptors(ctx: &TaskContext) {
    let files = ctx.files();
    // The task and this function hold one reference each.
    let files = if Arc::strong_count(&files) > 2 {
        let Ok(own) = files.duplicate() else {
            // The old program is gone, and the new one must not run with descriptors shared with others.
            ctx.group().state().begin_end(WaitStatus::Signaled(Signal::SIGKILL, false));
            return;
        };
        let own = Arc::new(own);
        drop(ctx.set_files(own.clone()));
        own
    } else {
        files
    };
    // As on Linux, errors of flushing are ignored here.
    files.remove_range(
        0,
        u32::MAX,
        |close| close,
        |description| {
            let _ = description.file().flush();
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> Credentials {
        let none = CapabilitySet::EMPTY;
        let ids = Credentials { uid: 1000, euid: 1000, suid: 1000, fsuid: 1000, ..Credentials::root() };
        Credentials { permitted: none, effective: none, ..ids }
    }

    #[test]
    fn set_user_id_root_gains_everything() {
        let old = user();
        let (new, secure) = Credentials { euid: 0, ..old.clone() }.take_capabilities(&old, None, false, false).unwrap();
        assert!(secure && new.effective == CapabilitySet::ALL && new.suid == 0 && new.uid == 1000);
    }

    #[test]
    fn no_new_privileges_keeps_the_user() {
        let old = user();
        let (new, _) = Credentials { euid: 0, ..old.clone() }.take_capabilities(&old, None, true, false).unwrap();
        assert_eq!((new.euid, new.permitted.is_empty()), (1000, true));
    }

    #[test]
    fn file_capabilities_are_read() {
        let mut attribute = [0; 20];
        attribute[..4].copy_from_slice(&(VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE).to_le_bytes());
        attribute[4] = 1 << Capability::CAP_KILL.raw();
        let file = FileCapabilities::parse(&attribute).unwrap();
        let (new, secure) = user().take_capabilities(&user(), Some(file), false, false).unwrap();
        assert!(secure && new.has(Capability::CAP_KILL) && new.euid == 1000);
        assert!(FileCapabilities::parse(&attribute[..19]).is_none());
    }
}
