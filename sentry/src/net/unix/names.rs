//! Names of AF_UNIX sockets: paths and abstract names.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::socket::{AddressFamily, UNIX_PATH_MAX};
use amber_abi::stat::FileType;

use super::UnixSocket;
use crate::fs::access::{self, Access};
use crate::fs::change::{self, Creation};
use crate::fs::walk::Scope;
use crate::fs::{Inode, Path};
use crate::sync::{Mutex, Rank};
use crate::task::TaskContext;

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
    let family = address.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes)).ok_or(Errno::EINVAL)?;
    let name = &address[2..];
    if family != AddressFamily::AF_UNIX.raw() || name.len() > UNIX_PATH_MAX {
        return Err(Errno::EINVAL);
    }
    Ok(match name {
        [] => Named::Nothing,
        [0, rest @ ..] => Named::Abstract(rest.to_vec()),
        path => Named::Path(path.split(|&b| b == 0).next().unwrap_or_default().to_vec()),
    })
}

type Key = (u64, u64);

/// All names of a sandbox.
pub struct UnixNames {
    abstract_names: Mutex<HashMap<Vec<u8>, Weak<UnixSocket>>>,
    paths: Mutex<HashMap<Key, Weak<UnixSocket>>>,
}

impl Default for UnixNames {
    fn default() -> Self {
        UnixNames {
            abstract_names: Mutex::new(Rank::Leaf, HashMap::new()),
            paths: Mutex::new(Rank::Leaf, HashMap::new()),
        }
    }
}

fn key(inode: &dyn Inode) -> Result<Key, Errno> {
    let metadata = inode.metadata()?;
    Ok((metadata.device.raw(), metadata.number))
}

fn scope(ctx: &TaskContext) -> (Arc<crate::task::Credentials>, Path, Path) {
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
                let place = change::create(&credentials, &scope.parent(&path)?, &creation)
                    .map_err(|errno| if errno == Errno::EEXIST { Errno::EADDRINUSE } else { errno })?;
                let inode = place.inode()?.clone();
                let key = key(&*inode)?;
                self.paths.lock().insert(key, Arc::downgrade(socket));
                Ok(UnixName::Path(path, inode))
            }
        }
    }

    fn bind_abstract(&self, socket: &Arc<UnixSocket>, name: Vec<u8>) -> Result<UnixName, Errno> {
        let mut names = self.abstract_names.lock();
        if names.get(&name).is_some_and(|holder| holder.strong_count() > 0) {
            return Err(Errno::EADDRINUSE);
        }
        names.insert(name.clone(), Arc::downgrade(socket));
        Ok(UnixName::Abstract(name))
    }

    /// A name of five hexadecimal digits nobody has, as Linux chooses it.
    fn bind_automatically(&self, socket: &Arc<UnixSocket>) -> Result<UnixName, Errno> {
        let mut names = self.abstract_names.lock();
        for number in 0..=0xfffffu32 {
            let name = format!("{number:05x}").into_bytes();
            if names.get(&name).is_none_or(|holder| holder.strong_count() == 0) {
                names.insert(name.clone(), Arc::downgrade(socket));
                return Ok(UnixName::Abstract(name));
            }
        }
        Err(Errno::ENOSPC)
    }

    /// Finds the socket an address names.
    ///
    /// # Errors
    /// `ECONNREFUSED` if nobody has the name, those of path resolution, `EACCES` without write permission.
    pub fn find(&self, ctx: &TaskContext, address: &[u8]) -> Result<Arc<UnixSocket>, Errno> {
        let found = match parse(address)? {
            Named::Nothing => return Err(Errno::EINVAL),
            Named::Abstract(name) => self.abstract_names.lock().get(&name).and_then(Weak::upgrade),
            Named::Path(path) => {
                let (credentials, root, cwd) = scope(ctx);
                let scope = Scope { start: cwd, ..Scope::kernel(&credentials, root) };
                let place = scope.resolve(&path, true)?;
                access::check_path(&credentials, &place, Access::WRITE)?;
                let inode = place.inode()?;
                if inode.kind() != FileType::Socket {
                    return Err(Errno::ECONNREFUSED);
                }
                let key = key(&**inode)?;
                self.paths.lock().get(&key).and_then(Weak::upgrade)
            }
        };
        found.filter(|socket| !socket.is_closed()).ok_or(Errno::ECONNREFUSED)
    }

    /// A socket that is bound to a name is closed.
    pub fn release(&self, name: &UnixName) {
        match name {
            UnixName::Abstract(name) => {
                self.abstract_names.lock().remove(name);
            }
            UnixName::Path(_, inode) => {
                if let Ok(key) = key(&**inode) {
                    self.paths.lock().remove(&key);
                }
            }
        }
    }

    /// All sockets that are bound, for `/proc/net/unix`.
    pub fn bound(&self) -> Vec<Arc<UnixSocket>> {
        let mut all: Vec<_> = self.abstract_names.lock().values().filter_map(Weak::upgrade).collect();
        all.extend(self.paths.lock().values().filter_map(Weak::upgrade));
        all
    }
}
