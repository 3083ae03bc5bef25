//! Checks the imports of all files (their `crate::` paths) against the floors listed in `lib.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

pub(crate) const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
/// The module that may name all others and be named by all.
const ROOT_OBJECT: &str = "kernel";

/// The place of a module: its floor from the top, and the index of its group between bars.
type Place = (usize, usize);

/// An import: the importing and the imported module.
type Arrow = (String, String);

/// The floors, and the permitted upward imports.
fn written_down() -> (BTreeMap<String, Place>, BTreeSet<Arrow>) {
    let text = include_str!("lib.rs");
    let floors = text.split("//! ```text\n").nth(1).and_then(|rest| rest.split("//! ```").next()).expect("floors");
    let mut places = BTreeMap::new();
    for (floor, line) in floors.lines().enumerate() {
        for (place, group) in line.trim_start_matches("//!").split('|').enumerate() {
            places.extend(group.split_whitespace().map(|module| (module.to_owned(), (floor, place))));
        }
    }
    let exceptions = text.lines().filter_map(|line| line.strip_prefix("//! - `")).filter_map(|line| {
        let (from, rest) = line.split_once("` → `")?;
        let (to, reason) = rest.split_once("`: ")?;
        (!reason.is_empty()).then(|| (from.to_owned(), to.to_owned()))
    });
    (places, exceptions.collect())
}

/// The files of a directory and its subdirectories, without tests.
pub(crate) fn sources(directory: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs")
            && !path.file_stem().unwrap().to_string_lossy().ends_with("tests")
        {
            found.push(path);
        }
    }
}

/// The modules that a file names outside of comments and unit tests.
fn named(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code: String = code.lines().filter_map(|line| line.split("//").next()).collect::<Vec<_>>().join("\n");
    assert!(!code.contains("use crate::{"), "write one `use` for each module");
    let identifier = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    code.split("crate::").skip(1).map(identifier).collect()
}

/// All imports between modules, with an example file for each.
fn imports() -> BTreeMap<Arrow, String> {
    let mut files = Vec::new();
    sources(Path::new(SOURCES), &mut files);
    let mut arrows = BTreeMap::new();
    for file in files {
        let relative = file.strip_prefix(SOURCES).unwrap().to_string_lossy().into_owned();
        let module = relative.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        if module != "lib" {
            let names = named(&fs::read_to_string(&file).unwrap());
            let others = names.into_iter().filter(|name| name != module);
            arrows.extend(others.map(|name| ((module.to_owned(), name), relative.clone())));
        }
    }
    arrows
}

#[test]
fn the_document_shows_the_floors() {
    let picture = |text: &str| {
        let block = text.split("```text\nsandbox\n").nth(1).and_then(|rest| rest.split("```").next());
        block.expect("the picture of the floors").to_owned()
    };
    let comment = include_str!("lib.rs").replace("//! ", "");
    assert_eq!(picture(include_str!("../../docs/design.md")), picture(&comment));
}

#[test]
fn imports_lead_downward() {
    let (places, exceptions) = written_down();
    let place = |module: &str| *places.get(module).unwrap_or_else(|| panic!("{module} stands on no floor of lib.rs"));
    let imports = imports();
    assert!(imports.len() > 100, "the sources were not found");
    let upward: BTreeMap<&Arrow, &String> = imports
        .iter()
        .filter(|((from, to), _)| from != ROOT_OBJECT && to != ROOT_OBJECT)
        .filter(|((from, to), _)| {
            let (above, below) = (place(from), place(to));
            above.0 > below.0 || (above.0 == below.0 && above.1 != below.1)
        })
        .collect();
    let unexplained: Vec<_> = upward.iter().filter(|(arrow, _)| !exceptions.contains(**arrow)).collect();
    assert!(unexplained.is_empty(), "imports that lead upward: {unexplained:?}");
    let gone: Vec<_> = exceptions.iter().filter(|arrow| !upward.contains_key(arrow)).collect();
    assert!(gone.is_empty(), "lib.rs explains what is not there any more: {gone:?}");
}
