//! What path walks of a process start from: root, working directory and file mode creation mask.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use amber_abi::errno::Errno;

use crate::sync::{Mutex, Rank};
use crate::vfs::{Mount, MountNamespace, Path};

struct State {
    root: Path,
    cwd: Path,
    umask: u16,
    namespace: Arc<MountNamespace>,
}

/// What `CLONE_FS` shares.
pub struct FsContext {
    state: Mutex<State>,
    /// How many tasks that have it execute a program.
    executing: AtomicUsize,
}

impl FsContext {
    /// At the root of a namespace, with the usual mask.
    pub fn new(namespace: Arc<MountNamespace>) -> Arc<Self> {
        let root = namespace.root().root_path().topmost();
        let state = State { cwd: root.clone(), root, umask: 0o022, namespace };
        Arc::new(FsContext { state: Mutex::new(Rank::Leaf, state), executing: AtomicUsize::new(0) })
    }

    /// A copy for a process of its own.
    pub fn duplicate(&self) -> Arc<Self> {
        let s = self.state.lock();
        let state = State { root: s.root.clone(), cwd: s.cwd.clone(), umask: s.umask, namespace: s.namespace.clone() };
        Arc::new(FsContext { state: Mutex::new(Rank::Leaf, state), executing: AtomicUsize::new(0) })
    }

    /// A copy in a mount namespace of its own, itself a copy (`CLONE_NEWNS`).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn duplicate_with_mounts(&self) -> Result<Arc<Self>, Errno> {
        let copy = self.duplicate();
        let (namespace, copies) = copy.namespace().duplicate()?;
        copy.enter_copy(namespace, &copies);
        Ok(copy)
    }

    /// A task that has it begins to execute a program. The caller holds the lock of the process table.
    pub(crate) fn begin_exec(&self) {
        self.executing.fetch_add(1, Ordering::Relaxed);
    }

    /// That execution is over or has failed.
    pub(crate) fn end_exec(&self) {
        self.executing.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether no new task may share it, since a task that has it executes a program.
    pub(crate) fn is_in_exec(&self) -> bool {
        self.executing.load(Ordering::Relaxed) != 0
    }

    /// Where absolute paths start.
    pub fn root(&self) -> Path {
        self.state.lock().root.clone()
    }

    /// Where relative paths start.
    pub fn cwd(&self) -> Path {
        self.state.lock().cwd.clone()
    }

    /// Root and working directory at one moment.
    pub fn root_and_cwd(&self) -> (Path, Path) {
        let state = self.state.lock();
        (state.root.clone(), state.cwd.clone())
    }

    /// chroot(2).
    pub fn set_root(&self, root: Path) {
        let old = std::mem::replace(&mut self.state.lock().root, root);
        drop(old);
    }

    /// chdir(2).
    pub fn set_cwd(&self, cwd: Path) {
        let old = std::mem::replace(&mut self.state.lock().cwd, cwd);
        drop(old);
    }

    /// The permissions that new files do not get.
    pub fn umask(&self) -> u16 {
        self.state.lock().umask
    }

    /// Replaces the mask and returns the old one.
    pub fn set_umask(&self, umask: u16) -> u16 {
        std::mem::replace(&mut self.state.lock().umask, umask & 0o777)
    }

    /// The mounts it sees.
    pub fn namespace(&self) -> Arc<MountNamespace> {
        self.state.lock().namespace.clone()
    }

    /// Moves to a namespace copied from its own: `copies` says what became of each mount.
    pub fn enter_copy(&self, namespace: Arc<MountNamespace>, copies: &HashMap<u64, Arc<Mount>>) {
        let moved = |path: &Path| match copies.get(&path.mount.unique_id) {
            Some(mount) => Path { mount: mount.clone(), dentry: path.dentry.clone() },
            None => path.clone(),
        };
        let mut state = self.state.lock();
        let new = State { root: moved(&state.root), cwd: moved(&state.cwd), umask: state.umask, namespace };
        let old = std::mem::replace(&mut *state, new);
        drop(state);
        drop(old);
    }

    /// Where its root or working directory is `old`, it becomes `new` (pivot_root(2)).
    pub fn replace(&self, old: &Path, new: &Path) {
        let mut state = self.state.lock();
        let mut gone = Vec::new();
        if state.root.is(old) {
            gone.push(std::mem::replace(&mut state.root, new.clone()));
        }
        if state.cwd.is(old) {
            gone.push(std::mem::replace(&mut state.cwd, new.clone()));
        }
        drop(state);
        drop(gone);
    }
}
