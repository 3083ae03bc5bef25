//! The starting points of a process's path walks (root and working directory), and its umask.

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

/// The state shared by `CLONE_FS`.
pub(crate) struct FsContext {
    state: Mutex<State>,
    /// The number of tasks that share it and are in execve(2).
    executing: AtomicUsize,
}

impl FsContext {
    /// Makes a context at the root of a namespace, with the umask 022.
    pub(crate) fn new(namespace: Arc<MountNamespace>) -> Arc<Self> {
        let root = namespace.root().root_path().topmost();
        let state = State { cwd: root.clone(), root, umask: 0o022, namespace };
        Arc::new(FsContext { state: Mutex::new(Rank::Leaf, state), executing: AtomicUsize::new(0) })
    }

    /// A copy that is not shared.
    pub(crate) fn duplicate(&self) -> Arc<Self> {
        let s = self.state.lock();
        let state = State { root: s.root.clone(), cwd: s.cwd.clone(), umask: s.umask, namespace: s.namespace.clone() };
        Arc::new(FsContext { state: Mutex::new(Rank::Leaf, state), executing: AtomicUsize::new(0) })
    }

    /// A copy in a copied mount namespace (`CLONE_NEWNS`).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn duplicate_with_mounts(&self) -> Result<Arc<Self>, Errno> {
        let copy = self.duplicate();
        let (namespace, copies) = copy.namespace().duplicate()?;
        copy.enter_copy(namespace, &copies);
        Ok(copy)
    }

    /// Notes that a task that shares it begins execve(2). The caller holds the lock of the process table.
    pub(crate) fn begin_exec(&self) {
        self.executing.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes the end or failure of an execve(2).
    pub(crate) fn end_exec(&self) {
        self.executing.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a task that shares it is in execve(2), so that no new task may share it.
    pub(crate) fn is_in_exec(&self) -> bool {
        self.executing.load(Ordering::Relaxed) != 0
    }

    /// The root directory, where absolute paths start.
    pub(crate) fn root(&self) -> Path {
        self.state.lock().root.clone()
    }

    /// The working directory, where relative paths start.
    pub(crate) fn cwd(&self) -> Path {
        self.state.lock().cwd.clone()
    }

    /// Root and working directory, read atomically.
    pub(crate) fn root_and_cwd(&self) -> (Path, Path) {
        let state = self.state.lock();
        (state.root.clone(), state.cwd.clone())
    }

    /// Sets the root directory (chroot(2)).
    pub(crate) fn set_root(&self, root: Path) {
        let old = std::mem::replace(&mut self.state.lock().root, root);
        drop(old);
    }

    /// Sets the working directory (chdir(2)).
    pub(crate) fn set_cwd(&self, cwd: Path) {
        let old = std::mem::replace(&mut self.state.lock().cwd, cwd);
        drop(old);
    }

    /// The file mode creation mask (umask(2)).
    pub(crate) fn umask(&self) -> u16 {
        self.state.lock().umask
    }

    /// Replaces the umask and returns the old one.
    pub(crate) fn set_umask(&self, umask: u16) -> u16 {
        std::mem::replace(&mut self.state.lock().umask, umask & 0o777)
    }

    /// The mount namespace.
    pub(crate) fn namespace(&self) -> Arc<MountNamespace> {
        self.state.lock().namespace.clone()
    }

    /// Moves to a copy of its namespace; `copies` maps the unique IDs of the old mounts to their copies.
    pub(crate) fn enter_copy(&self, namespace: Arc<MountNamespace>, copies: &HashMap<u64, Arc<Mount>>) {
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

    /// Replaces the root or working directory by `new` where it is `old` (pivot_root(2)).
    pub(crate) fn replace(&self, old: &Path, new: &Path) {
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
