//! `amber syscalls`: prints the table of system calls.

use std::fmt::Write;

use amber_abi::release::Release;
use amber_sentry::{CallState, Entry, entries};
use serde_json::{Value, json};

use crate::cli::TableFormat;

/// The calls as text; with a release, only those that exist in it.
pub(super) fn print(format: TableFormat, release: Option<Release>) -> String {
    let chosen: Vec<&Entry> =
        entries().filter(|entry| release.is_none_or(|release| entry.exists_in(release))).collect();
    in_form(format, &chosen, text, json, markdown)
}

/// A list in one of its formats.
pub(super) fn in_form<T>(
    format: TableFormat,
    list: &[&T],
    text: fn(&[&T]) -> String,
    json: fn(&T) -> Value,
    markdown: fn(&[&T]) -> String,
) -> String {
    match format {
        TableFormat::Text => text(list),
        TableFormat::Json => format!("{:#}\n", Value::from_iter(list.iter().map(|one| json(one)))),
        TableFormat::Markdown => markdown(list),
    }
}

fn i386(entry: &Entry) -> String {
    entry.i386.map_or_else(|| "-".into(), |number| number.to_string())
}

/// How far the call is implemented, or the errno that it returns.
fn state(entry: &Entry) -> &'static str {
    match entry.state() {
        CallState::Implemented => "implemented",
        CallState::Partial(_) => "partial",
        CallState::Refused(errno) => errno.name(),
    }
}

fn missing(entry: &Entry) -> Option<&'static str> {
    if let CallState::Partial(missing) = entry.state() { Some(missing) } else { None }
}

fn releases(entry: &Entry) -> String {
    match entry.releases {
        ("", "") => "all".into(),
        (since, "") => format!("{since}.."),
        (since, until) => format!("{since}..{until}"),
    }
}

/// `writeln!` to a string, which cannot fail.
macro_rules! line {
    ($out:ident, $($arguments:tt)*) => {
        let _ = writeln!($out, $($arguments)*);
    };
}

fn text(list: &[&Entry]) -> String {
    let mut out = String::new();
    line!(out, "{:>6}  {:>5}  {:<28}{:<13}{:<14}MISSING", "X86-64", "I386", "NAME", "STATE", "RELEASES");
    for entry in list {
        let line = format!(
            "{:>6}  {:>5}  {:<28}{:<13}{:<14}{}",
            entry.number,
            i386(entry),
            entry.name,
            state(entry),
            releases(entry),
            missing(entry).unwrap_or_default()
        );
        line!(out, "{}", line.trim_end());
    }
    out
}

fn json(entry: &Entry) -> Value {
    let parameters: Vec<Value> =
        entry.parameters.iter().map(|parameter| json!({"name": parameter.name, "type": parameter.kind})).collect();
    let known = |release: &str| if release.is_empty() { Value::Null } else { release.into() };
    json!({
        "number": entry.number,
        "i386": entry.i386,
        "name": entry.name,
        "parameters": parameters,
        "implemented": entry.refusal().is_none(),
        "missing": missing(entry),
        "errno": entry.refusal().map(|errno| errno.name()),
        "since": known(entry.releases.0),
        "until": known(entry.releases.1)
    })
}

fn markdown(list: &[&Entry]) -> String {
    let done = list.iter().filter(|entry| entry.refusal().is_none()).count();
    let partial = list.iter().filter(|entry| missing(entry).is_some()).count();
    let mut out = String::new();
    line!(out, "# System calls\n");
    line!(
        out,
        "Of {} calls, {done} are implemented, {partial} of these but for what is named. The others answer the",
        list.len()
    );
    line!(out, "errno shown, as Linux does where the feature is configured out. `amber syscalls --format markdown`");
    line!(out, "writes this page.\n");
    line!(out, "| x86-64 | i386 | Name | State | Releases |");
    line!(out, "| -----: | ---: | ---- | ----- | -------- |");
    for entry in list {
        line!(
            out,
            "| {} | {} | `{}` | {} | {} |",
            entry.number,
            i386(entry),
            entry.name,
            missing(entry).map_or_else(|| state(entry).into(), |missing| format!("without {missing}")),
            releases(entry)
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_has_every_call() {
        let count = entries().count();
        assert!(count > 300);
        assert_eq!(print(TableFormat::Text, None).lines().count(), count + 1);
        let list: Vec<Value> = serde_json::from_str(&print(TableFormat::Json, None)).unwrap();
        assert_eq!(list.len(), count);
        assert_eq!(list[0]["name"], "read");
        let old = print(TableFormat::Text, Some(Release::new(2, 6)));
        assert!(!old.contains("openat2") && print(TableFormat::Text, None).contains("openat2"));
    }

    #[test]
    fn the_page_in_docs_is_up_to_date() {
        let page = include_str!("../../../docs/syscalls.md");
        let fresh = print(TableFormat::Markdown, None);
        assert!(page == fresh, "write it anew: cargo run -p amber -- syscalls --format markdown > docs/syscalls.md");
    }
}
