//! Namespaces: new ones, and existing ones that a bundle names.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use amber_abi::errno::Errno;
use amber_host::socket;
use amber_host::users::{IdRange, Kind as IdKind};
use amber_sentry::config::NetworkKind;
use anyhow::{Context, Result, ensure};
use nix::libc::{AF_INET, IFF_UP, IFNAMSIZ, SIOCSIFFLAGS, SOCK_DGRAM};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{getegid, geteuid};
use rustix::thread::CapabilitySet;

use super::owners::with_stand_in;
use super::{capabilities, mapping};

/// Kinds of namespaces, see namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Users and groups.
    User,
    /// System V IPC and message queues.
    Ipc,
    /// Host name.
    Uts,
    /// Root of the control groups.
    Cgroup,
    /// Interfaces, routes, sockets.
    Network,
}

impl Kind {
    fn flag(self) -> CloneFlags {
        match self {
            Kind::User => CloneFlags::CLONE_NEWUSER,
            Kind::Ipc => CloneFlags::CLONE_NEWIPC,
            Kind::Uts => CloneFlags::CLONE_NEWUTS,
            Kind::Cgroup => CloneFlags::CLONE_NEWCGROUP,
            Kind::Network => CloneFlags::CLONE_NEWNET,
        }
    }
}

/// A namespace for a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Namespace {
    /// A new one.
    New(Kind),
    /// The namespace at a path such as `/proc/1234/ns/net`.
    Of(Kind, PathBuf),
}

/// The namespaces of a sandbox, in addition to a mount namespace.
#[derive(Default)]
pub(crate) struct Namespaces {
    pub(super) list: Vec<Namespace>,
    /// Whether the sandbox must not start without them.
    pub(super) demanded: bool,
    /// The user mappings of a new user namespace. Empty without one, or if it has only the caller.
    pub(super) uids: Vec<IdRange>,
    /// Likewise the group mappings.
    pub(super) gids: Vec<IdRange>,
}

impl Namespaces {
    /// New namespaces of every kind. The network's only for a sandbox that does not use the caller's network, the
    /// users' only for an unprivileged caller.
    pub(crate) fn own(network: NetworkKind) -> Namespaces {
        let mut kinds = vec![Kind::Ipc, Kind::Uts, Kind::Cgroup];
        if network == NetworkKind::Loopback {
            kinds.push(Kind::Network);
        }
        Namespaces { list: kinds.into_iter().map(Namespace::New).collect(), ..Namespaces::default() }
    }

    /// Requires an existing network namespace, such as `/run/netns/NAME`.
    pub(crate) fn join_network(&mut self, path: &Path) {
        self.list.push(Namespace::Of(Kind::Network, path.to_owned()));
        self.demanded = true;
    }

    fn has(&self, wanted: Kind) -> bool {
        self.list.iter().any(|entry| matches!(entry, Namespace::New(kind) | Namespace::Of(kind, _) if *kind == wanted))
    }

    /// Enters all namespaces.
    ///
    /// # Errors
    /// Names the namespace that the host refuses.
    pub(super) fn enter(&self) -> Result<()> {
        // Opened first: entering one may change what paths lead to, and privileges.
        let mut joined = Vec::new();
        for namespace in &self.list {
            if let Namespace::Of(kind, path) = namespace {
                joined.push((*kind, path, File::open(path).with_context(|| format!("namespace {}", path.display()))?));
            }
        }
        joined.sort_by_key(|(kind, ..)| *kind != Kind::User);
        if self.list.contains(&Namespace::New(Kind::User)) {
            mapping::enter(&self.uids, &self.gids)?;
        } else if !self.has(Kind::User) && !capabilities::has(CapabilitySet::SYS_ADMIN) {
            become_alone()?;
        }
        for (kind, path, file) in joined {
            setns(file, kind.flag()).with_context(|| format!("namespace {}", path.display()))?;
        }
        let mut flags = CloneFlags::CLONE_NEWNS;
        for namespace in &self.list {
            if let Namespace::New(kind) = namespace
                && *kind != Kind::User
            {
                flags |= kind.flag();
            }
        }
        unshare(flags).context("new namespaces")?;
        if self.demanded && self.list.contains(&Namespace::New(Kind::Network)) {
            bring_loopback_up().context("the interface lo of a new network namespace")?;
        }
        // Unmounts of the host propagate here, so that nothing stays busy; nothing propagates back.
        let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
        mount(None::<&str>, "/", None::<&str>, slave, None::<&str>).context("cutting mounts off from the host's")
    }
}

/// Brings up the loopback of a new network namespace, which is initially down; runc does the same. See netdevice(7).
fn bring_loopback_up() -> Result<(), Errno> {
    let socket = socket::open(AF_INET as u16, SOCK_DGRAM as u32, 0)?;
    let mut request = [0; socket::IFREQ];
    let (name, flags) = request.split_at_mut(IFNAMSIZ);
    name.iter_mut().zip(*b"lo").for_each(|(to, from)| *to = from);
    flags.iter_mut().zip((IFF_UP as u16).to_ne_bytes()).for_each(|(to, from)| *to = from);
    socket::interface(socket.as_fd(), SIOCSIFFLAGS as u32, &mut request)
}

/// Makes the loopback of a network namespace ignore router advertisements. Only processes in the namespace could send
/// them, and the host would keep a route for each prefix, without bound. See ip-sysctl in the kernel's documentation.
pub(super) fn ignore_routers_on_loopback() {
    for name in ["accept_ra", "accept_redirects"] {
        // Without IPv6 or the right to change this, the guest cannot send advertisements either.
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/lo/{name}"), "0");
    }
}

/// Enters a user namespace that has only the caller, with the same ID or the stand-in for it.
fn become_alone() -> Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    ensure!(!uid.is_root(), "root without CAP_SYS_ADMIN");
    let map = |id: u32, kind: IdKind| {
        let own = [IdRange { inside: id, outside: id, count: 1 }];
        mapping::text(&with_stand_in(&own, kind.overflow()), "\n")
    };
    let (uid_map, gid_map) = (map(uid.as_raw(), IdKind::Users), map(gid.as_raw(), IdKind::Groups));
    unshare(CloneFlags::CLONE_NEWUSER).context("a user namespace")?;
    let write = |name: &str, text: String| -> Result<()> {
        let written: io::Result<()> = fs::write(format!("/proc/self/{name}"), text);
        written.with_context(|| format!("/proc/self/{name}"))
    };
    write("setgroups", "deny".into())?;
    write("uid_map", uid_map)?;
    write("gid_map", gid_map)
}
