//! `amber state` and `amber list`.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Runtime;
use crate::accounts;
use crate::cli::{ListArgs, ListFormat};
use crate::printable::printable;

/// Prints the state of one container.
///
/// # Errors
/// There is none of that name.
pub fn state(runtime: &Runtime, id: &str) -> Result<u8> {
    let (_, state) = runtime.store.load(id)?;
    let shown = serde_json::to_string_pretty(&state.shown(state.current(), "")).context("the state")?;
    crate::print(&shown)
}

/// Prints all containers.
///
/// # Errors
/// The state directory cannot be read.
pub fn command(runtime: &Runtime, args: &ListArgs) -> Result<u8> {
    let mut states = Vec::new();
    for name in runtime.store.names()? {
        match runtime.store.load(&name) {
            Ok((_, state)) => states.push(state),
            // Being made or removed right now.
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
        // As runc has it where there are none.
        let all = if shown.is_empty() { Value::Null } else { Value::Array(shown) };
        return crate::print(&all.to_string());
    }
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned).to_vec()];
    for state in &states {
        let status = state.current();
        let pid = if status == super::state::Status::Stopped { 0 } else { state.pid };
        rows.push(vec![
            state.id.clone(),
            pid.to_string(),
            status.name().to_owned(),
            state.bundle.display().to_string(),
            state.created.clone(),
            owner(state.owner),
        ]);
    }
    crate::print(&table(&rows, 12))
}

/// Columns with as much room as the longest entry needs, and at least `least`; the last has as much as it takes.
pub fn table(rows: &[Vec<String>], least: usize) -> String {
    // A name with ends of lines in it must not look like further rows.
    let rows: Vec<Vec<_>> = rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let columns = rows.first().map_or(0, Vec::len);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count() + 3).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0).max(least)).collect();
    let mut text = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            let width = if column + 1 < columns { widths.get(column).copied().unwrap_or(0) } else { 0 };
            text.push_str(&format!("{cell:width$}"));
        }
        text.push('\n');
    }
    text
}
