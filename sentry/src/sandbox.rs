//! Making a sandbox, starting it and additional processes in it, and waiting for its end.

mod inherited;
mod mounts;

use std::collections::HashSet;
use std::sync::Arc;

use amber_abi::Signal;
use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::stat::Device;
use amber_platform::{GuestMemory, Platform};

use crate::cgroup::{self, Usage};
use crate::config::{BootError, Descriptors, ExitStatus, Limits, ProcessSpec, SandboxConfig};
use crate::external_process::{self, Process, ProcessInfo};
use crate::fs::proc::{ProcReader, parameters};
use crate::fs::tmpfs::{TmpFs, TmpfsOptions};
use crate::fs::{self, FileSystems, Registration};
use crate::ipc::{self, Ipc};
use crate::kernel::{HostNames, Kernel};
use crate::mm::Memory;
use crate::net::{self, Network};
use crate::signal::OutgoingSignal;
use crate::sync::{Mutex, Rank};
use crate::syscalls::{CallTable, Tracer};
use crate::task::spawn::{self, Place};
use crate::task::{ProcessTable, Start, seccomp_profile};
use crate::time::Timekeeping;
use crate::tty::{self, Console, Terminals};
use crate::tunables::Tunables;
use crate::vfs::{FdTable, FileDescription, FsContext, Mount, MountNamespace, Vfs};

/// The contributions of the subsystems to the file systems.
static SUBSYSTEMS: &[&Registration] =
    &[&fs::REGISTRATION, &tty::REGISTRATION, &net::REGISTRATION, &ipc::REGISTRATION, &cgroup::REGISTRATION];

/// Whether sandboxes have this character device.
pub fn has_device(device: Device) -> bool {
    SUBSYSTEMS.iter().flat_map(|subsystem| subsystem.drivers).any(|driver| driver.serves(device))
}

/// A sandbox.
pub struct Sandbox {
    kernel: Arc<Kernel>,
    namespace: Arc<MountNamespace>,
    /// Whether the guest can write to host files.
    changes_trees: bool,
    proc_reader: ProcReader,
    /// The first process, until it is started.
    first: Mutex<Option<Start>>,
}

impl Sandbox {
    /// Makes a kernel on a platform and loads the first program, without running it.
    ///
    /// # Errors
    /// One line that names what failed; see [`BootError`].
    pub fn boot(
        platform: Arc<dyn Platform>,
        memory: Arc<GuestMemory>,
        config: SandboxConfig,
    ) -> Result<Sandbox, BootError> {
        let changes_trees = config.changes_host_files();
        let vfs = Vfs::new();
        let empty = Mount::internal(&vfs, TmpFs::new(&vfs, memory.clone(), TmpfsOptions::default()));
        let nowhere = FsContext::new(MountNamespace::new(memory.clone(), empty));
        let time = Timekeeping::new(&memory).map_err(|full| BootError::Config(full.to_string()))?;
        let tunables = Arc::new(Tunables::of(memory.limit()));
        let seccomp = config.seccomp.as_ref().map(seccomp_profile::compile).transpose();
        let seccomp = seccomp.map_err(|errno| BootError::Config(format!("seccomp: {}", errno.text())))?;
        let network = Network::new(config.network, &config.trees, &memory)
            .map_err(|errno| BootError::Config(format!("the host's network: {}", errno.text())))?;
        let kernel = Arc::new(Kernel {
            fs: FileSystems::new(SUBSYSTEMS, &vfs, &memory, &tunables),
            vfs,
            ipc: Ipc::new(&memory),
            mm: Memory::new(memory),
            time,
            tty: Terminals::new(config.controlling_terminal),
            network,
            calls: CallTable::of(config.profile.release()),
            profile: config.profile,
            platform,
            tracer: config.trace.map(|filter| Arc::new(Tracer::new(filter))),
            processes: Mutex::new(Rank::Processes, Default::default()),
            users: Default::default(),
            id_maps: config.id_maps,
            cpus: amber_host::processor::count(),
            names: Mutex::new(Rank::Leaf, HostNames::new(&config.hostname, config.domainname.as_deref())),
            threads: Default::default(),
            seccomp,
            cgroup: Default::default(),
            end: Default::default(),
            refused: Mutex::new(Rank::Leaf, HashSet::new()),
            futexes: Default::default(),
            nowhere,
            tunables,
        });
        kernel.cgroup.set_limits(&kernel, &config.limits);
        // Read while host files can still be opened.
        amber_host::processor::description();
        net::adopt(&kernel);
        for (name, value) in &config.sysctls {
            parameters::set(&kernel, name, value)
                .map_err(|errno| BootError::Config(format!("sysctl {name}={value}: {}", errno.text())))?;
        }
        let namespace = mounts::mount_all(&kernel, &config.mounts, &config.trees)?;
        mounts::make_devices(&kernel, &namespace, &config.devices)?;
        if config.make_cwd {
            mounts::make_directory(&namespace, &config.process.cwd)?;
        }
        mounts::finish_root(&namespace, &config.mounts)?;
        mounts::restrict(&kernel, &namespace, &config.masked_paths, &config.readonly_paths)?;
        let fs = FsContext::new(namespace.clone());
        let files = Arc::new(FdTable::new(&kernel.vfs, &kernel.mm.frames));
        let (console, terminal) = make_console(&kernel, &namespace, &config.process)?.unzip();
        if let Some(console) = console {
            // Set only here, once, before the first process.
            let _ = kernel.tty.console.set(console);
        }
        give(&kernel, config.descriptors, terminal, &files, changes_trees)?;
        kernel.cgroup.count_from_now(&kernel);
        let place = Place::First(kernel.tty.console.get().map(|console| console.terminal()));
        let first = spawn::prepare(&kernel, &config.process, fs, files, &place)?;
        Ok(Sandbox {
            kernel,
            namespace,
            changes_trees,
            proc_reader: ProcReader::default(),
            first: Mutex::new(Rank::Leaf, Some(first)),
        })
    }

