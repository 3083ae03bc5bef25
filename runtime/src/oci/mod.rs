//! The commands of an OCI runtime.

mod announce;
mod cgroup;
mod console;
pub mod control;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod freeze;
mod handed;
mod hooks;
mod inside;
mod kill;
mod list;
mod proxy;
mod ps;
mod run;
mod sandbox;
mod serve;
mod spec;
mod start;
mod state;
mod store;
mod systemd;
mod table;
mod update;

use std::env;
use std::path::PathBuf;

use amber_sentry::profile::KernelProfile;
use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;

pub use cgroup::DEFAULT_PERIOD;
pub use control::{Failure, FailureKind};

use crate::cli::{Command, GlobalArgs, Rootless};
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
    fn new(global: &GlobalArgs, profile: KernelProfile) -> Runtime {
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

/// Runs one of the commands of an OCI runtime.
///
/// # Errors
/// In the words of runc, as far as those who call runtimes look at them.
pub fn command(command: Command, global: &GlobalArgs, profile: KernelProfile) -> Result<u8> {
    let runtime = Runtime::new(global, profile);
    let done = |()| 0;
    match command {
        Command::Create(args) => create::command(&runtime, &args).context("amber create failed").map(done),
        Command::Run(args) => run::command(&runtime, &args).context("amber run failed"),
        Command::Start(args) => start::command(&runtime, &args.id).map(done),
        Command::State(args) => list::state(&runtime, &args.id),
        Command::Kill(args) => kill::command(&runtime, &args).map(done),
        Command::Delete(args) => delete::command(&runtime, &args.id, args.force).map(done),
        Command::Exec(args) => exec::command(&runtime, &args).context("exec failed"),
        Command::Ps(args) => ps::command(&runtime, &args),
        Command::List(args) => list::command(&runtime, &args),
        Command::Pause(args) => freeze::pause(&runtime, &args.id).map(done),
        Command::Resume(args) => freeze::resume(&runtime, &args.id).map(done),
        Command::Events(args) => events::command(&runtime, &args),
        Command::Update(args) => update::command(&runtime, &args).map(done),
        Command::Spec(args) => spec::command(&args).map(done),
        Command::Features => features::command(),
        Command::Checkpoint(_) => bail!("checkpoint is not supported yet: Amber cannot save a container"),
        Command::Restore(_) => bail!("restore is not supported yet: Amber cannot save a container"),
        Command::Do(_) | Command::HostCalls(_) | Command::Syscalls(_) | Command::Install(_) | Command::Uninstall(_) => {
            bail!("this is no command of an OCI runtime")
        }
    }
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
