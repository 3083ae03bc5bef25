//! `amber ps`.

use std::time::Duration;

use amber_host::channel::Channel;
use anyhow::{Context, Result, bail};

use super::control::{Processes, Reply, Request, ask};
use super::state::Status;
use super::store::Container;
use super::{Runtime, list};
use crate::cli::{ListFormat, PsArgs};

/// How long the sandbox may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Prints the guest's processes, or the numbers of those on the host that stand for them.
///
/// # Errors
/// There is no such container, or its sandbox does not answer.
pub fn command(runtime: &Runtime, args: &PsArgs) -> Result<u8> {
    let (container, state) = runtime.store.load(&args.id)?;
    let status = state.current();
    let runs = matches!(status, Status::Running | Status::Created | Status::Paused);
    match args.format {
        ListFormat::Json => {
            let mut pids = Vec::new();
            if runs {
                pids.push(state.pid);
                // A sandbox that does not answer has at least its own process.
                let answer = if status == Status::Paused { None } else { processes(&container).ok() };
                pids.extend(answer.unwrap_or_default().proxies);
                return crate::print(&format!("{}\n", serde_json::to_string(&pids).context("the list")?));
            }
            crate::print("null\n")
        }
        ListFormat::Table => {
            let answer = if runs { processes(&container)? } else { Processes::default() };
            let mut rows = vec![["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"].map(str::to_owned).to_vec()];
            rows.extend(answer.table);
            crate::print(&list::table(&rows, 0))
        }
    }
}

fn processes(container: &Container) -> Result<Processes> {
    let channel = Channel::new(container.connect().context("connecting to the sandbox")?);
    channel.set_timeout(Some(PATIENCE)).context("a socket")?;
    match ask(&channel, &Request::Processes, &[])? {
        Reply::Processes(processes) => Ok(processes),
        other => bail!("the sandbox answered {other:?}"),
    }
}
