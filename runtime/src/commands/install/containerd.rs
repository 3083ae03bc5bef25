//! A section in containerd's config.toml.

use anyhow::{Result, bail};

const BEGIN: &str = "# Written by amber install: begin";
const END: &str = "# Written by amber install: end";
/// What a file of ours begins with.
const VERSION: &str = "version = 2\n";

/// Adds the section at the end.
///
/// # Errors
/// Somebody else wrote one.
pub fn add(text: Option<&str>, program: &str) -> Result<String> {
    let rest = match text {
        Some(text) => strip(text),
        None => VERSION.to_owned(),
    };
    if rest.contains("runtimes.amber") {
        bail!("there is a runtime called amber, which amber install did not write; change it there");
    }
    // Since version 3 the plugin has another name.
    let third = rest.lines().any(|line| line.replace(' ', "").starts_with("version=3"));
    let plugin = if third { "io.containerd.cri.v1.runtime" } else { "io.containerd.grpc.v1.cri" };
    let table = format!("plugins.{plugin:?}.containerd.runtimes.amber");
    let newline = if rest.is_empty() || rest.ends_with('\n') { "" } else { "\n" };
    Ok(format!(
        "{rest}{newline}{BEGIN}\n[{table}]\n  runtime_type = \"io.containerd.runc.v2\"\n  [{table}.options]\n    \
         BinaryName = {program:?}\n{END}\n"
    ))
}

/// Takes the section out; none if nothing else is left than what we wrote.
///
/// # Errors
/// None.
pub fn remove(text: &str) -> Result<Option<String>> {
    let rest = strip(text);
    Ok((rest != VERSION || rest == text).then_some(rest))
}

fn strip(text: &str) -> String {
    match (text.find(BEGIN), text.find(END)) {
        (Some(begin), Some(end)) if begin < end => {
            let back = text.get(end + END.len()..).unwrap_or_default();
            format!("{}{}", text.get(..begin).unwrap_or_default(), back.strip_prefix('\n').unwrap_or(back))
        }
        _ => text.to_owned(),
    }
}
