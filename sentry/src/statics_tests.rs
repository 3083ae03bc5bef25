//! Checks that state is in the kernel object: the statics of all files must be listed in `docs/design.md`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::floors_tests::{SOURCES, sources};

/// Types of constant tables.
const TABLES: &[&str] = &["Entry", "Kind", "Registration", "Foreign", "OwnFile", "InetFile"];

/// A static: its file and name.
type Static = (String, String);

/// The list. Each line has a reason.
fn written_down() -> BTreeSet<Static> {
    let text = include_str!("../../docs/design.md");
    let table = text.split("| Static | In `sentry/src/` |").nth(1).and_then(|rest| rest.split("\n\n").next());
    let lines = table.expect("the list of statics").lines().filter_map(|line| line.strip_prefix("| `"));
    let listed = lines.map(|line| {
        let (name, rest) = line.split_once("` | `").expect("a name and a file");
        let (file, reason) = rest.split_once("` | ").expect("a file and a reason");
        assert!(reason.len() > "none |".len(), "{name} has no reason");
        (file.to_owned(), name.to_owned())
    });
    listed.collect()
}

/// The name and the type of the static that a line declares, if any.
fn declared(line: &str) -> Option<(&str, &str)> {
    let code = line.split("//").next()?.trim_start();
    let code = match code.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(')')?.1.trim_start(),
        Some(rest) => rest.trim_start(),
        None => code,
    };
    let rest = code.strip_prefix("static ")?;
    let rest = rest.strip_prefix("mut ").or(rest.strip_prefix("ref ")).unwrap_or(rest);
    let (name, rest) = rest.split_once(':')?;
    Some((name.trim(), rest.split('=').next()?.trim()))
}

/// Whether a type is one of the table types, or a list of one.
fn is_table(declared: &str) -> bool {
    TABLES.contains(&declared.replace("'static", "").replace(['&', '[', ']', ' '], "").as_str())
}

#[test]
fn statics_stand_in_the_list() {
    let mut files = Vec::new();
    sources(Path::new(SOURCES), &mut files);
    let mut found = BTreeSet::new();
    let mut tables = 0;
    for file in files {
        let relative = file.strip_prefix(SOURCES).unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (name, declared) in code.lines().filter_map(declared) {
            if is_table(declared) {
                tables += 1;
            } else {
                found.insert((relative.clone(), name.to_owned()));
            }
        }
    }
    assert!(tables > 20, "the sources were not found");
    let listed = written_down();
    let unexplained: Vec<_> = found.difference(&listed).collect();
    assert!(unexplained.is_empty(), "state of a kernel has no place in statics (see docs/design.md): {unexplained:?}");
    let gone: Vec<_> = listed.difference(&found).collect();
    assert!(gone.is_empty(), "docs/design.md explains statics that are not there any more: {gone:?}");
}

#[test]
fn statics_are_recognized() {
    assert_eq!(declared("    pub(super) static NEXT: AtomicU64 = AtomicU64::new(1);"), Some(("NEXT", "AtomicU64")));
    assert_eq!(declared("pub static mut COUNT: u32 = 0;"), Some(("COUNT", "u32")));
    assert_eq!(declared("/// A static NAME: text"), None);
    assert_eq!(declared("    ends: &'static str,"), None);
    assert!(is_table("&[&Registration]") && is_table("Entry") && is_table("&'static [Entry]"));
    assert!(!is_table("Mutex<Entry>") && !is_table("&[AtomicU64]") && !is_table("LazyLock<Entry>"));
}