    /// Starts the first process, at the first call.
    ///
    /// # Errors
    /// The host has no threads left.
    pub fn start(&self) -> Result<(), BootError> {
        let first = self.first.lock().take();
        first.map_or(Ok(()), |first| {
            self.kernel.network.inet.begin();
            spawn::begin(first)
        })
    }

    /// Whether [`start`](Self::start) was called.
    pub fn is_started(&self) -> bool {
        self.first.lock().is_none()
    }

    /// Starts an additional process with these descriptors. It has the mounts of the first process, no parent, and its
    /// own session; it is killed when the sandbox ends.
    ///
    /// # Errors
    /// As for the first process; or the sandbox has ended.
    pub fn exec(&self, process: &ProcessSpec, descriptors: Descriptors) -> Result<Process, BootError> {
        let namespace = self.kernel.init().and_then(|first| Some(first.tasks().first()?.fs().namespace()));
        let namespace = namespace.ok_or_else(|| BootError::Config("the sandbox has ended".to_owned()))?;
        let (console, slave) = make_console(&self.kernel, &namespace, process)?.unzip();
        let files = Arc::new(FdTable::new(&self.kernel.vfs, &self.kernel.mm.frames));
        give(&self.kernel, descriptors, slave, &files, self.changes_trees)?;
        let place = Place::Beside(console.as_ref().map(|console| console.terminal()));
        let start = spawn::prepare(&self.kernel, process, FsContext::new(namespace), files, &place)?;
        let process = Process::new(&start.task, console);
        spawn::begin(start)?;
        Ok(process)
    }

    /// Sends a signal to the first process as from outside, or to its process group with `group`.
    pub fn signal(&self, signal: Signal, group: bool) {
        if group {
            self.kernel.signal_process_group(ProcessTable::INIT, signal);
        } else {
            self.kernel.signal_from_outside(signal);
        }
    }

    /// Sends a signal to every process, as from outside.
    pub fn signal_all(&self, signal: Signal) {
        let all: Vec<_> = self.kernel.processes.lock().processes().map(|process| process.group.clone()).collect();
        for group in all {
            // The kernel's own signals never fail for lack of queue space.
            let _ = group.send(OutgoingSignal::kernel(signal).forced());
        }
    }

    /// Allows the first process to stop for its terminal. The caller must continue it, by SIGCONT to its group after
    /// [`wait_for_stop`](Self::wait_for_stop).
    pub fn watch(&self) {
        self.kernel.processes.lock().watch_from_outside();
    }

