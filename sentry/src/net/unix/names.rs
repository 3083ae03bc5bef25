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

/// A name a socket is bound to.
#[derive(Clone)]
pub enum UnixName {
    /// A path, as it was given, and the inode it made.
    Path(Vec<u8>, Arc<dyn Inode>),
    /// A name that is no path (the leading zero byte left out).
    Abstract(Vec<u8>),
}

impl UnixName {
    /// The socket address.
    pub fn address(&self) -> Vec<u8> {
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

/// The address of a socket without a name: the family alone.
pub fn unnamed() -> Vec<u8> {
    AddressFamily::AF_UNIX.raw().to_ne_bytes().to_vec()
}

/// What an address names.
pub enum Named {
    /// Nothing: bind(2) chooses an abstract name.
    Nothing,
    /// A path.
    Path(Vec<u8>),
    /// An abstract name.
    Abstract(Vec<u8>),
}

/// Takes an address apart.
///
/// # Errors
/// `EINVAL` for a wrong family or length.
pub fn parse(address: &[u8]) -> Result<Named, Errno> {
    let family = address.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes)).ok_or_else(|| Errno::EINVAL.here())?;
    let name = &address[2..];
    if family != AddressFamily::AF_UNIX.raw() || name.len() > UNIX_PATH_MAX {
        return Err(Errno::EINVAL.here());
    }
    Ok(match name {
        [] => Named::Nothing,
        [0, rest @ ..] => Named::Abstract(rest.to_vec()),
        path => Named::Path(path.split(|&b| b == 0).next().unwrap_or_default().to_vec()),
    })
}

/// The highest of the names that are chosen automatically, which are numbers.
const LAST_NAME: u32 = 0xfffff;

type Key = (u64, u64);
/// Each kind of socket has abstract names of its own.
type AbstractKey = (u32, Vec<u8>);

/// All sockets of a sandbox and their names.
pub struct UnixNames {
    abstract_names: Mutex<HashMap<AbstractKey, Weak<UnixSocket>>>,
    paths: Mutex<HashMap<Key, Weak<UnixSocket>>>,
    all: Mutex<BTreeMap<u64, Weak<UnixSocket>>>,
    next: AtomicU64,
    /// Which sockets lie in the queues of which.
    graph: Arc<Graph>,
    /// What a look for garbage may cost by now, in sockets looked at.
    owed: AtomicUsize,
    /// A socket was closed since the last look for garbage began, or somebody asked for one.
    collection_asked: AtomicBool,
    /// Where the search for an automatic name begins.
    next_name: AtomicU32,
    /// Held by the thread that looks for garbage; outside the order of locks: only those wait for it that hold none.
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
    /// Binds a socket to what an address names, and answers the name.
    ///
    /// # Errors
    /// `EADDRINUSE` for a name that is taken; those of mknod(2) for paths.
    pub fn bind(&self, ctx: &TaskContext, socket: &Arc<UnixSocket>, address: &[u8]) -> Result<UnixName, Errno> {
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

    /// A name of five hexadecimal digits nobody has, as Linux chooses it.
    ///
    /// # Errors
    /// `ENOSPC` if all are taken.
    pub(super) fn bind_automatically(&self, socket: &Arc<UnixSocket>) -> Result<UnixName, Errno> {
        let mut names = self.abstract_names.lock();
        // Those in use are many and lie close together, so the search goes on where the last one ended.
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

    /// Finds the socket an address names.
    ///
    /// # Errors
    /// `ECONNREFUSED` if nobody has the name, `EPROTOTYPE` if another kind of socket has it, those of path resolution,
    /// `EACCES` without write permission.
    pub fn find(&self, ctx: &TaskContext, kind: SocketKind, address: &[u8]) -> Result<Arc<UnixSocket>, Errno> {
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

    /// A socket that bears a name is closed; one that was accepted bears its listener's without holding it.
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

    /// A number that no other socket has.
    pub(super) fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A socket was made.
    pub(super) fn enter(&self, id: u64, socket: &Arc<UnixSocket>) {
        self.all.lock().insert(id, Arc::downgrade(socket));
    }

    /// A socket is gone.
    pub(super) fn leave(&self, id: u64) {
        self.all.lock().remove(&id);
    }

    /// Sockets from a number on, oldest first: `most` of them, and the number to go on from if there may be more.
    pub fn some(&self, from: u64, most: usize) -> (Vec<Arc<UnixSocket>>, Option<u64>) {
        let all = self.all.lock();
        let some = all.range(from..).take(most);
        let next = some.clone().last().map(|(number, _)| number + 1);
        (some.filter_map(|(_, socket)| socket.upgrade()).collect(), next)
    }

    /// All sockets, oldest first.
    pub fn all(&self) -> Vec<Arc<UnixSocket>> {
        self.all.lock().values().filter_map(Weak::upgrade).collect()
    }

    /// Finds those of the files that are sockets of this family, to be noted while they are on their way.
    pub fn sockets_among(&self, files: &[Arc<FileDescription>]) -> SocketsInFlight {
        SocketsInFlight::among(files, &self.graph)
    }

    /// Which sockets lie in the queues of which.
    pub(super) fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// Adds to what a look for garbage may cost by now; answers how much that is.
    pub(super) fn owe(&self, more: usize) -> usize {
        self.owed.fetch_add(more, Ordering::Relaxed).saturating_add(more)
    }

    /// A look for garbage came to its end.
    pub(super) fn settle(&self) {
        self.owed.store(0, Ordering::Relaxed);
    }

    /// Garbage is to be looked for, once more if somebody does already.
    pub(super) fn ask_for_collection(&self) {
        self.collection_asked.store(true, Ordering::SeqCst);
    }

    /// Whether garbage is to be looked for.
    pub(super) fn is_collection_asked(&self) -> bool {
        self.collection_asked.load(Ordering::SeqCst)
    }

    /// What made somebody ask is found by a search that begins now; answers whether anybody asked.
    pub(super) fn answer_request(&self) -> bool {
        self.collection_asked.swap(false, Ordering::SeqCst)
    }

    /// Keeps others from looking for garbage; none if somebody does and goes on doing so for as long as `patience`.
    pub(super) fn begin_collection(&self, patience: Duration) -> Option<parking_lot::MutexGuard<'_, ()>> {
        self.collection.try_lock_for(patience)
    }
}
