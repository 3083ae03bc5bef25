//! Where log messages go and what they look like.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::Instant;

use anyhow::{Context, Result};
use log::{Level, LevelFilter};

use crate::cli::{GlobalArgs, LogLevel};

/// Starts logging as the flags say. Lines on standard error begin with `amber:` like any message of a program; lines in
/// a file begin with the seconds since the start.
pub fn start(args: &GlobalArgs) -> Result<()> {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(filter(args.log_level));
    if let Some(path) = &args.log {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let file = file.with_context(|| format!("--log {}", path.display()))?;
        builder.target(env_logger::Target::Pipe(Box::new(file)));
        let start = Instant::now();
        builder.format(move |out, record| {
            let time = start.elapsed().as_secs_f64();
            writeln!(out, "[{time:12.6}] {}{}", prefix(record.level()), record.args())
        });
    } else {
        builder.format(|out, record| writeln!(out, "amber: {}{}", prefix(record.level()), record.args()));
    }
    builder.init();
    Ok(())
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::Off,
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    }
}

fn prefix(level: Level) -> &'static str {
    match level {
        Level::Error => "error: ",
        Level::Warn => "warning: ",
        Level::Info => "",
        Level::Debug => "debug: ",
        Level::Trace => "trace: ",
    }
}
