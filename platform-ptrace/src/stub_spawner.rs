//! The parent thread of all stubs, and the zygote that they are cloned from.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use amber_platform::{FpuFormat, GuestMemory, PAGE_SIZE, PlatformError, Registers};
use nix::sched::CpuSet;
use parking_lot::Mutex;

use crate::context_handle::ContextHandle;
use crate::image::LABELS;
use crate::layout::{CODE, COMMAND_BYTES, COMMAND_FD, COMMANDS, HOST_LIMIT, IMAGE_FD, LOAD_ADDRESS, MEMORY_FD};
use crate::stub::Stub;
use crate::trace::{self, Stop};
use crate::tracee::Tracee;
use crate::{cpu_affinity, filter, fpu, image, platform_error};

/// A handle to the spawner thread. Dropping it ends the thread and the zygote.
pub(crate) struct StubSpawner {
    /// Rendezvous channel, on which the spawner always offers one stub.
    stubs: Mutex<Receiver<Result<Stub, PlatformError>>>,
}

impl StubSpawner {
    /// Starts the spawner and its zygote. Also returns the host's FPU format.
    pub(crate) fn start(
        memory: Arc<GuestMemory>,
        commands: Arc<GuestMemory>,
    ) -> Result<(Self, FpuFormat), PlatformError> {
        let (started, result) = sync_channel(1);
        let (sender, stubs) = sync_channel(0);
        std::thread::Builder::new()
            .name("amber-spawner".into())
            .spawn(move || match Zygote::new(&memory, commands) {
                Ok((zygote, fpu)) => {
                    drop(memory);
                    if started.send(Ok(fpu)).is_ok() {
                        zygote.serve(sender);
                    }
                }
                Err(error) => drop(started.send(Err(error))),
            })
            .map_err(|e| platform_error("starting the spawner thread (see `ulimit -u`)", e))?;
        let fpu = result.recv().map_err(|_| platform_error("the spawner thread died", io::ErrorKind::BrokenPipe))??;
        Ok((StubSpawner { stubs: Mutex::new(stubs) }, fpu))
    }

    /// Takes a pristine stub.
    pub(crate) fn take_stub(&self) -> Result<Stub, PlatformError> {
        self.stubs.lock().recv().map_err(|_| platform_error("the spawner thread died", io::ErrorKind::BrokenPipe))?
    }
}

/// The stub that all others are cloned from. It is traced by the spawner thread.
struct Zygote {
    // Drop order: the process must be killed before its tracee is dropped, which would park the thread.
    stub: Arc<Stub>,
    tracee: Tracee,
    commands: Arc<GuestMemory>,
    /// The CPUs that the spawner thread may use.
    cpus: Option<CpuSet>,
}

impl Zygote {
    fn new(memory: &GuestMemory, commands: Arc<GuestMemory>) -> Result<(Self, FpuFormat), PlatformError> {
        let page = commands
            .allocate(COMMAND_BYTES, COMMAND_BYTES)
            .map_err(|_| platform_error("no memory for commands", io::ErrorKind::OutOfMemory))?;
        let program = image::program().map_err(|e| platform_error("making the stub's program", e))?;
        suppress_sigchld();
        let pid = spawn(&program, memory, &commands)?;
        let stub = Arc::new(Stub::new(pid, page, Arc::default()));
        let tracee = Tracee::adopt(&stub, &Arc::new(ContextHandle::default()), LOAD_ADDRESS)?;
        let cpus = cpu_affinity::allowed();
        let mut zygote = Zygote { stub, tracee, commands, cpus };
        cpu_affinity::with_tracee(cpus.as_ref(), pid, || zygote.prepare())?;
        let fpu = fpu::format_of(pid)?;
        Ok((zygote, fpu))
    }

