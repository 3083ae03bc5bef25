//! What a guest has a hand in neither harms a terminal nor fills a log.

use std::fs;

use serde_json::{Value, json};

use crate::common::World;

/// Clears the screen, colours, pretends to be a further row, turns the direction of writing.
const EVIL: &str = "\u{1b}[2J\u{9b}31mred\nroot 1 0 FAKE\r\u{202e}txt";
const SHOWN: &str = "\\u001b[2J\\u009b31mred\\nroot 1 0 FAKE\\r\\u202etxt";

#[track_caller]
fn printable(text: &str) {
    assert!(text.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{text:?}");
}

#[test]
fn names_are_escaped() {
    let mut world = World::new(&["serve", EVIL]);
    world.config["annotations"] = json!({"name": EVIL});
    world.ready("a");
    let table = world.ok(&["ps", "a"]);
    printable(&table);
    assert!(table.lines().count() == 2 && table.trim_end().ends_with(&format!("serve {SHOWN}")), "{table}");
    for command in [&["state", "a"][..], &["list"], &["list", "--format", "json"]] {
        printable(&world.ok(command));
    }
    // What others read as JSON is the same as ever.
    assert_eq!(world.state("a")["annotations"]["name"], EVIL);
}

#[test]
fn messages_are_one_printable_line() {
    let mut world = World::new(&[]);
    world.config["process"]["args"] = json!([format!("/{EVIL}")]);
    world.write();
    let (bundle, log) = (world.path("bundle"), world.path("log"));
    let bundle = bundle.to_str().unwrap();
    for format in [&[][..], &["--log-format", "text"], &["--log-format", "json"]] {
        for log in [&[][..], &["--log", log.to_str().unwrap()]] {
            let outcome = world.run(&[format, log, &["run", "--bundle", bundle, "a"]].concat());
            printable(&outcome.err);
            assert!(outcome.err.lines().count() == 1 && outcome.err.contains("FAKE"), "{outcome:?}");
        }
        let logged = fs::read_to_string(&log).unwrap();
        printable(&logged);
        assert!(logged.lines().count() == 1 && logged.contains("FAKE"), "{logged}");
        fs::remove_file(&log).unwrap();
    }
}

#[test]
fn a_guest_does_not_fill_the_log() {
    let mut world = World::new(&["repeat", "3000"]);
    world.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_LOG"}],
    });
    world.write();
    let (bundle, log) = (world.path("bundle"), world.path("log"));
    let flags = ["--log", log.to_str().unwrap(), "--log-level", "info", "--log-format", "json"];
    let run = ["run", "--bundle", bundle.to_str().unwrap(), "a"];
    assert_eq!(world.run(&[&flags[..], &run].concat()).code, 0);
    let text = fs::read_to_string(&log).unwrap();
    let entries: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let logged =
        entries.iter().filter(|entry| entry["msg"].as_str().unwrap().contains("logged by its seccomp filter")).count();
    // Ten in five seconds; how long the guest takes is not known.
    assert!((10..1000).contains(&logged), "{logged}");
}
