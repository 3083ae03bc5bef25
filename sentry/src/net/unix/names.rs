//! Names of AF_UNIX sockets: paths and abstract names.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use amber_abi::errno::Errno;
use amber_abi::socket::{AddressFamily, SocketKind, UNIX_PATH_MAX};
use amber_abi::stat::FileType;

use super::UnixSocket;
use super::graph::{Graph, SocketsInFlight};
use crate::sync::{Mutex, Rank};
use crate::task::TaskContext;
use crate::vfs::access::{self, Access};
use crate::vfs::namei::{self, Creation};
use crate::vfs::walk::Scope;
use crate::vfs::{FileDescription, Inode, Path};

/// The name of a bound socket.
#[derive(Clone)]
pub(crate) enum UnixName {
    /// A path as passed to bind(2), and the inode that was made.
    Path(Vec<u8>, Arc<dyn Inode>),
    /// An abstract name, without the leading zero byte.
    Abstract(Vec<u8>),
}

impl UnixName {
    /// The socket address.
    pub(crate) fn address(&self) -> Vec<u8> {
        let mut address = unnamed();
        match self {
            UnixName::Path(path, _) => {
                address.extend_from_slice(path);
                address.push(0);
            }
            UnixName::Abstract(name) => {
                address.push(0);
                address.extend_from_slice(name);
            }
        }
        address
    }
}

/// The address of an unbound socket: only the family.
pub(super) fn unnamed() -> Vec<u8> {
    AddressFamily::AF_UNIX.raw().to_ne_bytes().to_vec()
}

/// The kind of an address.
pub(super) enum Named {
    /// No name: bind(2) chooses an abstract name.
    Nothing,
    /// A path.
    Path(Vec<u8>),
    /// An abstract name.
    Abstract(Vec<u8>),
}

/// Parses an address.
///
/// # Errors
/// `EINVAL` for a wrong family or length.
pub(super) fn parse(address: &[u8]) -> Result<Named, Errno> {
    let (family, name) = address.split_first_chunk().ok_or_else(|| Errno::EINVAL.here())?;
    if u16::from_ne_bytes(*family) != AddressFamily::AF_UNIX.raw() || name.len() > UNIX_PATH_MAX {
        return Err(Errno::EINVAL.here());
    }
    Ok(match name {
        [] => Named::Nothing,
        [0, rest @ ..] => Named::Abstract(rest.to_vec()),
        path => Named::Path(path.split(|&b| b == 0).next().unwrap_or_default().to_vec()),
    })
}

/// The highest automatic name; automatic names are numbers.
const LAST_NAME: u32 = 0xfffff;

type Key = (u64, u64);
/// Each socket type has its own abstract names.
type AbstractKey = (u32, Vec<u8>);

/// All sockets of a sandbox and their names.
pub(crate) struct UnixNames {
    abstract_names: Mutex<HashMap<AbstractKey, Weak<UnixSocket>>>,
    paths: Mutex<HashMap<Key, Weak<UnixSocket>>>,
    all: Mutex<BTreeMap<u64, Weak<UnixSocket>>>,
    next: AtomicU64,
    /// The graph of sockets in each other's queues.
    graph: Arc<Graph>,
    /// The cost of a collection that is paid for, in sockets visited.
    owed: AtomicUsize,
    /// Whether a collection was requested since the last one began.
    collection_asked: AtomicBool,
    /// The start of the search for an automatic name.
    next_name: AtomicU32,
    /// Held by the collecting thread. It is outside the lock order: a thread that waits for it holds no lock.
    collection: parking_lot::Mutex<()>,
}

impl Default for UnixNames {
    fn default() -> Self {
        UnixNames {
            abstract_names: Mutex::new(Rank::Leaf, HashMap::new()),
            paths: Mutex::new(Rank::Leaf, HashMap::new()),
            all: Mutex::new(Rank::Leaf, BTreeMap::new()),
            next: AtomicU64::new(1),
            graph: Arc::default(),
            owed: AtomicUsize::new(0),
            collection_asked: AtomicBool::new(false),
            next_name: AtomicU32::new(0),
            collection: parking_lot::Mutex::new(()),
        }
    }
}

