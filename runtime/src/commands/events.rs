//! `amber events`.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use amber_host::channel::Channel;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::cli::EventsArgs;
use crate::oci::Runtime;
use crate::oci::control::{Reply, Request, ask};
use crate::oci::state::Status;
use crate::oci::store::Container;

/// Timeout for the sandbox's answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Prints the resource usage of a container, once or repeatedly until the container ends.
///
/// # Errors
/// The container is not running.
pub(super) fn command(runtime: &Runtime, args: &EventsArgs) -> Result<u8> {
    ensure!(!args.interval.is_zero(), "duration interval must be greater than 0");
    let (container, state) = runtime.store.load(&args.id)?;
    if !matches!(state.current(), Status::Running | Status::Created | Status::Paused) {
        bail!("container with id {} is not running", args.id);
    }
    let mut kills = killed(&container);
    loop {
        if !args.stats {
            thread::sleep(*args.interval);
            // A container that was removed meanwhile has ended as well.
            let ended = container.state().map_or(true, |state| state.current() == Status::Stopped);
            if ended {
                return Ok(0);
            }
            let now = killed(&container);
            if now > kills {
                print(&json!({"type": "oom", "id": args.id}))?;
            }
            kills = now;
        }
        let data = state.cgroup.as_ref().map_or(Value::Null, |group| group.place.stats());
        print(&json!({"type": "stats", "id": args.id, "data": data}))?;
        if args.stats {
            return Ok(0);
        }
    }
}

fn print(event: &Value) -> Result<u8> {
    crate::print(&format!("{event}\n")).context("printing an event")
}

/// Number of guest processes killed for lack of memory.
fn killed(container: &Container) -> u64 {
    usage(container).and_then(|usage| usage.get("oom_kills").copied()).unwrap_or(0)
}

fn usage(container: &Container) -> Option<BTreeMap<String, u64>> {
    let channel = Channel::new(container.connect().ok()?);
    channel.set_timeout(Some(TIMEOUT)).ok()?;
    match ask(&channel, &Request::Usage, &[]).ok()? {
        Reply::Usage(usage) => Some(usage),
        _ => None,
    }
}
