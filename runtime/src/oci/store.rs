//! The state directory: a directory for each container, with `state.json` and the control socket.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::state::{State, Status};
use crate::bundle::check_id;

const STATE: &str = "state.json";
const CONTROL: &str = "control";
const PROXIES: &str = "proxies";

/// The containers in a state directory.
pub(crate) struct Store {
    root: PathBuf,
}

/// The directory of one container. Changes require its lock.
pub(crate) struct Container {
    path: PathBuf,
    directory: File,
}

/// A locked container.
pub(crate) struct Locked {
    container: Container,
    _lock: Flock<File>,
}

impl Store {
    /// The containers below a directory, which need not exist.
    pub(crate) fn new(root: PathBuf) -> Store {
        Store { root }
    }

    /// Creates and locks the directory of a new container.
    ///
    /// # Errors
    /// The name is in use or invalid, or the directory cannot be created.
    pub(crate) fn create(&self, id: &str) -> Result<Locked> {
        check_id(id).context("invalid container ID format")?;
        let shown = || format!("state directory {}", self.root.display());
        DirBuilder::new().recursive(true).mode(0o711).create(&self.root).with_context(shown)?;
        // Serialized, so that a new directory without a lock is not taken for an abandoned one.
        let root = File::open(&self.root).with_context(shown)?;
        let _making = Flock::lock(root, FlockArg::LockExclusive).map_err(|(_, errno)| errno).with_context(shown)?;
        let path = self.root.join(id);
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // Left behind by a `create` that was killed.
                let left = self.open(id).ok().and_then(|container| container.try_lock().ok().flatten());
                match left {
                    Some(locked) if locked.is_abandoned() => {
                        super::removal::clear_away(locked)?;
                        DirBuilder::new().mode(0o700).create(&path).with_context(|| path.display().to_string())?;
                    }
                    _ => bail!("container with given ID already exists"),
                }
            }
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        }
        Container::open(&path).with_context(|| path.display().to_string())?.lock()
    }

    /// Opens the directory of a container.
    ///
    /// # Errors
    /// There is no such container.
    pub(crate) fn open(&self, id: &str) -> Result<Container> {
        check_id(id).context("invalid container ID format")?;
        let path = self.root.join(id);
        Container::open(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => anyhow!("container does not exist"),
            _ => anyhow!("{}: {error}", path.display()),
        })
    }

    /// Opens a container and reads its state.
    ///
    /// # Errors
    /// There is no such container.
    pub(crate) fn load(&self, id: &str) -> Result<(Container, State)> {
        let container = self.open(id)?;
        let state = container.state()?;
        Ok((container, state))
    }

    /// The names of all containers, sorted.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let shown = || format!("state directory {}", self.root.display());
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(shown)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.with_context(shown)?.file_name();
            names.extend(name.into_string().ok().filter(|name| check_id(name).is_ok()));
        }
        names.sort();
        Ok(names)
    }
}

impl Container {
    fn open(path: &Path) -> io::Result<Container> {
        let directory = File::options().read(true).custom_flags(libc_directory()).open(path)?;
        Ok(Container { path: path.to_owned(), directory })
    }

    /// Reads the state.
    ///
    /// # Errors
    /// The container is being removed, or the file is malformed.
    pub(crate) fn state(&self) -> Result<State> {
        let text = match fs::read(self.path.join(STATE)) {
            Err(error) if error.kind() == ErrorKind::NotFound => bail!("container does not exist"),
            text => text.with_context(|| self.path.display().to_string())?,
        };
        serde_json::from_slice(&text).with_context(|| format!("{}: the state is damaged", self.path.display()))
    }

    /// Waits for the lock.
    ///
    /// # Errors
    /// The container was removed in the meantime.
    pub(crate) fn lock(self) -> Result<Locked> {
        let file = self.directory.try_clone().context("duplicating a descriptor")?;
        let lock = loop {
            match Flock::lock(file.try_clone().context("duplicating a descriptor")?, FlockArg::LockExclusive) {
                Err((_, Errno::EINTR)) => {}
                result => break result.map_err(|(_, errno)| anyhow!("locking {}: {errno}", self.path.display()))?,
            }
        };
        Locked { container: self, _lock: lock }.still_there()
    }

