//! Processes started from outside: the first of a sandbox, and additional ones.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::signal::SignalSet;
use amber_abi::task::{RLimit, Resource};
use amber_platform::Registers;

use super::clone::Start;
use super::{
    Children, ControllingTerminal, Limits, NewTask, Process, ProcessTable, Schedule, Settings, Task, ThreadGroup,
    ThreadState, thread_pool,
};
use crate::config::{BootError, CapabilitySpec, ProcessSpec};
use crate::credentials::Credentials;
use crate::id_map::IdMaps;
use crate::kernel::Kernel;
use crate::loader::{LoadOptions, Program, Strings};
use crate::mm::{MemoryFlags, MemoryLimits};
use crate::users::Counted;
use crate::vfs::walk::Scope;
use crate::vfs::{FdTable, FsContext, program};

/// The role of the process.
pub(crate) enum Place {
    /// The first process, with this terminal.
    First(Option<Arc<dyn ControllingTerminal>>),
    /// An additional process, with this terminal.
    Beside(Option<Arc<dyn ControllingTerminal>>),
}

/// Makes a process in a tree of mounts, with these descriptors; [`begin`] starts it.
///
/// # Errors
/// The program is missing or cannot be executed, with the reason; or the sandbox has ended.
pub(crate) fn prepare(
    kernel: &Arc<Kernel>,
    spec: &ProcessSpec,
    fs: Arc<FsContext>,
    files: Arc<FdTable>,
    place: &Place,
) -> Result<Start, BootError> {
    let executor = executor(spec, &kernel.id_maps)?;
    let root = fs.root();
    // As with runc, the directory need not be accessible to the process's user.
    let cwd = Scope::kernel(&Credentials::root(), root.clone())
        .resolve(spec.cwd.as_os_str().as_bytes(), true)
        .and_then(|cwd| if cwd.dentry.is_directory() { Ok(cwd) } else { Err(Errno::ENOTDIR.here()) })
        .map_err(|errno| BootError::Config(format!("working directory {}: {}", spec.cwd.display(), errno.text())))?;
    fs.set_cwd(cwd.clone());
    fs.set_umask(spec.umask as u16);
    let scope = Scope { start: cwd, ..Scope::kernel(&executor, root) };

    let mut limits = Limits::default();
    for &(resource, soft, hard) in &spec.rlimits {
        limits.set(Resource::from_raw(resource), RLimit { rlim_cur: soft, rlim_max: hard });
    }
    let argument = spec.program.as_ref().or(spec.args.first()).map_or(OsStr::new(""), |argument| argument.as_os_str());
    let name = argument.to_string_lossy().into_owned();
    let (path, file) = find(&scope, spec, argument.as_bytes())?;
    let refuse = |errno: Errno| BootError::NotExecutable { program: name.clone(), reason: why_not(errno) };
    let memory = &kernel.mm.frames;
    let arguments = Strings::new(memory, spec.args.iter().map(|text| text.as_bytes())).map_err(refuse)?;
    let environment = Strings::new(memory, spec.env.iter().map(|text| text.as_bytes())).map_err(refuse)?;
    let mut open = |path: &[u8]| program::open(&scope, path);
    let program = Program::resolve(file, path, arguments, environment, false, memory, &mut open).map_err(refuse)?;
    let (credentials, secure) =
        executor.for_program(&program.file, &fs.namespace(), spec.no_new_privs, false).map_err(refuse)?;
    let mut readable = executor.may_read(&program.file);
    let options = LoadOptions {
        credentials: &credentials,
        secure,
        limits: memory_limits(kernel, &limits),
        flags: MemoryFlags::empty(),
        randomize: true,
    };
    let mut missing = None;
    let loaded = program
        .load(kernel, &options, &mut |path| {
            program::open(&scope, path)
                .inspect(|file| readable &= executor.may_read(file))
                .inspect_err(|errno| missing = Some((path.to_vec(), *errno)))
        })
        .map_err(|errno| match &missing {
            Some((path, errno)) => BootError::NotExecutable {
                program: name.clone(),
                reason: format!("its interpreter {}: {}", String::from_utf8_lossy(path), errno.text()),
            },
            None => refuse(errno),
        })?;

    let charge = kernel.users.get(credentials.uid).charge(Counted::Tasks);
    let task_name = program.original_path.rsplit(|&b| b == b'/').next().unwrap_or_default();
    let pid = take_number(kernel)?;
    let group = ThreadGroup::new(pid, Arc::default(), Arc::new(limits));
    group.set_oom_score_adj(spec.oom_score_adj);
    let hidden = kernel.tunables.suid_dumpable.get() as i32;
    group.set_dumpable(executor.dumpable_program(&credentials, readable, hidden));
    let task = Task::new(NewTask {
        kernel: kernel.clone(),
        group: group.clone(),
        tid: pid,
        memory: loaded.mm.clone(),
        files,
        fs,
        credentials: Arc::new(credentials),
        name: task_name.to_vec(),
        blocked: SignalSet::default(),
        schedule: Schedule::new(kernel.cpus),
        charge,
        settings: Settings::default(),
    });
    if spec.no_new_privs {
        task.seccomp().set_no_new_privs();
    }
    if let Some(filter) = &kernel.seccomp {
        task.seccomp().set_filter(filter.clone());
    }
    group.state().add_member(task.clone());
    if spec.protected {
        group.protect();
    }
    enter(kernel, &task, place)?;
    Ok(Start {
        task,
        memory: loaded.mm,
        reservation: None,
        registers: Registers::for_program(loaded.entry, loaded.stack),
        fpu_state: None,
        thread: ThreadState::default(),
        set_tid: None,
    })
}