fn key(inode: &dyn Inode) -> Result<Key, Errno> {
    let metadata = inode.metadata()?;
    Ok((metadata.device.raw(), metadata.number))
}

fn scope(ctx: &TaskContext) -> (Arc<crate::credentials::Credentials>, Path, Path) {
    let (root, cwd) = ctx.fs().root_and_cwd();
    (ctx.credentials(), root, cwd)
}

impl UnixNames {
    /// Binds a socket to an address and returns the name.
    ///
    /// # Errors
    /// `EADDRINUSE` for a name in use; errors of mknod(2) for paths.
    pub(crate) fn bind(&self, ctx: &TaskContext, socket: &Arc<UnixSocket>, address: &[u8]) -> Result<UnixName, Errno> {
        match parse(address)? {
            Named::Nothing => self.bind_automatically(socket),
            Named::Abstract(name) => self.bind_abstract(socket, name),
            Named::Path(path) => {
                let (credentials, root, cwd) = scope(ctx);
                let scope = Scope { start: cwd, ..Scope::kernel(&credentials, root) };
                let creation = Creation::plain(FileType::Socket, 0o777, ctx.fs().umask());
                let place = namei::create(&credentials, &scope.parent(&path)?, &creation)
                    .map_err(|errno| if errno == Errno::EEXIST { Errno::EADDRINUSE.here() } else { errno })?;
                let inode = place.inode()?.clone();
                let key = key(&*inode)?;
                self.paths.lock().insert(key, Arc::downgrade(socket));
                Ok(UnixName::Path(path, inode))
            }
        }
    }

    fn bind_abstract(&self, socket: &Arc<UnixSocket>, name: Vec<u8>) -> Result<UnixName, Errno> {
        let mut names = self.abstract_names.lock();
        let key = (socket.kind.raw(), name.clone());
        if names.get(&key).is_some_and(|holder| holder.strong_count() > 0) {
            return Err(Errno::EADDRINUSE.here());
        }
        names.insert(key, Arc::downgrade(socket));
        Ok(UnixName::Abstract(name))
    }

    /// Binds a socket to an unused name of five hexadecimal digits, in Linux' format.
    ///
    /// # Errors
    /// `ENOSPC` if all are in use.
    pub(super) fn bind_automatically(&self, socket: &Arc<UnixSocket>) -> Result<UnixName, Errno> {
        let mut names = self.abstract_names.lock();
        // Names in use are consecutive, so the search continues after the last one chosen.
        let first = self.next_name.load(Ordering::Relaxed);
        for number in (0..=LAST_NAME).map(|step| (first + step) & LAST_NAME) {
            let name = format!("{number:05x}").into_bytes();
            let key = (socket.kind.raw(), name.clone());
            if names.get(&key).is_none_or(|holder| holder.strong_count() == 0) {
                names.insert(key, Arc::downgrade(socket));
                self.next_name.store((number + 1) & LAST_NAME, Ordering::Relaxed);
                return Ok(UnixName::Abstract(name));
            }
        }
        Err(Errno::ENOSPC.here())
    }

