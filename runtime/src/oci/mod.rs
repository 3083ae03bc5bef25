//! What the commands of an OCI runtime work with: containers, their state, control groups, hooks and sandboxes.

pub mod cgroup;
pub mod console;
pub mod control;
pub mod create;
mod hook_streams;
pub mod hooks;
pub mod pause;
pub mod pid_file;
pub mod preserved_fds;
pub mod proxy;
mod ps_table;
pub mod removal;
mod sandbox;
mod serve;
mod start_hooks;
pub mod state;
pub mod store;
pub mod systemd;

use std::env;
use std::path::PathBuf;

use amber_sentry::profile::KernelProfile;
use anyhow::Result;
use nix::unistd::geteuid;

pub use cgroup::DEFAULT_PERIOD;
pub use control::{Failure, FailureKind};

use crate::cli::{GlobalArgs, Rootless};
use crate::confine;
use store::Store;
pub use store::write_whole;

/// The variable that makes this program a part of a container instead of a command: which part, is its value.
pub const ROLE: &str = "AMBER_ROLE";

/// What all commands know.
pub struct Runtime {
    /// The flags of every command.
    pub global: GlobalArgs,
    /// Which Linux guests see.
    pub profile: KernelProfile,
    /// The containers.
    pub store: Store,
}

impl Runtime {
    /// For commands with these flags.
    pub fn new(global: &GlobalArgs, profile: KernelProfile) -> Runtime {
        let root = global.root.clone().unwrap_or_else(default_root);
        Runtime { global: global.clone(), profile, store: Store::new(root) }
    }

    /// Whether errors of control groups are overlooked.
    pub fn is_rootless(&self) -> bool {
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

/// Whether the caller has a runtime directory of an ordinary user. Root of a user namespace has, unless it is called so.
fn is_of_user() -> bool {
    !geteuid().is_root() || in_user_namespace() && env::var_os("USER").is_none_or(|name| name != "root")
}

/// Whether root here is an ordinary user elsewhere.
fn in_user_namespace() -> bool {
    let Ok(map) = std::fs::read_to_string("/proc/self/uid_map") else { return false };
    map.split_whitespace().ne(["0", "0", "4294967295"])
}

/// Runs the part of a container that [`ROLE`] names; none if this process is a command.
pub fn role() -> Option<Result<u8>> {
    match env::var_os(ROLE)?.to_str() {
        Some("sandbox") => Some(sandbox::main()),
        Some("proxy") => Some(proxy::main()),
        Some(confine::USERS) => Some(confine::map_users().map(|()| 0)),
        _ => None,
    }
}
