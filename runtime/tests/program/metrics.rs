//! `--metrics` leaves what the platform counted.

use std::collections::HashMap;
use std::fs;

use crate::common::{amber_do, run};

#[test]
fn metrics_count_exits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metrics");
    // What was there goes away.
    fs::write(&path, "old\n".repeat(100)).unwrap();
    let outcome = run(&mut amber_do(&["--metrics", path.to_str().unwrap(), "sh", "-c", "exit 3"]));
    assert_eq!((outcome.code, outcome.err.as_str()), (3, ""), "{outcome:?}");

    let text = fs::read_to_string(&path).unwrap();
    let lines = text.lines().map(|line| line.split_once(' ').unwrap_or_else(|| panic!("{line:?}")));
    let counts: HashMap<&str, u64> = lines.map(|(name, value)| (name, value.parse().unwrap())).collect();
    assert!(counts["exits.syscall"] > 10 && counts["exits.page_fault"] > 10, "{text}");
    assert_eq!(counts["exits.other"], 0, "{text}");
}
