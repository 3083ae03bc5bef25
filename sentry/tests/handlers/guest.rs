//! A sandbox whose tasks do what a test says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use amber_abi::Errno;
use amber_platform::GuestMemory;
use amber_platform_fake::{Machine, Program, smallest_program};
use amber_sentry::config::{MountSource, MountSpec, ProcessSpec, SandboxConfig};
use amber_sentry::sandbox::Sandbox;
use tempfile::TempDir;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::program::{Answer, Command, Obedient};

/// Bytes of guest memory.
const MEMORY: u64 = 64 << 20;
/// Where [`Task::put`] places objects, and how much room there is.
const ARENA: u64 = 0x1000_0000;
const ARENA_SIZE: u64 = 1 << 20;
/// A call that takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A sandbox: a root in memory, with `/tmp`, `/proc` and `/dev`. It ends when this is dropped.
pub(crate) struct Guest {
    sandbox: Sandbox,
    /// The tasks that have begun.
    born: Receiver<(Sender<Command>, Receiver<Answer>)>,
    _root: TempDir,
}

/// A guest task. It exits with status 0 when this is dropped.
pub(crate) struct Task {
    pub(crate) pid: u64,
    commands: Sender<Command>,
    answers: Receiver<Answer>,
    /// Where the next object goes.
    free: u64,
}

/// Starts a sandbox and returns its first task, which is root with all capabilities.
pub(crate) fn start() -> (Guest, Task) {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("tmp")).unwrap();
    let init = root.path().join("init");
    fs::write(&init, smallest_program()).unwrap();
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).unwrap();
    let (parents, born) = channel();
    let memory = GuestMemory::new(MEMORY).unwrap();
    let machine = Machine::new(memory.clone(), move || -> Box<dyn Program> {
        let ((commands, to_do), (answers, answered)) = (channel(), channel());
        // When the test has ended, the task ends as well.
        let _ = parents.send((commands, answered));
        Box::new(Obedient::new(to_do, answers))
    });
    let sandbox = Sandbox::boot(machine, memory, config(&root)).unwrap();
    sandbox.start().unwrap();
    let guest = Guest { sandbox, born, _root: root };
    let mut first = guest.next_task(1, ARENA);
    let mapped = first.call(libc::SYS_mmap, [ARENA, ARENA_SIZE, 3, 0x32, u64::MAX, 0]);
    assert_eq!(mapped, Ok(ARENA));
    (guest, first)
}

fn config(root: &TempDir) -> SandboxConfig {
    let process = ProcessSpec { cwd: "/tmp".into(), ..ProcessSpec::of_root(vec!["/init".into()]) };
    let mounts = vec![
        MountSpec::new("/", MountSource::Overlay(root.path().into())),
        MountSpec::new("/tmp", MountSource::Tmpfs("mode=1777".into())),
        MountSpec::new("/proc", MountSource::Proc),
        MountSpec::new("/dev", MountSource::Dev),
    ];
    SandboxConfig { mounts, ..SandboxConfig::new(process) }
}

impl Guest {
    /// Forks a task.
    pub(crate) fn fork(&self, parent: &mut Task) -> Task {
        let pid = parent.call(libc::SYS_fork, []).expect("fork");
        self.next_task(pid, parent.free)
    }

    fn next_task(&self, pid: u64, free: u64) -> Task {
        let (commands, answers) = self.born.recv_timeout(TIMEOUT).expect("a task begins");
        Task { pid, commands, answers, free }
    }

