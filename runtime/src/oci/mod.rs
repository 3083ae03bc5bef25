//! The machinery of the OCI commands: containers, their state, control groups, hooks and sandboxes.

pub(crate) mod cgroup;
pub(crate) mod console;
pub(crate) mod control;
pub(crate) mod create;
mod hook_streams;
pub(crate) mod hooks;
pub(crate) mod pause;
pub(crate) mod pid_file;
pub(crate) mod preserved_fds;
pub(crate) mod proxy;
mod ps_table;
pub(crate) mod removal;
mod sandbox;
mod serve;
mod start_hooks;
pub(crate) mod state;
pub(crate) mod store;
pub(crate) mod systemd;

use std::env;
use std::path::PathBuf;

use amber_sentry::profile::KernelProfile;
use anyhow::Result;
use nix::unistd::geteuid;

pub(crate) use cgroup::DEFAULT_PERIOD;
pub(crate) use control::{Failure, FailureKind};

use crate::cli::{GlobalArgs, Rootless};
use crate::confine;
use store::Store;
pub(crate) use store::write_whole;

/// The environment variable that selects a role of this program other than a command, by its value.
pub(crate) const ROLE: &str = "AMBER_ROLE";

/// The context of a command.
pub(crate) struct Runtime {
    /// The global flags.
    pub global: GlobalArgs,
    /// The Linux release that guests see.
    pub profile: KernelProfile,
    /// The containers.
    pub store: Store,
}

impl Runtime {
    /// The context for commands with these flags.
    pub(crate) fn new(global: &GlobalArgs, profile: KernelProfile) -> Runtime {
        let root = global.root.clone().unwrap_or_else(default_root);
        Runtime { global: global.clone(), profile, store: Store::new(root) }
    }

    /// Whether permission errors of control groups are ignored.
    pub(crate) fn is_rootless(&self) -> bool {
        match self.global.rootless {
            Rootless::True => true,
            Rootless::False => false,
            Rootless::Auto => !geteuid().is_root() || in_user_namespace(),
        }
    }
}

fn default_root() -> PathBuf {
    match env::var_os("XDG_RUNTIME_DIR") {
        Some(directory) if is_of_user() && !directory.is_empty() => PathBuf::from(directory).join("amber"),
        _ => PathBuf::from("/run/amber"),
    }
}

/// Whether the runtime directory is an ordinary user's. True also for root in a user namespace, unless $USER is root.
fn is_of_user() -> bool {
    !geteuid().is_root() || in_user_namespace() && env::var_os("USER").is_none_or(|name| name != "root")
}

/// Whether this process is in a user namespace.
fn in_user_namespace() -> bool {
    let Ok(map) = std::fs::read_to_string("/proc/self/uid_map") else { return false };
    map.split_whitespace().ne(["0", "0", "4294967295"])
}

/// Runs the role that [`ROLE`] names. Returns `None` if this process is a command.
pub(crate) fn role() -> Option<Result<u8>> {
    match env::var_os(ROLE)?.to_str() {
        Some("sandbox") => Some(sandbox::main()),
        Some("proxy") => Some(proxy::main()),
        Some(confine::USERS) => Some(confine::map_users().map(|()| 0)),
        _ => None,
    }
}
