//! Confinement of Amber's own process, for the day a guest takes the sentry over.
//!
//! Four steps, all before the first instruction of the guest. [`Confinement::enter`], while there is one thread only,
//! makes namespaces. [`Confinement::split`] goes on in a new process, the first of a PID namespace. [`Confinement::prepare`] opens the trees of the host that the guest was given as mounts of their
//! own, from which no `..` leads out, and gives capabilities up. [`Closing::lock_down`], when everything else has been
//! opened, makes an empty directory the root and lets the host refuse every call that is neither on the list of
//! [`amber_host::calls`] nor on that of the platform.

mod capabilities;
mod cut;
mod filter;
mod identity;
mod mapping;
mod namespaces;
mod parameters;
mod reader;
mod root;
mod specification;

use std::fs;
use std::io::{stderr, stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use amber_host::calls::{self, HostCall, Part};
use amber_host::fork::{Half, Kinship, fork};
use amber_host::fs::open_without_links;
use amber_host::trees::{Start, is_directory};
use amber_sentry::config::{MountSource, NetworkKind, SandboxConfig};
use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{SFlag, fstat};

pub use capabilities::{bound_to_serving, keep_signals_only};
pub use mapping::{USERS, map_users};
pub use namespaces::Namespaces;
pub use root::tree;

use root::RootPivot;

/// A tree of the host that the guest sees.
struct Tree {
    path: PathBuf,
    /// What the path led to when the sandbox was prepared. Nothing looks it up again: who can write to a directory above may
    /// exchange what is there at any time.
    file: OwnedFd,
    /// Whether something is made there: by the guest, or places of mounts before it runs.
    writable: bool,
}

impl Tree {
    /// Where it begins, as long as it is no mount of its own.
    fn start(&self) -> Result<Start> {
        if is_directory(&self.file)? {
            return Ok(Start::Directory(self.file.try_clone()?));
        }
        let (parent, name) = self.path.parent().zip(self.path.file_name()).context("has no directory")?;
        Ok(Start::File(open_without_links(parent)?, name.as_bytes().into()))
    }
}

/// What a sandbox needs of the host.
struct Needs {
    trees: Vec<Tree>,
    /// The guest changes some of them.
    changes: bool,
    /// Host sockets serve the guest.
    network: bool,
    /// They are in a network namespace of the sandbox's own.
    own_network: bool,
    /// There is a control socket.
    control: bool,
    /// Some descriptors that the guest begins with may be files of the host.
    handed_files: bool,
}

impl Needs {
    /// Opens the trees of a configuration, whose paths have no symbolic links.
    fn of(config: &SandboxConfig, control: bool) -> Result<Needs> {
        let mut trees: Vec<Tree> = Vec::new();
        for (index, mount) in config.mounts.iter().enumerate() {
            let (path, writable) = match &mount.source {
                MountSource::Host(path) => (path, index == 0 || !mount.read_only),
                MountSource::Overlay(path) => (path, false),
                _ => continue,
            };
            match trees.iter_mut().find(|tree| tree.path == *path) {
                Some(tree) => tree.writable |= writable,
                None => {
                    let file = open_without_links(path).with_context(|| format!("host path {}", path.display()))?;
                    trees.push(Tree { path: path.clone(), file, writable });
                }
            }
        }
        let changes = config.changes_host_files();
        Ok(Needs {
            trees,
            changes,
            network: config.network != NetworkKind::Loopback,
            own_network: config.network == NetworkKind::Namespace,
            control,
            // What a control socket brings later is not known yet.
            handed_files: control || has_regular_stream(),
        })
    }

    /// The host calls of a sandbox on a platform that makes these. They come last, which the filter tries first.
    fn host_calls(&self, platform: &'static [HostCall]) -> Vec<&'static HostCall> {
        let parts = [
            (Part::WritableFiles, self.changes),
            (Part::Network, self.network),
            (Part::OwnNetwork, self.own_network),
            (Part::Control, self.control),
            (Part::HandedFiles, self.handed_files),
        ];
        let parts: Vec<Part> = parts.iter().filter(|(_, needed)| *needed).map(|(part, _)| *part).collect();
        calls::needed(&parts).chain(platform).collect()
    }
}

/// Whether a standard stream of this process is a regular file.
fn has_regular_stream() -> bool {
    let is_regular = |stream: BorrowedFd<'_>| {
        fstat(stream).is_ok_and(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG)
    };
    is_regular(stdin().as_fd()) || is_regular(stdout().as_fd()) || is_regular(stderr().as_fd())
}

/// A process in its namespaces.
#[must_use]
pub struct Confinement {
    /// Whether they are its own; not so where the host allows none.
    inside: bool,
    /// The network namespace is another than at the beginning: one for the sandbox.
    own_network: bool,
    control: bool,
    /// The number of this process outside.
    process: i32,
}

impl Confinement {
    /// Enters namespaces. Must be called before this process has a second thread.
    ///
    /// # Errors
    /// The host forbids what is demanded. What it forbids otherwise is logged.
    pub fn enter(namespaces: Namespaces) -> Result<Confinement> {
        let before = network_namespace();
        let inside = match namespaces.enter() {
            Err(error) if !namespaces.demanded => {
                log::warn!(
                    "confined less than usual, without namespaces and an empty root of its own ({error:#}): should a \
                     guest break out of Amber, only the filter of host calls stands between it and the host's files"
                );
                false
            }
            entered => entered.map(|()| true)?,
        };
        let own_network = before.zip(network_namespace()).is_some_and(|(before, after)| before != after);
        // A namespace that is the caller's as well is left as it is.
        if own_network && namespaces.demanded {
            namespaces::ignore_routers_on_loopback();
        }
        Ok(Confinement { inside, own_network, control: false, process: std::process::id() as i32 })
    }

    /// Goes on in a new process, the first of a PID namespace of its own: it can name no process outside. The old one stays
    /// outside. None if there are no such namespaces; then this process is the sandbox. Must be called before it has a
    /// second thread.
    ///
    /// # Errors
    /// The host has no process left.
    pub fn split(&mut self, kinship: Kinship) -> Result<Option<Half>> {
        if !self.inside {
            return Ok(None);
        }
        if let Err(errno) = unshare(CloneFlags::CLONE_NEWPID) {
            log::warn!(
                "confined less than usual, without a PID namespace of its own ({errno}): should a guest break out of \
                 Amber, it can send signals to other processes of this user"
            );
            return Ok(None);
        }
        let half = fork(kinship).context("a process for the sandbox (see `ulimit -u`)")?;
        if let Half::New(number) = half {
            self.process = number;
        }
        Ok(Some(half))
    }

    /// For a sandbox that answers commands.
    pub fn with_control_socket(self) -> Confinement {
        Confinement { control: true, ..self }
    }

    /// Opens the trees of the host that a sandbox has, and puts them into its configuration. Other files of the host can
    /// still be opened by their paths afterwards, but with few capabilities. No thread must have been started before.
    ///
    /// # Errors
    /// Names the tree that cannot be opened.
    pub fn prepare(self, config: &mut SandboxConfig) -> Result<Closing> {
        if self.own_network && config.network == NetworkKind::Host {
            config.network = NetworkKind::Namespace;
        }
        let mut needs = Needs::of(config, self.control)?;
        let of_kernel = reader::take(&mut needs.trees);
        if needs.network {
            parameters::set(&mut config.sysctls, needs.own_network)?;
        }
        if let Err(error) = identity::take(self.process, &needs.trees) {
            log::info!("the sandbox has no user of its own on the host: {error:#}");
        }
        let kept = capabilities::needed(&needs);
        // Before other processes and threads inherit it.
        capabilities::bound(kept).context("giving up capabilities")?;
        let (mut pivot, mut served) = (None, None);
        if self.inside {
            let root;
            (root, config.trees) = root::open(&needs.trees, needs.network, needs.own_network)?;
            if needs.control {
                served = root::served(&root.directory)
                    .inspect_err(|error| log::info!("no /proc for others: {error:#}"))
                    .ok();
            }
            reader::start(of_kernel, Some(&root.directory), self.process, &mut config.trees)?;
            root::finish(&root.directory)?;
            pivot = Some(RootPivot::start(root).context("starting a thread")?);
        } else {
            for tree in &needs.trees {
                config
                    .trees
                    .add(&tree.path, tree.start().with_context(|| format!("host path {}", tree.path.display()))?);
            }
            reader::start(of_kernel, None, self.process, &mut config.trees)?;
        }
        capabilities::keep(kept).context("giving up capabilities")?;
        Ok(Closing { needs, pivot, served })
    }
}

/// Which network namespace this process is in; none if that cannot be told.
fn network_namespace() -> Option<(u64, u64)> {
    let namespace = fs::metadata("/proc/self/ns/net").ok()?;
    Some((namespace.dev(), namespace.ino()))
}

/// A process with few capabilities, to which the host's files are still there.
#[must_use]
pub struct Closing {
    needs: Needs,
    pivot: Option<RootPivot>,
    /// The connection of a file system for those who look in from outside, if there is one.
    pub served: Option<OwnedFd>,
}

impl Closing {
    /// From here on no file of the host can be named, and only calls on the list and those of the platform can be made. `log`
    /// has the line that tells of any other.
    ///
    /// # Errors
    /// The host refuses; the guest must not run.
    pub fn lock_down(self, platform: &'static [HostCall], log: OwnedFd) -> Result<()> {
        if let Some(pivot) = self.pivot {
            pivot.close().context("making an empty root")?;
        }
        filter::install(&self.needs.host_calls(platform), log).context("installing the filter of host calls")
    }
}