    /// Waits until a task sleeps in the call that it has begun.
    pub(crate) fn wait_for_sleep(&self, task: &Task) {
        let deadline = Instant::now() + TIMEOUT;
        let file = format!("{}/status", task.pid);
        loop {
            let status = self.sandbox.proc_text(&file).expect("the task is there");
            if String::from_utf8_lossy(&status).contains("State:\tS") {
                return;
            }
            assert!(Instant::now() < deadline, "task {} does not sleep", task.pid);
            thread::sleep(Duration::from_micros(100));
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.sandbox.kill();
        self.sandbox.wait();
    }
}

impl Task {
    /// Makes a system call, and returns its result.
    #[track_caller]
    pub(crate) fn call<const N: usize>(&mut self, number: i64, given: [u64; N]) -> Result<u64, Errno> {
        self.begin(number, given);
        self.result()
    }

    /// Begins a system call that may wait.
    pub(crate) fn begin<const N: usize>(&mut self, number: i64, given: [u64; N]) {
        let mut arguments = [0; 6];
        arguments[..N].copy_from_slice(&given);
        self.commands.send(Command::Call(number as u64, arguments)).expect("the task lives");
    }

    /// Waits for the result of the call that was begun.
    #[track_caller]
    pub(crate) fn result(&mut self) -> Result<u64, Errno> {
        let (register, _) = self.answer();
        let errno = (register as i64).wrapping_neg();
        if (1..4096).contains(&errno) { Err(Errno::from_raw(errno as i32)) } else { Ok(register) }
    }

    #[track_caller]
    fn answer(&mut self) -> Answer {
        match self.answers.recv_timeout(TIMEOUT) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => panic!("task {} does not come back", self.pid),
            Err(RecvTimeoutError::Disconnected) => panic!("task {} has ended", self.pid),
        }
    }

    /// Makes a call that ends the task.
    pub(crate) fn exit(mut self, status: u64) {
        self.begin(libc::SYS_exit_group, [status]);
    }

    /// Puts an object into the task's memory; returns its address.
    #[track_caller]
    pub(crate) fn put<T: IntoBytes + Immutable + ?Sized>(&mut self, object: &T) -> u64 {
        let at = self.free;
        self.free = (at + size_of_val(object) as u64).next_multiple_of(16);
        assert!(self.free <= ARENA + ARENA_SIZE, "the arena is full");
        self.commands.send(Command::Store(at, object.as_bytes().to_vec())).expect("the task lives");
        self.answer();
        at
    }

    /// Puts a path into the task's memory.
    #[track_caller]
    pub(crate) fn path(&mut self, path: &str) -> u64 {
        self.put(&[path.as_bytes(), b"\0"].concat()[..])
    }

    /// Reads an object from the task's memory.
    #[track_caller]
    pub(crate) fn get<T: FromBytes>(&mut self, at: u64) -> T {
        self.commands.send(Command::Load(at, size_of::<T>())).expect("the task lives");
        let (_, bytes) = self.answer();
        T::read_from_bytes(&bytes).expect("an object of this size")
    }

    /// Makes a call that stores two descriptors at its last argument, such as `pipe` and `socketpair`.
    #[track_caller]
    pub(crate) fn pair<const N: usize>(&mut self, number: i64, given: [u64; N]) -> [u64; 2] {
        let at = self.put(&[0i32; 2]);
        let mut arguments = [0; 6];
        arguments[..N].copy_from_slice(&given);
        arguments[N] = at;
        assert_eq!(self.call(number, arguments), Ok(0));
        self.get::<[i32; 2]>(at).map(|fd| fd as u64)
    }

    /// Writes bytes to a descriptor.
    #[track_caller]
    pub(crate) fn write(&mut self, fd: u64, bytes: &[u8]) -> Result<u64, Errno> {
        let at = self.put(bytes);
        self.call(libc::SYS_write, [fd, at, bytes.len() as u64])
    }

    /// Reads at most 64 bytes from a descriptor.
    #[track_caller]
    pub(crate) fn read(&mut self, fd: u64) -> Result<Vec<u8>, Errno> {
        let at = self.put(&[0u8; 64]);
        let len = self.call(libc::SYS_read, [fd, at, 64])?;
        Ok(self.get::<[u8; 64]>(at)[..len as usize].to_vec())
    }
}