    /// Clears the address space, confines the process, and tests `PTRACE_SYSEMU`, which the platform depends on.
    fn prepare(&mut self) -> Result<(), PlatformError> {
        let tracee = &mut self.tracee;
        let private = (libc::MAP_PRIVATE | libc::MAP_FIXED) as u64;
        let protection = (libc::PROT_READ | libc::PROT_EXEC) as u64;
        tracee.call(libc::SYS_mmap, &[CODE, PAGE_SIZE, protection, private, IMAGE_FD as u64, 0])?;
        tracee.move_code(CODE);
        tracee.call(libc::SYS_munmap, &[0, CODE])?;
        tracee.call(libc::SYS_munmap, &[CODE + PAGE_SIZE, HOST_LIMIT - CODE - PAGE_SIZE])?;
        tracee.map_commands()?;
        tracee.call(libc::SYS_close, &[IMAGE_FD as u64])?;

        // Arguments in memory are passed in the command pages: a name, an empty capability set, the seccomp filter.
        let page = self.stub.page().start;
        let (filter, count) = filter::program();
        let (name, header, sets, program, code) = (0, 64, 128, 256, 512);
        const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
        self.commands.write(page + name, b"amber-stub\0");
        self.commands.write(page + header, &CAPABILITY_VERSION_3.to_ne_bytes());
        self.commands.write(page + program, &count.to_ne_bytes());
        self.commands.write(page + program + 8, &(COMMANDS + code).to_ne_bytes());
        self.commands.write(page + code, &filter);
        let prctl = |option: i32, argument| [option as u64, argument, 0, 0, 0];
        tracee.call(libc::SYS_prctl, &prctl(libc::PR_SET_NAME, COMMANDS + name))?;
        tracee.call(libc::SYS_prctl, &prctl(libc::PR_SET_NO_NEW_PRIVS, 1))?;
        tracee.call(libc::SYS_capset, &[COMMANDS + header, COMMANDS + sets])?;
        let install = [libc::SECCOMP_SET_MODE_FILTER.into(), libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW, COMMANDS + program];
        tracee.call(libc::SYS_seccomp, &install)?;
        self.commands.zero(page, COMMAND_BYTES);

        let registers = Registers { rax: u64::MAX, ..Registers::for_program(CODE + LABELS.call, 0) };
        if !tracee.write_registers(&registers)? || tracee.run_guest()? != Stop::Syscall {
            return Err(platform_error(
                "the host does not emulate system calls (PTRACE_SYSEMU)",
                io::ErrorKind::Unsupported,
            ));
        }
        Ok(())
    }

    /// Makes stubs until the [`StubSpawner`] is dropped.
    fn serve(mut self, sender: SyncSender<Result<Stub, PlatformError>>) {
        loop {
            let (tracee, commands) = (&mut self.tracee, &self.commands);
            let cpus = self.cpus.as_ref();
            let stub = cpu_affinity::with_tracee(cpus, self.stub.pid(), || tracee.clone_process(commands));
            if sender.send(stub).is_err() {
                break;
            }
        }
        self.stub.kill();
    }
}

/// Stops of stubs shall not raise SIGCHLD, and the host shall not reap stubs by itself. If the program has a handler
/// for SIGCHLD, it stays.
fn suppress_sigchld() {
    // SAFETY: both structures are valid for the calls; the action set has no handler.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGCHLD, null(), &mut action) == 0
            && matches!(action.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN)
        {
            action.sa_sigaction = libc::SIG_DFL;
            action.sa_flags = libc::SA_NOCLDSTOP;
            libc::sigaction(libc::SIGCHLD, &action, null_mut());
        }
    }
}

/// The steps of [`child`] before the zygote runs its program, as they are named in error messages.
const STEPS: [&str; 6] = [
    "setting up descriptors of a stub",
    "tying a stub to the sentry",
    "the sentry died",
    "ptrace is forbidden on this host (see the sysctl kernel.yama.ptrace_scope, and the seccomp profile of the container)",
    "executing the stub's program (see the sysctl vm.memfd_noexec; with the TOMOYO module it needs /proc)",
    "giving a stub its user",
];

