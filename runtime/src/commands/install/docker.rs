//! The entry for Amber in Docker's daemon.json.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::NAME;

/// Adds the runtime.
///
/// # Errors
/// The file is not a JSON object.
pub(super) fn add(text: Option<&str>, program: &str) -> Result<String> {
    let text = text.filter(|text| !text.trim().is_empty());
    let Some(text) = text else {
        return Ok(format!("{}\n", pretty(&json!({"runtimes": {NAME: {"path": program}}}))?));
    };
    let mut config = parse(text)?;
    if config.pointer("/runtimes/amber/path").and_then(Value::as_str) == Some(program) {
        return Ok(text.to_owned());
    }
    let members = config.as_object_mut().context("it must be an object")?;
    match members.get_mut("runtimes") {
        // Everything else stays byte for byte.
        None => {
            let (front, back) = text.split_once('{').context("it must be an object")?;
            let program = serde_json::to_string(program).context("a path")?;
            let comma = if members.is_empty() { "\n" } else { "," };
            Ok(format!("{front}{{\n    \"runtimes\": {{\"{NAME}\": {{\"path\": {program}}}}}{comma}{back}"))
        }
        Some(runtimes) => {
            let runtimes = runtimes.as_object_mut().context("`runtimes` must be an object")?;
            runtimes.insert(NAME.to_owned(), json!({"path": program}));
            Ok(format!("{}\n", pretty(&config)?))
        }
    }
}

/// Removes the runtime. Returns `None` if nothing remains.
///
/// # Errors
/// The file is not a JSON object.
pub(super) fn remove(text: &str) -> Result<Option<String>> {
    let mut config = parse(text)?;
    let members = config.as_object_mut().context("it must be an object")?;
    let Some(runtimes) = members.get_mut("runtimes").and_then(Value::as_object_mut) else {
        return Ok(Some(text.to_owned()));
    };
    if runtimes.remove(NAME).is_none() {
        return Ok(Some(text.to_owned()));
    }
    if runtimes.is_empty() {
        members.remove("runtimes");
    }
    if members.is_empty() {
        return Ok(None);
    }
    Ok(Some(format!("{}\n", pretty(&config)?)))
}

/// Whether two texts are equal as JSON.
pub(super) fn same(one: &str, other: Option<&str>) -> bool {
    let value = |text: &str| serde_json::from_str::<Value>(text).ok();
    let one = value(one);
    one.is_some() && one == other.map_or(Some(json!({})), value)
}

fn parse(text: &str) -> Result<Value> {
    serde_json::from_str(text).context("it is no JSON")
}

fn pretty(config: &Value) -> Result<String> {
    serde_json::to_string_pretty(config).context("the configuration")
}
