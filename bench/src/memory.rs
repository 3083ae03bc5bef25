//! What a process and all that it started use.

use std::collections::HashSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::unistd::{SysconfVar, sysconf};

/// What an idle sandbox uses.
pub(crate) struct Idle {
    /// Bytes: the proportional share of all its processes' memory (PSS).
    pub memory: f64,
    /// Processor seconds in a second.
    pub cpu: f64,
}

/// What the descendants of this process use, once they have settled.
pub(crate) fn observe_children() -> Result<Idle> {
    let own = std::process::id();
    let mut idle = observe(own)?;
    idle.memory -= pss(own).unwrap_or(0) as f64;
    ensure!(idle.memory > 0.0, "no process to look at");
    Ok(idle)
}

/// Lets the sandbox below the process `root` settle, then watches it do nothing.
pub(crate) fn observe(root: u32) -> Result<Idle> {
    thread::sleep(Duration::from_millis(1500));
    let (before, start) = (ticks(root), Instant::now());
    thread::sleep(Duration::from_millis(1000));
    let (after, took) = (ticks(root), start.elapsed().as_secs_f64());
    let memory: u64 = tree(root).into_iter().filter_map(pss).sum();
    ensure!(memory > 0, "no process to look at");
    let rate = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100) as f64;
    Ok(Idle { memory: memory as f64, cpu: after.saturating_sub(before) as f64 / rate / took })
}

/// A process and its descendants.
fn tree(root: u32) -> Vec<u32> {
    let all: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat_field(pid, 1)? as u32)))
        .collect();
    let mut found = HashSet::from([root]);
    loop {
        let before = found.len();
        found.extend(all.iter().filter(|(_, parent)| found.contains(parent)).map(|(pid, _)| *pid).collect::<Vec<_>>());
        if found.len() == before {
            return found.into_iter().collect();
        }
    }
}

/// A number of `/proc/PID/stat`, counted from 0 behind the command's name.
fn stat_field(pid: u32, index: usize) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(index)?.parse().ok()
}

fn ticks(root: u32) -> u64 {
    // Fields 14 and 15 of proc(5) are time in user and kernel mode.
    tree(root).into_iter().filter_map(|pid| Some(stat_field(pid, 11)? + stat_field(pid, 12)?)).sum()
}

fn pss(pid: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