/// Forks the zygote's process. It is a tracee of the calling thread and stops when its program is loaded.
fn spawn(program: &File, memory: &GuestMemory, commands: &GuestMemory) -> Result<i32, PlatformError> {
    let (mut reader, writer): (PipeReader, PipeWriter) = io::pipe().map_err(|e| platform_error("pipe", e))?;
    let parent = std::process::id() as i32;
    let fds = [memory.file().as_raw_fd(), commands.file().as_raw_fd(), program.as_raw_fd(), writer.as_raw_fd()];
    // SAFETY: the child makes only async-signal-safe calls and never returns.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: this is the child of a fork, as `child` demands.
        unsafe { child(fds, parent) };
    }
    if pid < 0 {
        return Err(platform_error(
            "fork (see `ulimit -u` and the pids limit of the control group)",
            io::Error::last_os_error(),
        ));
    }
    drop(writer);
    let mut report = [0; 8];
    // Execution of the program closes the pipe, so end of file means success.
    match reader.read_exact(&mut report) {
        Err(_) => Ok(pid),
        Ok(()) => {
            trace::kill(pid);
            trace::reap(pid);
            let [step, error] = [&report[..4], &report[4..]].map(|half| {
                let mut word = [0; 4];
                word.copy_from_slice(half);
                i32::from_ne_bytes(word)
            });
            let step = STEPS.get(step as usize).copied().unwrap_or("starting a stub");
            Err(platform_error(step, io::Error::from_raw_os_error(error)))
        }
    }
}

/// The code that runs in the zygote's process before it executes its program.
///
/// # Safety
/// Must be called in the child of a fork, once.
unsafe fn child(fds: [RawFd; 4], parent: i32) -> ! {
    const NAME: &CStr = c"amber-stub";
    const IMAGE_PATH: &CStr = c"/proc/self/fd/2";
    const { assert!(IMAGE_FD == 2, "the path names the descriptor") };
    // SAFETY: only async-signal-safe calls, whose pointers are to constants and locals; nothing is allocated or locked.
    unsafe {
        let mut report = -1;
        let fail = |step: i32, report: RawFd| -> ! {
            let words = [step, *libc::__errno_location()];
            libc::write(report, words.as_ptr().cast(), size_of_val(&words));
            libc::_exit(1)
        };
        // No terminal, no job control, no handlers: only the stub's own faults and SIGKILL have an effect.
        libc::setsid();
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &set, null_mut());
        let faults = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS];
        for signal in 1..=64 {
            libc::signal(signal, if faults.contains(&signal) { libc::SIG_DFL } else { libc::SIG_IGN });
        }
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::setrlimit(libc::RLIMIT_CORE, &none);

        // First move the descriptors out of the way of their final numbers.
        let mut high = [-1; 4];
        for (high, fd) in high.iter_mut().zip(fds) {
            *high = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 16);
            if *high < 0 {
                fail(0, fds[3]);
            }
        }
        for (high, fd) in high.into_iter().zip([MEMORY_FD, COMMAND_FD, IMAGE_FD, IMAGE_FD + 1]) {
            if libc::dup2(high, fd) < 0 {
                fail(0, fds[3]);
            }
            report = fd;
        }
        libc::fcntl(report, libc::F_SETFD, libc::FD_CLOEXEC);
        // Before Linux 5.9 the call is missing; then close-on-exec closes the rest.
        libc::syscall(libc::SYS_close_range, report + 1, u32::MAX, 0);

        // A stub runs as the sentry's real user, so the sentry can trace it without any capability. Raw system calls,
        // because those of the C library change the IDs of all threads of the process. They come before
        // PR_SET_PDEATHSIG, which a change of IDs clears.
        let (user, group) = (libc::getuid(), libc::getgid());
        if libc::syscall(libc::SYS_setresgid, group, group, group) != 0
            || libc::syscall(libc::SYS_setresuid, user, user, user) != 0
        {
            fail(5, report);
        }
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
            fail(1, report);
        }
        if libc::getppid() != parent {
            fail(2, report);
        }
        if libc::ptrace(libc::PTRACE_TRACEME) != 0 {
            fail(3, report);
        }
        let arguments = [NAME.as_ptr(), null()];
        let environment: [*const libc::c_char; 1] = [null()];
        let empty = c"".as_ptr();
        let (arguments, environment) = (arguments.as_ptr(), environment.as_ptr());
        libc::syscall(libc::SYS_execveat, IMAGE_FD, empty, arguments, environment, libc::AT_EMPTY_PATH);
        // Kernels with the TOMOYO module resolve the descriptor as /dev/fd/N, which not every root directory has.
        libc::syscall(libc::SYS_execveat, libc::AT_FDCWD, IMAGE_PATH.as_ptr(), arguments, environment, 0);
        fail(4, report)
    }
}