    /// Waits until the first process has stopped more than `seen` times and returns the number of stops; `None` at the
    /// end of the sandbox.
    pub fn wait_for_stop(&self, seen: u64) -> Option<u64> {
        self.kernel.end.wait_for_stop(seen)
    }

    /// The master of the sandbox's terminal, if the first process has one.
    pub fn console(&self) -> Option<&Arc<Console>> {
        self.kernel.tty.console.get()
    }

    /// Stops guest code until [`resume`](Self::resume); returns when all tasks have stopped. Timers continue.
    pub fn pause(&self) {
        self.kernel.cgroup.pause.begin(&self.kernel);
    }

    /// Resumes a paused guest.
    pub fn resume(&self) {
        self.kernel.cgroup.pause.end();
    }

    /// Whether the guest is paused.
    pub fn is_paused(&self) -> bool {
        self.kernel.cgroup.pause.is_on()
    }

    /// Resource usage of the guest.
    pub fn usage(&self) -> Usage {
        self.kernel.cgroup.usage(&self.kernel)
    }

    /// Changes the limits, with immediate effect; see [`Limits`].
    pub fn set_limits(&self, limits: &Limits) {
        self.kernel.cgroup.set_limits(&self.kernel, limits);
    }

    /// All processes of the guest, by process ID.
    pub fn processes(&self) -> Vec<ProcessInfo> {
        external_process::all(&self.kernel)
    }

    /// The content of a file of the guest's `/proc`, or the target of a link, as read by the guest's root. The path is
    /// relative to `/proc`. `None` if it does not exist.
    pub fn proc_text(&self, path: &str) -> Option<Vec<u8>> {
        self.proc_reader.text(&self.kernel, path).ok()
    }

    /// Kills every process of the guest, also a first one that was not started.
    pub fn kill(&self) {
        self.kernel.kill_all();
        if let Err(error) = self.start() {
            // A process that cannot be started has ended as well.
            log::debug!("killing the sandbox: {error}");
        }
    }

    /// Waits until the first process, and with it all others, has ended.
    pub fn wait(&self) -> ExitStatus {
        let status = self.kernel.end.wait();
        // Makes the guest's stores to shared mappings of host files durable.
        for mount in self.namespace.mounts() {
            if let Err(errno) = mount.fs().sync() {
                log::error!("writing back a {}: {errno}", mount.fs().name());
            }
        }
        if let Some(console) = self.console() {
            console.finish();
        }
        external_process::exit_status(status)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if self.kernel.end.is_over() {
            // The table keeps unreaped zombies, and each of their tasks keeps the kernel alive.
            let zombies = std::mem::take(&mut *self.kernel.processes.lock());
            drop(zombies);
            // Unused names keep their file systems alive, and those the frames of their files.
            self.kernel.vfs.names.forget_unused();
        }
    }
}

/// Makes and opens the terminal of a process.
fn make_console(
    kernel: &Arc<Kernel>,
    namespace: &MountNamespace,
    process: &ProcessSpec,
) -> Result<Option<(Arc<Console>, Arc<FileDescription>)>, BootError> {
    let Some(size) = process.terminal else { return Ok(None) };
    let made = Console::make(kernel, namespace, process, size);
    made.map(Some).map_err(|errno| BootError::Config(format!("making a terminal: {}", errno.text())))
}

/// Opens the descriptors. Those of 0, 1 and 2 that are missing are the terminal, if there is one.
fn give(
    kernel: &Arc<Kernel>,
    mut descriptors: Descriptors,
    terminal: Option<Arc<FileDescription>>,
    files: &Arc<FdTable>,
    changes_trees: bool,
) -> Result<(), BootError> {
    let failed = |fd: i32, errno: Errno| BootError::Config(format!("descriptor {fd}: {}", errno.text()));
    if descriptors.len() < 3 {
        descriptors.resize_with(3, || None);
    }
    for (fd, file) in (0..).zip(descriptors) {
        let description = match (file, &terminal) {
            (Some(file), _) => inherited::open(kernel, file, changes_trees).map_err(|errno| failed(fd, errno))?,
            (None, Some(terminal)) if fd < 3 => terminal.clone(),
            (None, _) => continue,
        };
        debug_assert!(!description.flags().contains(OpenFlags::O_PATH));
        files.replace(fd, description, false, u64::MAX).map_err(|errno| failed(fd, errno))?;
    }
    Ok(())
}
