//! Standard streams as a shell hands them over: files that are shared with what runs before and after, pipes, and their
//! names in `/dev`. Each script runs twice, with `$RUN` being nothing and being `amber do --`, and must give the same.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use libtest_mimic::{Failed, Trial};

use crate::run::{self, Outcome, TIME_LIMIT};
use crate::setup::Setup;

/// A name and what the caller's shell runs.
const SCRIPTS: &[(&str, &str)] = &[
    ("offset_left_by_head", "seq 5000 >in; (sh -c 'head -n 1; cat'; echo end) <in; ($RUN head -n 2; head -n 1) <in"),
    ("input_is_seeked", "seq 9 >in; $RUN sh -c 'tail -n 2; dd bs=1 count=1 status=none' <in; $RUN cat <in"),
    ("output_is_shared", "(echo one; $RUN echo two; echo three; $RUN sh -c 'echo four') >out; cat out"),
    ("output_is_appended", "echo one >out; $RUN sh -c 'echo two; echo three >&2' >>out 2>&1; echo four >>out; cat out"),
    ("both_outputs_are_one_file", "$RUN sh -c 'echo out; echo err >&2; echo out' >out 2>&1; cat out"),
    (
        "opened_again_by_name",
        "echo in | $RUN sh -c 'cat /dev/stdin; echo out >/dev/stdout; echo err >/dev/stderr' 2>&1",
    ),
    ("files_opened_again_by_name", "seq 9 >in; $RUN sh -c 'head -c 2 /dev/stdin; cat /proc/self/fd/0' <in"),
    (
        "written_out",
        "seq 9 >in; $RUN dd if=in of=/dev/stdout conv=fsync,notrunc status=none >out; $RUN sh -c 'seq 5; sync -d /dev/stdout' >>out; \
         $RUN truncate -s 20 /dev/stdout >>out; cat out",
    ),
    ("null", "$RUN sh -c 'cat; echo x >/dev/stdout; stat -L -c %F /dev/stdin' </dev/null"),
    ("wrong_way", "$RUN sh -c 'echo x >&0; cat <&1; echo done >&2' </dev/null 2>&1 >/dev/null | tail -n 1"),
];

/// The tests of this kind.
pub fn trials(setup: &Arc<Setup>, platforms: &[&str]) -> Vec<Trial> {
    let each = |platform: &&str| {
        let platform = (*platform).to_owned();
        SCRIPTS.iter().map(move |&(name, script)| (format!("{platform}::streams::{name}"), platform.clone(), script))
    };
    let all = platforms.iter().flat_map(each);
    all.map(|(name, platform, script)| {
        let (setup, key) = (Arc::clone(setup), name.clone());
        Trial::test(name, move || compare(&setup, &platform, script, &key))
    })
    .collect()
}

fn shell(script: &str, prefix: &str) -> Result<Outcome> {
    let mut command = Command::new("sh");
    run::plain_environment(&mut command);
    command.args(["-c", script]).env("RUN", prefix);
    let directory = tempfile::tempdir().context("a directory to run in")?;
    run::run(command, directory.path(), TIME_LIMIT)
}

fn compare(setup: &Setup, platform: &str, script: &str, key: &str) -> Result<(), Failed> {
    let amber = setup.amber()?.program().display().to_string();
    let native = shell(script, "")?;
    let guest = shell(script, &format!("{amber} --platform {platform} do --"))?;
    let same = native.stdout == guest.stdout && native.code() == guest.code();
    let failed = if same { BTreeSet::new() } else { BTreeSet::from([String::new()]) };
    let report = format_args!("natively {}\nin Amber {}", native.describe(), guest.describe()).to_string();
    setup.judge(key, &failed, format_args!("{report}")).map(drop)
}
