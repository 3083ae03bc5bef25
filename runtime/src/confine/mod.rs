//! Confinement of Amber's own process, in case a guest takes over the sentry.
//!
//! There are four steps, all before the guest's first instruction. [`Confinement::enter`] makes namespaces, while there
//! is only one thread. [`Confinement::split`] continues in a new process, the first of a PID namespace.
//! [`Confinement::prepare`] opens the guest's host trees as mounts of their own, which `..` does not lead out of, and
//! drops capabilities. [`Closing::lock_down`] comes when everything else has been opened: it makes an empty directory
//! the root, and a seccomp filter refuses every call that is neither on the list of [`amber_host::calls`] nor on that
//! of the platform.

mod capabilities;
mod cut;
mod filter;
mod identity;
mod mapping;
mod namespaces;
mod owners;
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

pub(crate) use capabilities::{bound_to_serving, keep_signals_only};
pub(crate) use mapping::{USERS, map_users};
pub(crate) use namespaces::Namespaces;
pub(crate) use root::tree;

use root::RootPivot;

/// A tree of the host that the guest sees.
struct Tree {
    path: PathBuf,
    /// The file that the path led to when the sandbox was prepared. The path is not looked up again, since its
    /// directories may be changed at any time.
    file: OwnedFd,
    /// Whether files are created there, by the guest or as mount points.
    writable: bool,
}

impl Tree {
    /// The start of the tree, before it is a mount of its own.
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
    /// The guest can write to some of the trees.
    changes: bool,
    /// The guest uses host sockets.
    network: bool,
    /// The sockets are in a network namespace of the sandbox's own.
    own_network: bool,
    /// The sandbox has a control socket.
    control: bool,
    /// Some of the guest's initial descriptors may be host files.
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
            // The descriptors that arrive at a control socket are not known yet.
            handed_files: control || has_regular_stream(),
        })
    }

    /// The host calls of a sandbox. Those of the platform come last, since the filter tries the end of the list first.
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
pub(crate) struct Confinement {
    /// Whether the namespaces are the sandbox's own; false if the host allows none.
    inside: bool,
    /// The network namespace is a new one, for the sandbox.
    own_network: bool,
    control: bool,
    /// The process ID outside.
    process: i32,
}

impl Confinement {
    /// Enters namespaces. Must be called with a single thread.
    ///
    /// # Errors
    /// The host forbids a namespace that is required. Others are logged.
    pub(crate) fn enter(namespaces: Namespaces) -> Result<Confinement> {
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
        // A namespace shared with the caller is left unchanged.
        if own_network && namespaces.demanded {
            namespaces::ignore_routers_on_loopback();
        }
        Ok(Confinement { inside, own_network, control: false, process: std::process::id() as i32 })
    }

    /// Continues in a new process, the first of a new PID namespace, from which no process outside can be named. The
    /// old process stays outside. Returns `None` if there are no PID namespaces; this process is then the sandbox. Must
    /// be called with a single thread.
    ///
    /// # Errors
    /// The host has no processes left.
    pub(crate) fn split(&mut self, kinship: Kinship) -> Result<Option<Half>> {
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

    /// Marks the sandbox as having a control socket.
    pub(crate) fn with_control_socket(self) -> Confinement {
        Confinement { control: true, ..self }
    }

    /// Opens the host trees of a sandbox and puts them into its configuration. Other host files can still be opened by
    /// path afterwards, but with few capabilities. Must be called before threads are started.
    ///
    /// # Errors
    /// Names the tree that cannot be opened.
    pub(crate) fn prepare(self, config: &mut SandboxConfig) -> Result<Closing> {
        if self.own_network && config.network == NetworkKind::Host {
            config.network = NetworkKind::Namespace;
        }
        config.id_maps = owners::take();
        let mut needs = Needs::of(config, self.control)?;
        let of_kernel = reader::take(&mut needs.trees);
        if needs.network {
            parameters::set(&mut config.sysctls, needs.own_network)?;
        }
        if let Err(error) = identity::take(self.process, &needs.trees) {
            log::info!("the sandbox has no user of its own on the host: {error:#}");
        }
        let kept = capabilities::needed(&needs);
        // Before other processes and threads inherit them.
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

/// The identity (device and inode) of this process's network namespace, if it can be read.
fn network_namespace() -> Option<(u64, u64)> {
    let namespace = fs::metadata("/proc/self/ns/net").ok()?;
    Some((namespace.dev(), namespace.ino()))
}

/// A process with few capabilities that can still open host files.
#[must_use]
pub(crate) struct Closing {
    needs: Needs,
    pivot: Option<RootPivot>,
    /// The FUSE connection for processes that enter the mount namespace from outside, if there is one.
    pub served: Option<OwnedFd>,
}

impl Closing {
    /// From here on no host file can be named, and only listed calls and those of the platform are allowed. Other calls
    /// are reported on `log`.
    ///
    /// # Errors
    /// The host refuses; the guest must not run.
    pub(crate) fn lock_down(self, platform: &'static [HostCall], log: OwnedFd) -> Result<()> {
        if let Some(pivot) = self.pivot {
            pivot.close().context("making an empty root")?;
        }
        filter::install(&self.needs.host_calls(platform), log).context("installing the filter of host calls")
    }
}
