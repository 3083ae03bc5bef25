//! How often an operation leaves guest code, from what Amber's `--metrics` says.

use std::collections::HashMap;
use std::ffi::OsString;

use anyhow::{Context, Result};

use crate::contender::{Contender, KVM};
use crate::report::print_markdown;
use crate::rows::{Counting, Row};

/// An operation is done so often and so often; only the difference counts, so that the start and the end do not.
const FEW: u32 = 64;
const MANY: u32 = 576;
/// What a stray page fault or kick may add to one operation.
const TOLERANCE: f64 = 0.05;

/// Exits by reason, of a whole sandbox or of one operation.
#[derive(Clone, Copy, Default)]
pub(crate) struct Exits {
    calls: f64,
    faults: f64,
    others: f64,
}

impl Exits {
    /// Reads the text that `--metrics` wrote.
    pub(crate) fn parse(text: &str) -> Result<Exits> {
        let mut exits = Exits::default();
        for line in text.lines() {
            let bad = || format!("unexpected line {line:?} in metrics");
            let (name, value) = line.split_once(' ').with_context(bad)?;
            let value: f64 = value.parse().with_context(bad)?;
            match name {
                "exits.syscall" => exits.calls += value,
                "exits.page_fault" => exits.faults += value,
                name if name.starts_with("exits.") => exits.others += value,
                _ => {}
            }
        }
        Ok(exits)
    }

    /// What one operation takes when `many` did more operations than `few`.
    fn each(few: Exits, many: Exits) -> Exits {
        // A little less than nothing is nothing.
        let each = |few: f64, many: f64| ((many - few) / f64::from(MANY - FEW)).max(0.0);
        Exits {
            calls: each(few.calls, many.calls),
            faults: each(few.faults, many.faults),
            others: each(few.others, many.others),
        }
    }

    fn total(self) -> f64 {
        self.calls + self.faults + self.others
    }
}

/// Exits of one operation: row → contender → exits.
pub(crate) type Counts = HashMap<&'static str, HashMap<String, Exits>>;

/// Counts the exits of every small operation. What fails is said and leaves a gap in the table.
pub(crate) fn count(contenders: &[Contender], micro: &OsString) -> Counts {
    let mut counts = Counts::new();
    for contender in contenders.iter().filter(|contender| contender.counts_exits()) {
        eprintln!("counting exits: {}", contender.name());
        for row in Row::all().iter().filter(|row| row.exits != Counting::No) {
            let total = |times: u32| {
                contender.exits(&[micro.clone(), "count".into(), row.name.into(), times.to_string().into()])
            };
            match total(FEW).and_then(|few| Ok(Exits::each(few, total(MANY)?))) {
                Ok(each) => drop(counts.entry(row.name).or_default().insert(contender.name().into(), each)),
                Err(error) => println!("{}: exits of {}: {error:#}", contender.name(), row.name),
            }
        }
    }
    counts
}

/// The operations that take more exits on KVM than they may, or of which nothing is known.
pub(crate) fn missed(counts: &Counts) -> Vec<&'static str> {
    let keeps = |row: &Row| match (row.exits, counts.get(row.name).and_then(|row| row.get(KVM))) {
        (Counting::AtMost(most), Some(exits)) => exits.total() <= most + TOLERANCE,
        (Counting::AtMost(_), None) => false,
        _ => true,
    };
    Row::all().iter().filter(|row| !keeps(row)).map(|row| row.name).collect()
}

/// Prints the exits of one operation, in total and by reason, and for KVM how that stands against the aim.
pub(crate) fn table(contenders: &[&str], counts: &Counts) {
    let counted: Vec<&str> =
        contenders.iter().copied().filter(|name| counts.values().any(|row| row.contains_key(*name))).collect();
    if counted.is_empty() {
        return;
    }
    let mut head = vec!["Exits per operation".to_string()];
    for name in &counted {
        head.extend([name, "system call", "page fault", "other"].map(String::from));
        if *name == KVM {
            head.push("aim".into());
        }
    }
    let mut lines = vec![head];
    for row in Row::all().iter().filter(|row| row.exits != Counting::No) {
        let mut line = vec![row.name.to_string()];
        for name in &counted {
            line.extend(cells(row, counts.get(row.name).and_then(|row| row.get(*name)), *name == KVM));
        }
        lines.push(line);
    }
    print_markdown(&lines);
}

fn cells(row: &Row, exits: Option<&Exits>, with_aim: bool) -> Vec<String> {
    let shown = |part: fn(&Exits) -> f64| exits.map_or("–".into(), |exits| format!("{:.2}", part(exits)));
    let mut total = shown(|exits| exits.total());
    let mut aim = String::new();
    if with_aim && let Counting::AtMost(most) = row.exits {
        aim = format!("≤ {most}");
        if let Some(exits) = exits {
            total.push_str(if exits.total() <= most + TOLERANCE { " ✓" } else { " ✗" });
        }
    }
    let mut cells = vec![total, shown(|exits| exits.calls), shown(|exits| exits.faults), shown(|exits| exits.others)];
    if with_aim {
        cells.push(aim);
    }
    cells
}
