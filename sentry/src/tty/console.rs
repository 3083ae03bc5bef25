//! A terminal whose slave belongs to a process that was started from outside, its master to whoever started it.

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
    /// None once hung up.
    master: Mutex<Option<Arc<MasterFile>>>,
    /// No guest is left that could print anything.
    finished: AtomicBool,
}

impl Console {
    /// Makes the terminal of a process, in the first devpts that is mounted, and opens its slave.
    ///
    /// # Errors
    /// Those of making and opening the pair.
    pub fn make(
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
    pub fn pty(&self) -> &Arc<Pty> {
        &self.pty
    }

    /// Waits for what the guest prints; 0 bytes once no guest is left.
    pub fn read(&self, buf: &mut [u8]) -> usize {
        self.wait(|master| {
            // Looked at first: what was printed before the end is taken before the end is told.
            let finished = self.finished.load(Ordering::Acquire);
            // Where no guest has the terminal open now (EIO), one may open it again.
            master.read_screen(buf).ok().or(finished.then_some(0))
        })
    }

    /// Types at the terminal, waiting while its input queue is full; 0 bytes once it is hung up.
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
                // Tried again after registering, so that nothing between is missed.
                registration = master.wait_queue().map(|q| q.register(waiter.clone(), PollEvents::all(), 0));
                continue;
            }
            drop(master);
            parker.park(None);
        }
    }

    /// Tells the guest of a new size.
    pub fn resize(&self, window: Winsize) {
        self.pty.resize(window);
    }

    /// Tells the guest that its terminal is gone.
    pub fn hang_up(&self) {
        let master = self.master.lock().take();
        drop(master);
        self.pty.wake_both();
    }

    /// The terminal, for the session that it shall control.
    pub(crate) fn terminal(&self) -> Arc<dyn ControllingTerminal> {
        self.pty.clone()
    }

    /// No guest is left: readers get what there is, then the end.
    pub fn finish(&self) {
        self.finished.store(true, Ordering::Release);
        self.pty.wake_both();
    }
}
