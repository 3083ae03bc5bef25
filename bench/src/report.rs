//! The table and the picture.

use std::fs;
use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged};
use plotters::prelude::*;

use crate::Samples;
use crate::contender::{AMBER, BEFORE, KVM, PTRACE, RIVAL};
use crate::rows::Row;

/// Contenders set against one of them.
struct Comparison<'a> {
    base: String,
    subjects: Vec<&'a str>,
    /// The most that a subject shall need, as a part of what the base needs.
    aim: fn(&Row) -> Option<f64>,
}

/// The most that a change may cost, as a part of what was needed before.
const NO_SLOWER: f64 = 1.03;

impl Comparison<'_> {
    /// Amber against its rival, its own platforms against each other, and both against another build, as far as they were
    /// measured.
    fn all<'a>(contenders: &[&'a str]) -> Vec<Comparison<'a>> {
        let some = |wanted: fn(&str) -> bool| contenders.iter().copied().filter(|name| wanted(name)).collect();
        let mut all = vec![
            Comparison { base: RIVAL.into(), subjects: some(|name| name.starts_with(AMBER)), aim: |row| row.aim },
            Comparison { base: PTRACE.into(), subjects: some(|name| name == KVM), aim: |row| Some(row.kvm_aim) },
        ];
        for name in contenders {
            let before = name.strip_prefix(AMBER).map(|platform| format!("{BEFORE}{platform}"));
            let before = before.map(|base| Comparison { base, subjects: vec![name], aim: |_| Some(NO_SLOWER) });
            all.extend(before);
        }
        all.retain(|comparison| contenders.contains(&comparison.base.as_str()) && !comparison.subjects.is_empty());
        all
    }

    fn head(&self) -> Vec<String> {
        let mut head: Vec<_> = self.subjects.iter().map(|name| format!("{name} / {}", self.base)).collect();
        head.push("aim".into());
        head
    }

    fn line(&self, row: &Row, samples: &Samples) -> Vec<String> {
        let base = median(samples, row.name, &self.base).filter(|value| *value > 0.0);
        let aim = (self.aim)(row);
        let against = |name: &&str| {
            let ratio = median(samples, row.name, name).zip(base).map(|(own, base)| own / base);
            match (ratio, aim) {
                (Some(ratio), Some(aim)) if ratio <= aim => format!("{ratio:.2} ✓"),
                (Some(ratio), Some(_)) => format!("{ratio:.2} ✗"),
                (Some(ratio), None) => format!("{ratio:.2}"),
                (None, _) => "–".into(),
            }
        };
        let mut line: Vec<_> = self.subjects.iter().map(against).collect();
        line.push(aim.map_or_else(String::new, |aim| format!("≤ {aim}")));
        line
    }
}

/// The middle sample, which one slow round does not move.
fn median(samples: &Samples, row: &str, contender: &str) -> Option<f64> {
    let mut values = samples.get(row)?.get(contender)?.clone();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values.get(middle).copied() } else { Some((values[middle - 1] + values[middle]) / 2.0) }
}

/// Prints the table: medians, how many times native that is, and how Amber stands against others.
pub(crate) fn table(contenders: &[&str], samples: &Samples) {
    let comparisons = Comparison::all(contenders);
    let mut head = vec![String::new()];
    head.extend(contenders.iter().map(|name| name.to_string()));
    head.extend(comparisons.iter().flat_map(Comparison::head));
    let mut lines = vec![head];
    for row in Row::all() {
        let native = median(samples, row.name, "native");
        let mut line = vec![row.name.to_string()];
        for contender in contenders {
            line.push(match (median(samples, row.name, contender), native) {
                (None, _) => "–".into(),
                (Some(value), Some(native)) if *contender != "native" && native > 0.0 => {
                    format!("{} ({})", row.unit.show(value), times(value / native))
                }
                (Some(value), _) => row.unit.show(value),
            });
        }
        line.extend(comparisons.iter().flat_map(|comparison| comparison.line(row, samples)));
        lines.push(line);
    }
    print_markdown(&lines);
}