/// Starts a prepared process.
///
/// # Errors
/// The host has no threads left; the process has then ended.
pub(crate) fn begin(start: Start) -> Result<(), BootError> {
    thread_pool::start(start, None).map_err(|errno| BootError::Config(format!("starting a process: {}", errno.text())))
}

fn take_number(kernel: &Kernel) -> Result<i32, BootError> {
    let most = kernel.tunables.pid_max.get() as i32;
    kernel.processes.lock().take_number(most).map_err(|errno| BootError::Config(errno.text().to_owned()))
}

/// Enters the process in the table: it has no parent and leads a session of its own.
fn enter(kernel: &Kernel, task: &Arc<Task>, place: &Place) -> Result<(), BootError> {
    let pid = task.tid();
    let mut table = kernel.processes.lock();
    let terminal = match place {
        Place::First(terminal) => terminal,
        Place::Beside(terminal) => {
            // The end of the first process kills only processes in the table.
            if table.process(ProcessTable::INIT).is_none_or(|first| first.zombie.is_some()) {
                return Err(BootError::Config("the sandbox has ended".to_owned()));
            }
            terminal
        }
    };
    table.add_process(Process {
        group: task.group().clone(),
        parent: 0,
        parent_thread: 0,
        children: Children::default(),
        pgid: pid,
        sid: pid,
        terminal: terminal.clone(),
        exit_signal: 0,
        parent_program: 0,
        zombie: None,
    });
    if let Some(terminal) = terminal {
        terminal.control(pid, pid);
    }
    table.add_task(task.clone());
    Ok(())
}

/// The credentials that execute the program. They are those of a runtime such as runc right before its execve(2): it was
/// root, has become the user, and has set the sets it was given. What the program has is up to the rules of execve(2).
///
/// # Errors
/// setuid(2), setgid(2) or setgroups(2) refuses such a number, or capset(2) such sets. Ambient capabilities that cannot be
/// had are left out, as runc does.
fn executor(spec: &ProcessSpec, ids: &IdMaps) -> Result<Credentials, BootError> {
    let (uid, gid) = (spec.user.uid, spec.user.gid);
    if !ids.users.maps(uid) {
        return Err(BootError::Config(format!("user: {uid} is no user of the user namespace")));
    }
    if let Some(gid) = spec.user.additional_gids.iter().chain([&gid]).find(|gid| !ids.groups.maps(**gid)) {
        return Err(BootError::Config(format!("user: {gid} is no group of the user namespace")));
    }
    let CapabilitySpec { bounding, effective, inheritable, permitted, ambient } = spec.capabilities;
    for (small, large, what) in [
        (effective, permitted, "an effective one is not permitted"),
        (inheritable, bounding, "an inheritable one is not in the bounding set"),
    ] {
        if !large.is_superset(small) {
            return Err(BootError::Config(format!("capabilities: {what}: {}", Errno::EPERM.text().to_lowercase())));
        }
    }
    Ok(Credentials {
        uid,
        euid: uid,
        suid: uid,
        fsuid: uid,
        gid,
        egid: gid,
        sgid: gid,
        fsgid: gid,
        groups: spec.user.additional_gids.clone(),
        permitted,
        effective,
        inheritable,
        bounding,
        ambient: ambient.intersection(permitted).intersection(inheritable),
        securebits: 0,
    })
}

/// The limits that memory management enforces.
pub(crate) fn memory_limits(kernel: &Kernel, limits: &Limits) -> MemoryLimits {
    let memory = MemoryLimits::new(kernel.tunables.clone());
    memory.set_address_space(limits.soft(Resource::RLIMIT_AS));
    memory.set_data(limits.soft(Resource::RLIMIT_DATA));
    memory.set_stack(limits.soft(Resource::RLIMIT_STACK));
    memory.set_locked(limits.soft(Resource::RLIMIT_MEMLOCK));
    memory
}

type Found = (Vec<u8>, Arc<crate::vfs::FileDescription>);

/// Finds the program as execvp(3) does: along `PATH`, unless its name has a slash.
fn find(scope: &Scope<'_>, spec: &ProcessSpec, name: &[u8]) -> Result<Found, BootError> {
    let program = String::from_utf8_lossy(name).into_owned();
    let missing = |reason: String| BootError::NotFound { program: program.clone(), reason };
    let unusable = |errno: Errno| BootError::NotExecutable { program: program.clone(), reason: why_not(errno) };
    if name.contains(&b'/') {
        return match program::open(scope, name) {
            Ok(file) => Ok((name.to_vec(), file)),
            Err(errno @ (Errno::ENOENT | Errno::ENOTDIR)) => Err(missing(errno.text().to_owned())),
            Err(errno) => Err(unusable(errno)),
        };
    }
    let search = spec.env.iter().find_map(|variable| variable.as_bytes().strip_prefix(b"PATH="));
    let search = search.unwrap_or(b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let mut refused = None;
    for directory in search.split(|&b| b == b':').filter(|_| !name.is_empty()) {
        let directory = if directory.is_empty() { b"." } else { directory };
        let path = [directory, b"/", name].concat();
        match program::open(scope, &path) {
            Ok(file) => return Ok((path, file)),
            Err(errno @ Errno::EACCES) => refused = Some(errno),
            Err(_) => {}
        }
    }
    let searched = String::from_utf8_lossy(search);
    Err(refused.map_or_else(|| missing(format!("not found in PATH ({searched})")), unusable))
}

fn why_not(errno: Errno) -> String {
    match errno {
        Errno::ENOEXEC => "not a program for x86-64 Linux (a 64-bit ELF file or a #! script)".to_owned(),
        Errno::ENOENT => "its interpreter is not in the root file system".to_owned(),
        Errno::ELIBBAD => "its interpreter is damaged".to_owned(),
        errno => errno.text().to_lowercase(),
    }
}
