//! Errors are reported in one line, with a status that shows the responsible side, and nothing is left behind.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::common::{Outcome, amber, amber_do, run};

/// Asserts a status and one line on standard error that has all of `words`.
fn refused(outcome: &Outcome, code: i32, words: &[&str]) {
    assert_eq!(outcome.code, code, "{outcome:?}");
    assert_eq!(outcome.err.lines().count(), 1, "{outcome:?}");
    assert!(outcome.err.starts_with("amber: "), "{outcome:?}");
    for word in words {
        assert!(outcome.err.contains(word), "no {word:?} in {outcome:?}");
    }
}

fn executable(path: &Path, contents: &[u8]) {
    fs::write(path, contents).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_wrong_command_line() {
    for (args, code) in [
        (&["do", "--bogus", "--", "true"][..], 125),
        (&["run"], 1),
        (&["fly"], 125),
        (&["do", "--platform=magic", "true"], 125),
        (&["do"], 125),
    ] {
        let outcome = run(amber().args(args));
        assert_eq!(outcome.code, code, "{outcome:?}");
        assert_eq!(outcome.err.lines().count(), 1, "{outcome:?}");
        assert!(outcome.err.contains("--help"), "{outcome:?}");
    }
}

#[test]
fn flags_without_sense() {
    for (args, words) in [
        (&["--rootfs", "/no/such/tree", "true"][..], &["--rootfs /no/such/tree", "No such file"][..]),
        (&["--user", "no-such-user", "true"], &["no-such-user", "/etc/passwd"]),
        (&["--user", "4294967295", "true"], &["4294967295", "no user"]),
        (&["--user", "0:4294967295", "true"], &["4294967295", "no group"]),
        (&["--volume", "/no/such/dir:/data", "true"], &["--volume", "/no/such/dir"]),
        (&["--cwd", "relative", "true"], &["--cwd relative", "absolute"]),
        (&["--kernel", "new", "true"], &["--kernel new"]),
        (&["--strace=flyaway", "true"], &["flyaway", "amber syscalls"]),
        (&["--log", "/no/such/dir/log", "true"], &["--log /no/such/dir/log"]),
        (&["--metrics", "/no/such/dir/metrics", "true"], &["--metrics /no/such/dir/metrics", "No such file"]),
    ] {
        refused(&run(&mut amber_do(args)), 125, words);
    }
}

#[test]
fn a_missing_or_malformed_bundle() {
    let directory = tempfile::tempdir().unwrap();
    let bundle = directory.path().to_str().unwrap();
    refused(&run(amber().args(["run", "--bundle", "/no/such/bundle", "id"])), 125, &["/no/such/bundle"]);
    refused(&run(amber().args(["run", "--bundle", bundle, "id"])), 125, &["config.json"]);
    fs::write(directory.path().join("config.json"), "{\"ociVersion\": ").unwrap();
    refused(&run(amber().args(["run", "--bundle", bundle, "id"])), 125, &["config.json", "line 1"]);
    refused(&run(amber().args(["run", "--bundle", bundle, "a/b"])), 125, &["a/b", "letters"]);
}

#[test]
fn a_missing_program() {
    refused(&run(&mut amber_do(&["no-such-program"])), 127, &["no-such-program"]);
    refused(&run(&mut amber_do(&["/no/such/program"])), 127, &["/no/such/program"]);
}

#[test]
fn a_program_that_cannot_be_executed() {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = directory.path().join("program");
    let shown = path.to_str().unwrap();
    let own = fs::read("/proc/self/exe").unwrap();

    fs::write(&path, &own).unwrap();
    refused(&run(&mut amber_do(&[shown])), 126, &[shown]);
    refused(&run(&mut amber_do(&["/etc"])), 126, &["/etc"]);

    // Another machine's: the field e_machine says AArch64.
    let mut foreign = own.clone();
    foreign[18..20].copy_from_slice(&183u16.to_le_bytes());
    executable(&path, &foreign);
    refused(&run(&mut amber_do(&[shown])), 126, &[shown]);

    // Truncated in the middle of the headers, behind the magic number, and empty headers.
    for length in [100, 64, 63, 20, 5, 4] {
        executable(&path, &own[..length]);
        refused(&run(&mut amber_do(&[shown])), 126, &[shown]);
    }
    // Program headers beyond all bounds.
    for (place, bytes) in [(32, [0xff; 8]), (24, [0xff; 8]), (54, [0xff; 8])] {
        let mut hostile = own.clone();
        hostile[place..place + 8].copy_from_slice(&bytes);
        executable(&path, &hostile);
        let outcome = run(&mut amber_do(&[shown]));
        assert!(outcome.code == 126 || outcome.code == 128 + 11, "{outcome:?}");
    }
}

#[test]
fn a_tree_without_the_interpreter() {
    let tree = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = tree.path().join("program");
    fs::copy("/bin/true", &path).unwrap();
    let outcome = run(&mut amber_do(&["--rootfs", tree.path().to_str().unwrap(), "/program"]));
    assert!(matches!(outcome.code, 126 | 127), "{outcome:?}");
    refused(&outcome, outcome.code, &["/program"]);
}

#[test]
fn a_host_that_gives_too_little() {
    let amber = env!("CARGO_BIN_EXE_amber");
    for limit in ["ulimit -f 1024", "ulimit -v 200000"] {
        let script = format!("{limit}; exec {amber} do -- /bin/true");
        refused(&run(Command::new("sh").args(["-c", &script])), 125, &["ulimit"]);
    }
}
