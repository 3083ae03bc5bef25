//! A terminal for a process started from outside: the process has the slave, and the sandbox's operator the master.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::poll::PollEvents;
use amber_abi::termios::Winsize;

use super::master::MasterFile;
use super::pty::Pty;
use crate::config::ProcessSpec;
use crate::kernel::Kernel;
use crate::sync::{Mutex, Rank};
use crate::task::ControllingTerminal;
use crate::tty::devpts::{self, DevPts};
use crate::vfs::{File, FileDescription, Mount, MountNamespace, Path};
use crate::wait::{Parker, Waiter};

/// The master of such a terminal, for host threads.
pub struct Console {
    pty: Arc<Pty>,
    /// None after the hang-up.
    master: Mutex<Option<Arc<MasterFile>>>,
    /// Whether no guest process is left that could write to the terminal.
    finished: AtomicBool,
}

impl Console {
    /// Makes the terminal of a process in the first mounted devpts, and opens its slave.
    ///
    /// # Errors
    /// Errors of making and opening the pair.
    pub(crate) fn make(
        kernel: &Arc<Kernel>,
        namespace: &MountNamespace,
        process: &ProcessSpec,
        size: (u16, u16),
    ) -> Result<(Arc<Console>, Arc<FileDescription>), Errno> {
        let mounted = namespace.mounts().into_iter().find_map(|mount| {
            let root = mount.root_path();
            Some((DevPts::at(&root)?, root))
        });
        let (instance, root) = match mounted {
            Some(found) => found,
            None => {
                let root = Mount::internal(&kernel.vfs, devpts::make(kernel, "")?).root_path();
                (DevPts::at(&root).ok_or_else(|| Errno::EIO.here())?, root)
            }
        };
        let ptmx = root.dentry.lookup(b"ptmx")?.inode()?.clone();
        let user = &process.user;
        let master = instance.new_pair(kernel, user.uid, user.gid, ptmx, Some(root.clone()))?;
        let pty = master.pty().clone();
        pty.lock().locked = false;
        let (ws_row, ws_col) = size;
        pty.resize(Winsize { ws_row, ws_col, ..Winsize::default() });
        let dentry = root.dentry.lookup(pty.index().to_string().as_bytes())?;
        let slave = pty.open_slave(dentry.inode()?.clone(), true)?;
        let path = Path { mount: root.mount, dentry };
        let description =
            FileDescription::new(&kernel.vfs, slave, Some(path), OpenFlags::O_RDWR | OpenFlags::O_LARGEFILE);
        let master = Mutex::new(Rank::Leaf, Some(master));
        Ok((Arc::new(Console { pty, master, finished: AtomicBool::new(false) }), description))
    }

    /// The pair.
    pub(crate) fn pty(&self) -> &Arc<Pty> {
        &self.pty
    }

    /// Waits for output of the guest and reads it. Returns 0 once no guest process is left.
    pub fn read(&self, buf: &mut [u8]) -> usize {
        self.wait(|master| {
            // Loaded before the read, so that output written before the end is returned first.
            let finished = self.finished.load(Ordering::Acquire);
            // If no process has the slave open (EIO), one may open it again.
            master.read_screen(buf).ok().or(finished.then_some(0))
        })
    }

    /// Writes input, and waits while the input queue is full. Returns 0 after the hang-up.
    pub fn write(&self, buf: &[u8]) -> usize {
        self.wait(|master| match master.write_at(buf, 0) {
            Err(Errno::EAGAIN) if self.finished.load(Ordering::Acquire) => Some(0),
            Err(Errno::EAGAIN) => None,
            answer => Some(answer.unwrap_or(0)),
        })
    }

    fn wait(&self, mut attempt: impl FnMut(&MasterFile) -> Option<usize>) -> usize {
        let parker = Arc::new(Parker::default());
        let waiter: Arc<dyn Waiter> = parker.clone();
        let waiter: Weak<dyn Waiter> = Arc::downgrade(&waiter);
        let mut registration = None;
        loop {
            let Some(master) = self.master.lock().clone() else { return 0 };
            if let Some(answer) = attempt(&master) {
                return answer;
            }
            if registration.is_none() {
                // Retry after registering, so that no event in between is missed.
                registration = master.wait_queue().map(|q| q.register(waiter.clone(), PollEvents::all(), 0));
                continue;
            }
            drop(master);
            parker.park(None);
        }
    }

    /// Sets the window size, of which the guest is notified by SIGWINCH.
    pub fn resize(&self, window: Winsize) {
        self.pty.resize(window);
    }

    /// Closes the master, which hangs up the guest's terminal.
    pub fn hang_up(&self) {
        let master = self.master.lock().take();
        drop(master);
        self.pty.wake_both();
    }

    /// The controlling terminal for a session.
    pub(crate) fn terminal(&self) -> Arc<dyn ControllingTerminal> {
        self.pty.clone()
    }

    /// Notes that no guest process is left: readers get the remaining output, then the end.
    pub fn finish(&self) {
        self.finished.store(true, Ordering::Release);
        self.pty.wake_both();
    }
}
