//! Checks that errors record where they are made: error numbers in the sources are followed by [`Errno::here`].
//!
//! [`Errno::here`]: amber_abi::errno::Errno::here

use std::fs;
use std::path::Path;

use crate::floors_tests::{SOURCES, sources};

/// The error numbers that a line of code returns without their place. Comparisons do not count.
fn without_place(line: &str) -> Vec<&str> {
    let code = line.split("//").next().unwrap_or_default();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("Errno::E") {
        let (before, number) = code.split_at(at);
        let end = number.char_indices().skip("Errno::".len()).find(|(_, c)| !c.is_ascii_alphanumeric()).map(|(n, _)| n);
        let (number, after) = number.split_at(end.unwrap_or(number.len()));
        let made =
            ["return Err(", "ok_or(", "unwrap_or(", "map_err(|_| ", "break Err("].iter().any(|it| before.ends_with(it))
                || before.ends_with("=> Err(")
                || (before.trim_end().ends_with("=>") && after.starts_with(','))
                || (before.ends_with("{ ") && after.starts_with(" }") && !code.contains("(if "))
                || (before.trim().is_empty() && after.is_empty())
                || (before.trim() == "Err(" && after == ")");
        if made && !after.starts_with(".here()") {
            found.push(number);
        }
    }
    found
}

#[test]
fn errors_say_where_they_were_made() {
    let mut files = Vec::new();
    sources(Path::new(SOURCES), &mut files);
    let (mut bare, mut placed) = (Vec::new(), 0);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        placed += code.matches(".here()").count();
        let lines = code.lines().enumerate();
        bare.extend(
            lines
                .flat_map(|(at, line)| without_place(line).into_iter().map(move |_| (at + 1, line.trim().to_owned())))
                .map(|(at, line)| format!("{}:{at}: {line}", file.display())),
        );
    }
    assert!(placed > 1_000, "the sources were not found");
    assert!(bare.is_empty(), "write `Errno::EINVAL.here()`, so that --strace shows the place:\n{}", bare.join("\n"));
}

#[test]
fn numbers_without_place_are_recognized() {
    assert_eq!(without_place("        return Err(Errno::EINVAL);"), ["Errno::EINVAL"]);
    assert_eq!(without_place("    let file = found.ok_or(Errno::EBADF)?;"), ["Errno::EBADF"]);
    assert_eq!(without_place("        Err(Errno::EAGAIN) => Err(Errno::EWOULDBLOCK.into()),"), ["Errno::EWOULDBLOCK"]);
    assert_eq!(without_place("    Err(Errno::E2BIG)"), ["Errno::E2BIG"]);
    assert_eq!(without_place("    if writing { Errno::EPERM } else { errno }"), ["Errno::EPERM"]);
    assert!(without_place("        return Err(Errno::EINVAL.here()); // not Err(Errno::EINVAL)").is_empty());
    assert!(without_place("        Err(Errno::EAGAIN) if waits => continue,").is_empty());
    assert!(without_place("    if sent == Err(Errno::EAGAIN) {").is_empty());
}
