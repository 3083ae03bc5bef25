//! `amber list`: lists the containers of a state directory.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::accounts;
use crate::cli::{ListArgs, ListFormat};
use crate::oci::Runtime;
use crate::oci::state::Status;
use crate::printable::in_columns;

/// Prints all containers.
///
/// # Errors
/// The state directory cannot be read.
pub(super) fn command(runtime: &Runtime, args: &ListArgs) -> Result<u8> {
    let mut states = Vec::new();
    for name in runtime.store.names()? {
        match runtime.store.load(&name) {
            Ok((_, state)) => states.push(state),
            // The container is being created or removed.
            Err(error) => log::info!("container {name}: {error:#}"),
        }
    }
    if args.quiet {
        return crate::print(&states.iter().map(|state| format!("{}\n", state.id)).collect::<String>());
    }
    let owner = |uid: u32| accounts::name_of(Path::new("/"), uid).unwrap_or_else(|| format!("#{uid}"));
    if args.format == ListFormat::Json {
        let mut shown = Vec::new();
        for state in &states {
            shown.push(serde_json::to_value(state.shown(state.current(), &owner(state.owner))).context("the state")?);
        }
        // runc prints `null` for an empty list.
        let all = if shown.is_empty() { Value::Null } else { Value::Array(shown) };
        return crate::print(&all.to_string());
    }
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned).to_vec()];
    for state in &states {
        let status = state.current();
        let pid = if status == Status::Stopped { 0 } else { state.pid };
        rows.push(vec![
            state.id.clone(),
            pid.to_string(),
            status.name().to_owned(),
            state.bundle.display().to_string(),
            state.created.clone(),
            owner(state.owner),
        ]);
    }
    crate::print(&in_columns(&rows, 12))
}
