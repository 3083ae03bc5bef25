//! The host's parameters below `/proc/sys/net`, of the network namespace of Amber's process.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::stat::{S_IFDIR, S_IFMT};
use amber_host::fs::{self as files, HostStat};
use amber_host::trees::HostTrees;

use super::bounds::Bounds;
use super::facts::directory;
use crate::net::inet::{ForeignParameter, Parameters};

/// The directory in paths below `/proc/sys`.
const TOP: &str = "net";

/// The maximum size of packets queued for one neighbour if memory is limited, in bytes: three Ethernet packets, as
/// before Linux 3.3.
const UNRESOLVED_BYTES: u64 = 8192;

/// Access to the parameters.
pub(super) struct HostParameters {
    /// `/proc/sys/net`, opened before access is restricted; none without `/proc`.
    top: Option<OwnedFd>,
    /// Whether the guest may change them.
    can_change: bool,
    bounds: Bounds,
}

impl HostParameters {
    /// Opens the directory. The guest may change parameters if the namespace is its own.
    pub(super) fn new(trees: &HostTrees, own: bool) -> Self {
        HostParameters { top: directory(trees, "/proc/sys/net"), can_change: own, bounds: Bounds::default() }
    }

    /// Limits the packets that the host queues for unresolved neighbours, in a namespace of the guest. They are charged
    /// to no socket after theirs is closed, and there can be a thousand such neighbours (arp(7)).
    pub(super) fn shorten_queues(&self) {
        if !self.can_change {
            return;
        }
        for family in ["ipv4", "ipv6"] {
            let neighbours = format!("{TOP}/{family}/neigh");
            // IPv6 may be missing.
            for interface in self.list(&neighbours).unwrap_or_default() {
                let path = format!("{neighbours}/{}/unres_qlen_bytes", interface.name);
                if let Err(errno) = self.lower(&path, UNRESOLVED_BYTES) {
                    log::debug!("{path}: {}", errno.text());
                }
            }
        }
    }

    /// Lowers a parameter to a maximum.
    fn lower(&self, path: &str, most: u64) -> Result<(), Errno> {
        let value = self.read(path)?;
        let value = str::from_utf8(&value).ok().and_then(|text| text.trim().parse::<u64>().ok());
        if value.is_some_and(|value| value > most) { self.write(path, most.to_string().as_bytes()) } else { Ok(()) }
    }

    /// Opens a path, one component at a time.
    fn open(&self, path: &str, flags: OpenFlags) -> Result<OwnedFd, Errno> {
        let mut names = path.split('/');
        if names.next() != Some(TOP) {
            return Err(Errno::ENOENT.here());
        }
        let top = self.top.as_ref().ok_or_else(|| Errno::ENOENT.here())?;
        let mut names = names.peekable();
        if names.peek().is_none() {
            return files::duplicate(top.as_fd());
        }
        let mut file = None::<OwnedFd>;
        while let Some(name) = names.next() {
            if ["", ".", ".."].contains(&name) {
                return Err(Errno::ENOENT.here());
            }
            let last = names.peek().is_none();
            let flags = if last { flags } else { OpenFlags::O_PATH | OpenFlags::O_DIRECTORY };
            let directory = file.as_ref().unwrap_or(top);
            file = Some(files::open_file_at(directory.as_fd(), name.as_bytes(), flags)?);
        }
        file.ok_or_else(|| Errno::ENOENT.here())
    }
}

fn told(name: String, stat: &HostStat) -> ForeignParameter {
    let is_directory = stat.mode & S_IFMT == S_IFDIR;
    ForeignParameter { name, is_directory, permissions: (stat.mode & 0o777) as u16 }
}

impl Parameters for HostParameters {
    fn can_change(&self) -> bool {
        self.can_change
    }

    fn find(&self, path: &str) -> Result<ForeignParameter, Errno> {
        let file = self.open(path, OpenFlags::O_PATH)?;
        let name = path.rsplit('/').next().unwrap_or_default();
        Ok(told(name.to_owned(), &files::stat(file.as_fd())?))
    }

    fn list(&self, path: &str) -> Result<Vec<ForeignParameter>, Errno> {
        let directory = self.open(path, OpenFlags::O_PATH | OpenFlags::O_DIRECTORY)?;
        let mut all = Vec::new();
        for entry in files::list(directory.as_fd())? {
            let Ok(name) = String::from_utf8(entry.name.to_vec()) else { continue };
            // The interface was removed in the meantime.
            let Ok(stat) = files::stat_at(directory.as_fd(), name.as_bytes()) else { continue };
            all.push(told(name, &stat));
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        files::read_to_end(self.open(path, OpenFlags::empty())?.as_fd())
    }

    fn write(&self, path: &str, value: &[u8]) -> Result<(), Errno> {
        if !self.can_change {
            return Err(Errno::EACCES.here());
        }
        let mut file = std::fs::File::from(self.open(path, OpenFlags::O_WRONLY)?);
        let below = path.strip_prefix(TOP).and_then(|below| below.strip_prefix('/')).unwrap_or_default();
        let bounded = self.bounds.check(below, || self.read(path), value)?;
        // A partial write would set another value, so it is written at once.
        file.write(bounded.as_deref().unwrap_or(value)).map(drop).map_err(Errno::from_host)
    }
}