    /// Finds the socket with an address.
    ///
    /// # Errors
    /// `ECONNREFUSED` if there is none; `EPROTOTYPE` for another socket type; errors of path resolution; `EACCES`
    /// without write permission.
    pub(crate) fn find(&self, ctx: &TaskContext, kind: SocketKind, address: &[u8]) -> Result<Arc<UnixSocket>, Errno> {
        let found = match parse(address)? {
            Named::Nothing => return Err(Errno::EINVAL.here()),
            Named::Abstract(name) => self.abstract_names.lock().get(&(kind.raw(), name)).and_then(Weak::upgrade),
            Named::Path(path) => {
                let (credentials, root, cwd) = scope(ctx);
                let scope = Scope { start: cwd, ..Scope::kernel(&credentials, root) };
                let place = scope.resolve(&path, true)?;
                access::check_path(&credentials, &place, Access::WRITE)?;
                let inode = place.inode()?;
                if inode.kind() != FileType::Socket {
                    return Err(Errno::ECONNREFUSED.here());
                }
                let key = key(&**inode)?;
                self.paths.lock().get(&key).and_then(Weak::upgrade)
            }
        };
        let found = found.filter(|socket| !socket.is_closed()).ok_or_else(|| Errno::ECONNREFUSED.here())?;
        if found.kind == kind { Ok(found) } else { Err(Errno::EPROTOTYPE.here()) }
    }

    /// Releases the name of a closed socket. An accepted socket has its listener's name without owning it.
    pub(super) fn release(&self, socket: &UnixSocket, name: &UnixName) {
        let is_own = |holder: Option<&Weak<UnixSocket>>| holder.is_some_and(|h| std::ptr::eq(h.as_ptr(), socket));
        match name {
            UnixName::Abstract(name) => {
                let key = (socket.kind.raw(), name.clone());
                let mut names = self.abstract_names.lock();
                if is_own(names.get(&key)) {
                    names.remove(&key);
                }
            }
            UnixName::Path(_, inode) => {
                if let Ok(key) = key(&**inode) {
                    let mut paths = self.paths.lock();
                    if is_own(paths.get(&key)) {
                        paths.remove(&key);
                    }
                }
            }
        }
    }

    /// A unique number for a socket.
    pub(super) fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds a socket to the list.
    pub(super) fn enter(&self, id: u64, socket: &Arc<UnixSocket>) {
        self.all.lock().insert(id, Arc::downgrade(socket));
    }

    /// Removes a socket from the list.
    pub(super) fn leave(&self, id: u64) {
        self.all.lock().remove(&id);
    }

    /// At most `most` sockets from a number on, oldest first, and the number to continue at if there may be more.
    pub(crate) fn some(&self, from: u64, most: usize) -> (Vec<Arc<UnixSocket>>, Option<u64>) {
        let all = self.all.lock();
        let some = all.range(from..).take(most);
        let next = some.clone().last().map(|(number, _)| number + 1);
        (some.filter_map(|(_, socket)| socket.upgrade()).collect(), next)
    }

    /// All sockets, oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<UnixSocket>> {
        self.all.lock().values().filter_map(Weak::upgrade).collect()
    }

    /// The sockets of this family among the files, to be noted while they are in flight.
    pub(crate) fn sockets_among(&self, files: &[Arc<FileDescription>]) -> SocketsInFlight {
        SocketsInFlight::among(files, &self.graph)
    }

    /// The graph of sockets in each other's queues.
    pub(super) fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// Adds to the cost that is paid for and returns the sum.
    pub(super) fn owe(&self, more: usize) -> usize {
        self.owed.fetch_add(more, Ordering::Relaxed).saturating_add(more)
    }

    /// Resets the cost after a complete collection.
    pub(super) fn settle(&self) {
        self.owed.store(0, Ordering::Relaxed);
    }

    /// Requests a collection, or another one if one is in progress.
    pub(super) fn ask_for_collection(&self) {
        self.collection_asked.store(true, Ordering::SeqCst);
    }

    /// Whether a collection was requested.
    pub(super) fn is_collection_asked(&self) -> bool {
        self.collection_asked.load(Ordering::SeqCst)
    }

    /// Clears the request before a search begins, and returns whether there was one.
    pub(super) fn answer_request(&self) -> bool {
        self.collection_asked.swap(false, Ordering::SeqCst)
    }

    /// Excludes other collecting threads; none if another one collects for longer than `patience`.
    pub(super) fn begin_collection(&self, patience: Duration) -> Option<parking_lot::MutexGuard<'_, ()>> {
        self.collection.try_lock_for(patience)
    }
}
