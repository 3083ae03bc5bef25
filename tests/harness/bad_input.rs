//! What `amber` says to input it cannot use: one line that names the thing, a status that is not the program's, and
//! nothing left behind.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use libtest_mimic::{Completion, Failed, Trial};

use crate::run::{self, TIME_LIMIT};
use crate::setup::Setup;

/// One way to ask for what cannot be.
struct Case {
    name: &'static str,
    /// What to put into the working directory first.
    prepare: fn(&Path) -> Result<()>,
    /// The words after `amber --platform P`; `{}` is the working directory.
    words: &'static str,
    /// The statuses that are right.
    status: &'static [i32],
    /// What the line must name.
    names: &'static str,
}

const FAILED: &[i32] = &[125];
const USAGE: &[i32] = &[2, 125];

fn nothing(_: &Path) -> Result<()> {
    Ok(())
}

fn program(directory: &Path, bytes: &[u8]) -> Result<()> {
    let path = directory.join("program");
    fs::write(&path, bytes)?;
    Ok(fs::set_permissions(path, Permissions::from_mode(0o755))?)
}

/// A copy of a real program with some bytes of it changed.
fn changed(directory: &Path, changes: &[(usize, &[u8])]) -> Result<()> {
    let mut bytes = fs::read("/bin/true").context("/bin/true")?;
    for (at, change) in changes {
        bytes.get_mut(*at..*at + change.len()).context("/bin/true is short")?.copy_from_slice(change);
    }
    program(directory, &bytes)
}

fn bundle(directory: &Path, text: &str) -> Result<()> {
    fs::create_dir_all(directory.join("rootfs"))?;
    Ok(fs::write(directory.join("config.json"), text)?)
}

/// A tree that has a dynamic program, but not the loader it names.
fn bare_tree(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory.join("tree/bin"))?;
    fs::copy("/bin/true", directory.join("tree/bin/true"))?;
    Ok(())
}

