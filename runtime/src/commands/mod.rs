//! The commands, one per file.

mod create;
mod delete;
pub(crate) mod r#do;
mod events;
mod exec;
mod features;
mod host_calls;
mod install;
mod kill;
mod list;
mod pause;
mod ps;
mod resume;
mod run;
mod spec;
mod start;
mod state;
mod syscalls;
mod update;

use amber_sentry::config::NetworkKind;
use amber_sentry::profile::KernelProfile;
use anyhow::{Context, Result, bail};

use crate::caller::Caller;
use crate::cli::{Command, GlobalArgs, Network};
use crate::oci::Runtime;
use crate::{launch, print};

/// Runs a command and returns the exit status.
///
/// # Errors
/// Why the command failed. Messages that container engines parse are worded as runc's.
pub(crate) fn command(command: Command, global: &GlobalArgs) -> Result<u8> {
    let release = global.kernel.as_deref();
    let profile = match release {
        Some(text) => KernelProfile::new(text)
            .with_context(|| format!("--kernel {text}: write a release of Linux, such as 6.12 or 5.10.234"))?,
        None => KernelProfile::default(),
    };
    let runtime = || Runtime::new(global, profile.clone());
    let done = |()| 0;
    match command {
        Command::Do(args) => {
            let caller = Caller::take_over()?;
            let mut config = r#do::sandbox(args, profile, &caller)?;
            if global.network != Network::None {
                config.network = NetworkKind::Host;
            }
            launch::launch(config, global)
        }
        Command::HostCalls(args) => print(&host_calls::print(args.format, global.platform)),
        Command::Syscalls(args) => print(&syscalls::print(args.format, release.map(|_| profile.release()))),
        Command::Install(args) => install::install(&args),
        Command::Uninstall(args) => install::uninstall(&args),
        Command::Create(args) => create::command(&runtime(), &args).context("amber create failed").map(done),
        Command::Run(args) => run::command(&runtime(), &args).context("amber run failed"),
        Command::Start(args) => start::command(&runtime(), &args.id, None).map(done),
        Command::State(args) => state::command(&runtime(), &args.id),
        Command::Kill(args) => kill::command(&runtime(), &args).map(done),
        Command::Delete(args) => delete::command(&runtime(), &args.id, args.force).map(done),
        Command::Exec(args) => exec::command(&runtime(), &args).context("exec failed"),
        Command::Ps(args) => ps::command(&runtime(), &args),
        Command::List(args) => list::command(&runtime(), &args),
        Command::Pause(args) => pause::command(&runtime(), &args.id).map(done),
        Command::Resume(args) => resume::command(&runtime(), &args.id).map(done),
        Command::Events(args) => events::command(&runtime(), &args),
        Command::Update(args) => update::command(&runtime(), &args).map(done),
        Command::Spec(args) => spec::command(&args).map(done),
        Command::Features => features::command(),
        Command::Checkpoint(_) => bail!("checkpoint is not supported yet: Amber cannot save a container"),
        Command::Restore(_) => bail!("restore is not supported yet: Amber cannot save a container"),
    }
}
