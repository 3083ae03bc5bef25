//! How the cost of one thing grows with the number of those a program keeps.
//!
//! Where Amber's cost grows tenfold with ten times as many and the host's does not, something is looked through that
//! should be found.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::contender::{self, Contender};
use crate::report::print_markdown;
use crate::rows::Unit;
use crate::run;
use crate::work::Workspace;

/// How many things there are.
const COUNTS: [u64; 3] = [1_000, 10_000, 100_000];

/// What takes longer is left, and so is more of the same.
const LIMIT: Duration = Duration::from_secs(60);

/// Measures every kind in turn, natively and in Amber, and prints the table. What fails is said and leaves a gap.
///
/// # Errors
/// Nothing could be built, or the kinds could not be listed.
pub(crate) fn measure(workspace: &Workspace, without: &[String]) -> Result<()> {
    let mut contenders = contender::all(workspace, None)?;
    contenders.retain(|one| one.counts_exits() || one.name() == "native");
    contenders.retain(|one| !without.iter().any(|name| name == one.name()));
    let mut head = vec!["Time of each, of so many".to_string()];
    for one in &contenders {
        head.extend(COUNTS.map(|count| format!("{} {count}", one.name())));
    }
    let mut lines = vec![head];
    for (kind, most) in kinds(workspace)? {
        eprintln!("{kind}");
        let mut line = vec![kind.clone()];
        for one in &contenders {
            line.extend(slope(one, workspace, &kind, most));
        }
        lines.push(line);
    }
    print_markdown(&lines);
    Ok(())
}

/// The kinds, each with the most things it can have.
fn kinds(workspace: &Workspace) -> Result<Vec<(String, u64)>> {
    let mut command = std::process::Command::new(workspace.slopes());
    command.arg("names");
    let parse = |line: &str| {
        let (name, most) = line.split_once('\t')?;
        Some((name.to_string(), most.parse().ok()?))
    };
    run::output(command)?.lines().map(|line| parse(line).with_context(|| format!("unexpected line {line:?}"))).collect()
}

/// What one of a kind takes, of more and more, until one measurement fails.
fn slope(contender: &Contender, workspace: &Workspace, kind: &str, most: u64) -> [String; COUNTS.len()] {
    let mut goes_on = true;
    COUNTS.map(|count| {
        if !goes_on || count > most {
            return "–".into();
        }
        let words = [workspace.slopes(), kind.into(), count.to_string().into()];
        let time = contender
            .micro_within(&words, LIMIT)
            .and_then(|results| results.first().map(|(_, time)| *time).context("printed no time"));
        match time {
            Ok(time) => Unit::Time.show(time),
            Err(error) => {
                println!("{}: {count} {kind}: {error:#}", contender.name());
                goes_on = false;
                "–".into()
            }
        }
    })
}