    /// Like [`lock`](Self::lock), but returns none if the lock is held.
    pub(crate) fn try_lock(self) -> Result<Option<Locked>> {
        let file = self.directory.try_clone().context("duplicating a descriptor")?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Locked { container: self, _lock: lock }.still_there().map(Some),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(anyhow!("locking {}: {errno}", self.path.display())),
        }
    }

    /// Whether the lock is held.
    ///
    /// # Errors
    /// The container was removed, or the host has no descriptors left.
    pub(crate) fn is_locked(&self) -> Result<bool> {
        // Opened again, since a lock belongs to an open file description.
        let other = match Container::open(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => bail!("container does not exist"),
            other => other.with_context(|| self.path.display().to_string())?,
        };
        Ok(other.try_lock()?.is_none())
    }

    /// Connects to the sandbox.
    ///
    /// # Errors
    /// The sandbox does not exist any more.
    pub(crate) fn connect(&self) -> io::Result<UnixStream> {
        // Through the descriptor, since a socket's path is limited in length.
        UnixStream::connect(self.near(CONTROL))
    }

    /// Makes the sandbox's socket.
    pub(crate) fn listen(&self) -> io::Result<UnixListener> {
        UnixListener::bind(self.near(CONTROL))
    }

    /// The file that registers proxies of additional processes (see [`super::proxy::end_all`]).
    ///
    /// # Errors
    /// The directory is full or read-only.
    pub(crate) fn proxies(&self) -> io::Result<File> {
        File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(self.near(PROXIES))
    }

    fn near(&self, name: &str) -> PathBuf {
        format!("/proc/self/fd/{}/{name}", self.directory.as_raw_fd()).into()
    }
}

impl Locked {
    fn still_there(self) -> Result<Locked> {
        let links = self.container.directory.metadata().map(|metadata| metadata.nlink());
        if links.unwrap_or(0) == 0 {
            bail!("container does not exist");
        }
        Ok(self)
    }

    /// Whether the creating command ended before it was done.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.state().map_or(true, |state| state.status == Status::Creating)
    }

    /// Writes the state atomically.
    ///
    /// # Errors
    /// The directory is full or read-only.
    pub(crate) fn save(&self, state: &State) -> Result<()> {
        let new = self.path.join("state.json.new");
        let write = || -> io::Result<()> {
            let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&serde_json::to_vec(state)?)?;
            drop(file);
            fs::rename(&new, self.path.join(STATE))
        };
        write().with_context(|| format!("writing {}", self.path.join(STATE).display()))
    }

    /// Removes the directory, and with it the container's name.
    ///
    /// # Errors
    /// The directory is read-only.
    pub(crate) fn remove(self) -> Result<()> {
        let shown = || format!("removing {}", self.path.display());
        fs::remove_dir_all(&self.path).with_context(shown)
    }
}

impl std::ops::Deref for Locked {
    type Target = Container;

    fn deref(&self) -> &Container {
        &self.container
    }
}

fn libc_directory() -> i32 {
    (nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC).bits()
}

/// Writes a file atomically.
///
/// # Errors
/// The directory is missing, full or read-only.
pub(crate) fn write_whole(path: &Path, text: &str) -> Result<()> {
    let name = path.file_name().with_context(|| format!("{}: is no file", path.display()))?;
    let mut new = std::ffi::OsString::from(".");
    new.push(name);
    let new = path.with_file_name(new);
    fs::write(&new, text).and_then(|()| fs::rename(&new, path)).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_once_and_free_again() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().join("deep/er"));
        let locked = store.create("a").unwrap();
        let error = |result: Result<Locked>| format!("{:#}", result.err().unwrap());
        assert!(error(store.create("a")).contains("already exists"));
        assert_eq!(store.names().unwrap(), ["a"]);
        let waiting = store.open("a").unwrap();
        locked.remove().unwrap();
        assert!(error(waiting.lock()).contains("does not exist"));
        assert!(store.open("a").is_err());
        store.create("a").unwrap();
    }

    #[test]
    fn hostile_names_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().join("root"));
        for name in ["../x", "", ".", "..", "a/b", "a b", "a\0b", "ä"] {
            assert!(store.create(name).is_err() && store.open(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn what_a_killed_create_left_is_taken_over() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().into());
        drop(store.create("a").unwrap());
        assert!(store.load("a").is_err());
        let locked = store.create("a").unwrap();
        locked.connect().unwrap_err();
    }

    #[test]
    fn control_sockets_work_below_long_paths() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().join("d".repeat(200)));
        let locked = store.create(&"x".repeat(100)).unwrap();
        let listener = locked.listen().unwrap();
        locked.connect().unwrap();
        listener.accept().unwrap();
    }
}