const CASES: &[Case] = &[
    Case { name: "unknown_flag", prepare: nothing, words: "do --frob -- /bin/true", status: USAGE, names: "--frob" },
    Case { name: "unknown_command", prepare: nothing, words: "walk", status: USAGE, names: "walk" },
    Case { name: "no_program", prepare: nothing, words: "do", status: USAGE, names: "" },
    Case {
        name: "bad_release",
        prepare: nothing,
        words: "--kernel banana do -- /bin/true",
        status: USAGE,
        names: "banana",
    },
    Case { name: "missing_program", prepare: nothing, words: "do -- /no/such", status: &[127], names: "/no/such" },
    Case { name: "not_in_path", prepare: nothing, words: "do -- nosuchword", status: &[127], names: "nosuchword" },
    Case {
        name: "not_executable",
        prepare: |directory| Ok(fs::write(directory.join("plain"), "x")?),
        words: "do -- ./plain",
        status: &[126],
        names: "plain",
    },
    Case { name: "a_directory", prepare: nothing, words: "do -- /usr", status: &[126], names: "/usr" },
    Case {
        name: "not_a_program",
        prepare: |directory| program(directory, b"no format at all\n"),
        words: "do -- ./program",
        status: &[126],
        names: "program",
    },
    Case {
        name: "an_empty_file",
        prepare: |directory| program(directory, b""),
        words: "do -- ./program",
        status: &[126],
        names: "program",
    },
    Case {
        name: "another_machine",
        prepare: |directory| changed(directory, &[(18, &[183, 0])]),
        words: "do -- ./program",
        status: &[126],
        names: "program",
    },
    Case {
        name: "truncated_program",
        prepare: |directory| program(directory, fs::read("/bin/true")?.get(..100).unwrap_or_default()),
        words: "do -- ./program",
        status: &[126],
        names: "program",
    },
    Case {
        name: "headers_past_the_end",
        prepare: |directory| changed(directory, &[(32, &[0xff; 7])]),
        words: "do -- ./program",
        status: &[126],
        names: "program",
    },
    Case {
        name: "too_many_headers",
        prepare: |directory| changed(directory, &[(56, &[0xff, 0xff])]),
        words: "do -- ./program",
        status: &[126],
        names: "program",
    },
    Case {
        name: "odd_header_size",
        prepare: |directory| changed(directory, &[(54, &[1, 0])]),
        words: "do -- ./program",
        status: &[126],
        names: "program",
    },
    Case {
        name: "script_without_interpreter",
        prepare: |directory| program(directory, b"#!/no/interpreter\n"),
        words: "do -- ./program",
        status: &[126, 127],
        names: "program",
    },
    Case {
        name: "no_interpreter",
        prepare: bare_tree,
        words: "do --rootfs {}/tree -- /bin/true",
        status: &[126, 127],
        names: "ld-linux",
    },
    Case {
        name: "no_tree",
        prepare: nothing,
        words: "do --rootfs /no/tree -- /bin/true",
        status: FAILED,
        names: "/no/tree",
    },
    Case {
        name: "tree_is_a_file",
        prepare: |directory| Ok(fs::write(directory.join("plain"), "x")?),
        words: "do --rootfs {}/plain -- /bin/true",
        status: FAILED,
        names: "plain",
    },
    Case {
        name: "no_directory",
        prepare: nothing,
        words: "do --cwd /no/dir -- /bin/true",
        status: &[125, 126, 127],
        names: "/no/dir",
    },
    Case {
        name: "no_user",
        prepare: nothing,
        words: "do --user nobodyatall -- /bin/true",
        status: FAILED,
        names: "nobodyatall",
    },
    Case {
        name: "bad_volume",
        prepare: nothing,
        words: "do --volume nonsense -- /bin/true",
        status: USAGE,
        names: "nonsense",
    },
    Case {
        name: "no_volume",
        prepare: nothing,
        words: "do --volume /no/dir:/x -- /bin/true",
        status: FAILED,
        names: "/no/dir",
    },
    Case {
        name: "no_bundle",
        prepare: nothing,
        words: "run --bundle /no/bundle x",
        status: FAILED,
        names: "/no/bundle",
    },
    Case {
        name: "bundle_without_file",
        prepare: nothing,
        words: "run --bundle {} x",
        status: FAILED,
        names: "config.json",
    },
    Case {
        name: "bundle_malformed",
        prepare: |directory| bundle(directory, "{ \"ociVersion\": "),
        words: "run --bundle {} x",
        status: FAILED,
        names: "config.json",
    },
    Case {
        name: "bundle_of_wrong_types",
        prepare: |directory| bundle(directory, r#"{"ociVersion": "1.0.2", "process": {"args": 5, "cwd": "/"}}"#),
        words: "run --bundle {} x",
        status: FAILED,
        names: "config.json",
    },
    Case {
        name: "bundle_without_process",
        prepare: |directory| bundle(directory, r#"{"ociVersion": "1.0.2", "root": {"path": "rootfs"}}"#),
        words: "run --bundle {} x",
        status: FAILED,
        names: "process",
    },
    Case {
        name: "bundle_without_its_tree",
        prepare: |directory| {
            let process = r#"{"args": ["/x"], "cwd": "/", "user": {"uid": 0, "gid": 0}}"#;
            bundle(
                directory,
                &format!(r#"{{"ociVersion": "1.0.2", "process": {process}, "root": {{"path": "gone"}}}}"#),
            )
        },
        words: "run --bundle {} x",
        status: FAILED,
        names: "gone",
    },
    Case {
        name: "bundle_id",
        prepare: |directory| bundle(directory, "{}"),
        words: "run --bundle {} ../x",
        status: USAGE,
        names: "../x",
    },
];

/// Runs in which not the words are wrong but what the host allows: a name, the platform if only one is concerned, the
/// shell command that starts `amber` (of which `AMBER` is the place), and what the line must name.
const LIMITS: &[(&str, Option<&str>, &str, &str)] = &[
    ("file_size_limit", None, "prlimit --fsize=4096 AMBER do -- /bin/true", ""),
    ("address_space_limit", None, "prlimit --as=50000000 AMBER do -- /bin/true", ""),
    ("descriptor_limit", None, "prlimit --nofile=6 AMBER do -- /bin/true", ""),
    ("no_ptrace", Some("ptrace"), "NATIVE -P -- AMBER do -- /bin/true", "ptrace"),
    ("no_device", Some("kvm"), "unshare -m sh -c 'mount -t tmpfs none /dev; AMBER do -- /bin/true'", "/dev/kvm"),
    (
        "no_such_device",
        Some("kvm"),
        "unshare -m sh -c 'mount --bind /dev/null /dev/kvm; AMBER do -- /bin/true'",
        "/dev/kvm",
    ),
];

/// Kills `amber` at several moments of a sandbox's life, in a process namespace of its own, and prints who is left.
const KILL: &str = r#"
start() { "$AMBER" --platform "$PLATFORM" do -- /bin/sh -c 'echo ready; sleep 1000 & sh -c "sleep 1001 & sleep 1002" & wait' >out 2>&1 & }
others() { for p in /proc/[0-9]*; do p=${p#/proc/}; [ "$p" = 1 ] || [ "$p" = $$ ] || [ "$p" = $BASHPID ] || echo "$p"; done; }
for delay in 0 0.01 0.05 0.1 0.2 0.4 ready; do
    start; pid=$!
    if [ $delay = ready ]; then
        for i in $(seq 1 300); do grep -q ready out && break; sleep 0.1; done
        grep -q ready out || { echo "it does not start:"; cat out; exit 1; }
        sleep 0.5
    else sleep $delay; fi
    kill -KILL $pid; wait $pid 2>/dev/null
    for i in $(seq 1 300); do [ -z "$(others)" ] && break; sleep 0.1; done
    left=$(others)
    [ -z "$left" ] || { echo "killed after $delay, left behind:"; for p in $left; do echo "$p $(tr '\0' ' ' </proc/$p/cmdline) $(grep State /proc/$p/status)"; done; exit 1; }
done
ls -A | grep -v '^out$' && exit 1
exit 0
"#;

/// The tests of bad input, for each platform.
pub fn trials(setup: &Arc<Setup>, platforms: &[&str]) -> Vec<Trial> {
    let mut trials = Vec::new();
    for platform in platforms {
        for case in CASES {
            trials.push(trial(setup, platform, case.name, move |setup, platform| check(case, setup, platform)));
        }
        let limits = LIMITS.iter().filter(|(_, only, ..)| only.is_none_or(|only| only == *platform));
        for (name, _, words, names) in limits {
            trials.push(trial(setup, platform, name, move |setup, platform| limited(words, names, setup, platform)));
        }
        trials.push(trial(setup, platform, "killed", killed));
    }
    trials
}

/// A test whose inner result is `None` if all is well and the complaint otherwise.
fn trial<F>(setup: &Arc<Setup>, platform: &str, name: &str, test: F) -> Trial
where
    F: FnOnce(&Setup, &str) -> Result<Option<String>> + Send + 'static,
{
    let name = format!("{platform}::bad_input::{name}");
    let (setup, platform, key) = (Arc::clone(setup), platform.to_owned(), name.clone());
    Trial::ignorable_test(name, move || -> Result<Completion, Failed> {
        let complaint = test(&setup, &platform).map_err(|error| Failed::from(format!("{error:#}")))?;
        let failed: BTreeSet<String> = complaint.iter().map(|_| String::new()).collect();
        setup.judge(&key, &failed, complaint.unwrap_or_default())
    })
}

fn check(case: &Case, setup: &Setup, platform: &str) -> Result<Option<String>> {
    let directory = tempfile::tempdir()?;
    (case.prepare)(directory.path())?;
    let place = directory.path().display().to_string();
    let mut command = setup.amber()?.command();
    command.args(["--platform", platform]).args(case.words.split(' ').map(|word| word.replace("{}", &place)));
    complain(command, directory.path(), case.status, case.names)
}

fn limited(words: &str, names: &str, setup: &Setup, platform: &str) -> Result<Option<String>> {
    if let Some(obstacle) = setup.native()?.obstacle() {
        return Ok(Some(obstacle.to_owned()));
    }
    let directory = tempfile::tempdir()?;
    let amber = format!("{} --platform {platform}", setup.amber()?.program().display());
    let native = setup.native()?.program().display().to_string();
    let mut command = Command::new("/bin/sh");
    run::plain_environment(&mut command);
    command.arg("-c").arg(format!("exec {}", words.replace("AMBER", &amber).replace("NATIVE", &native)));
    complain(command, directory.path(), FAILED, names)
}

fn complain(command: Command, directory: &Path, status: &[i32], names: &str) -> Result<Option<String>> {
    let outcome = run::run(command, directory, TIME_LIMIT)?;
    let stderr = String::from_utf8_lossy(&outcome.stderr);
    let right = outcome.code().is_some_and(|code| status.contains(&code));
    let one_line = stderr.ends_with('\n') && stderr.lines().count() == 1 && outcome.stdout.is_empty();
    if right && one_line && stderr.contains(names) {
        return Ok(None);
    }
    Ok(Some(format!("{}(expected one line that names {names:?}, and a status of {status:?})", outcome.describe())))
}

fn killed(setup: &Setup, platform: &str) -> Result<Option<String>> {
    let native = setup.native()?;
    if let Some(obstacle) = native.obstacle() {
        return Ok(Some(obstacle.to_owned()));
    }
    let directory = tempfile::tempdir()?;
    let mut command = native.command(&[], Path::new("/bin/bash"));
    command.args(["-c", KILL]).env("AMBER", setup.amber()?.program()).env("PLATFORM", platform);
    let outcome = run::run(command, directory.path(), TIME_LIMIT)?;
    Ok((outcome.code() != Some(0)).then(|| outcome.describe()))
}