fn times(ratio: f64) -> String {
    if ratio < 10.0 { format!("{ratio:.1}×") } else { format!("{ratio:.0}×") }
}

/// Prints a table whose first line is its head; all columns but the first stand to the right.
pub(crate) fn print_markdown(lines: &[Vec<String>]) {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|at| lines.iter().filter_map(|line| line.get(at)).map(|cell| cell.chars().count()).max())
        .map(|width| width.unwrap_or(0).max(3))
        .collect();
    println!();
    for (index, line) in lines.iter().enumerate() {
        let cells =
            line.iter().zip(&widths).enumerate().map(|(at, (cell, &width))| {
                if at == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
        println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
        if index == 0 {
            let rules = widths
                .iter()
                .enumerate()
                .map(|(at, &width)| if at == 0 { "-".repeat(width) } else { format!("{}:", "-".repeat(width - 1)) });
            println!("| {} |", rules.collect::<Vec<_>>().join(" | "));
        }
    }
}

/// The names of the rows along the vertical axis, each in the middle of its place.
struct Places(Vec<&'static str>);

impl Ranged for Places {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let part = value / self.0.len() as f64;
        limit.0 + (part * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        (0..self.0.len()).map(|index| index as f64 + 0.5).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        0.0..self.0.len() as f64
    }
}

impl plotters::coord::ranged1d::ValueFormatter<f64> for Places {
    fn format_ext(&self, value: &f64) -> String {
        // The first row stands on top.
        self.0.iter().rev().nth(*value as usize).unwrap_or(&"").to_string()
    }
}

/// Draws how many times native each contender needs, on a logarithmic scale.
pub(crate) fn picture(path: &Path, contenders: &[&str], samples: &Samples) -> Result<()> {
    let drawn: Vec<&str> = contenders.iter().copied().filter(|name| *name != "native").collect();
    let rows: Vec<&Row> =
        Row::all().iter().filter(|row| median(samples, row.name, "native").is_some_and(|value| value > 0.0)).collect();
    let ratio = |row: &Row, name: &str| -> Option<f64> {
        Some(median(samples, row.name, name)? / median(samples, row.name, "native")?)
    };
    let all = rows.iter().flat_map(|row| drawn.iter().filter_map(|name| ratio(row, name)));
    let (low, high) = all.fold((0.9, 10.0), |(low, high): (f64, f64), value| (low.min(value), high.max(value)));

    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let height = 90 + rows.len() as u32 * (12 * drawn.len() as u32 + 10);
    let area = SVGBackend::new(path, (960, height)).into_drawing_area();
    let broken = |error: &dyn std::fmt::Display| anyhow!("drawing: {error}");
    area.fill(&WHITE).map_err(|e| broken(&e))?;
    let names = Places(rows.iter().map(|row| row.name).collect());
    let mut chart = ChartBuilder::on(&area)
        .caption("Times native (logarithmic; shorter is better)", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(150)
        .build_cartesian_2d((low * 0.9..high * 1.2).log_scale(), names)
        .map_err(|e| broken(&e))?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(rows.len())
        .x_label_formatter(&|value| times(*value))
        .label_style(("sans-serif", 13))
        .draw()
        .map_err(|e| broken(&e))?;
    for (index, name) in drawn.iter().enumerate() {
        let color = Palette99::pick(index).mix(0.85);
        let thick = 0.8 / drawn.len() as f64;
        let bars = rows.iter().rev().enumerate().filter_map(|(place, row)| {
            let top = place as f64 + 0.9 - index as f64 * thick;
            Some(Rectangle::new([(1.0, top - thick), (ratio(row, name)?, top)], color.filled()))
        });
        chart
            .draw_series(bars)
            .map_err(|e| broken(&e))?
            .label(*name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], color.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 13))
        .draw()
        .map_err(|e| broken(&e))?;
    area.present().map_err(|e| broken(&e))
}
