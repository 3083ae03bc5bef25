//! The destination and format of log messages and traces.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Instant, SystemTime};

use amber_host::terminal;
use anyhow::{Context, Result};
use log::{Level, LevelFilter};

use crate::cli::{GlobalArgs, LogFormat, LogLevel};
use crate::printable::printable;
use crate::rate::RateLimit;

/// Starts logging as the flags demand. Lines on standard error begin with `amber:`; lines in a file begin with the
/// seconds since the start. Each message is one printable line, and [`RateLimit`] bounds the number of messages from
/// one place in the code.
pub(crate) fn start(args: &GlobalArgs) -> Result<()> {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level(args)).target(env_logger::Target::Pipe(sink(args)?));
    let (form, limit) = (Form::of(args), RateLimit::default());
    builder.format(move |out, record| {
        let place = (record.file_static().unwrap_or_default(), record.line().unwrap_or_default());
        let Some(suppressed) = limit.admit(place, Instant::now()) else { return Ok(()) };
        if suppressed > 0 {
            let (file, line) = place;
            let text = format!("{suppressed} messages like the next one were left out ({file}:{line})");
            writeln!(out, "{}", form.line(record.level(), &text))?;
        }
        writeln!(out, "{}", form.line(record.level(), &record.args().to_string()))
    });
    builder.init();
    Ok(())
}

/// The format of a log line.
enum Form {
    /// As runc writes it.
    Entry(LogFormat),
    /// With the time since the start.
    Timed(Instant),
    /// As an error message of a program.
    Message,
}

impl Form {
    fn of(args: &GlobalArgs) -> Form {
        match (args.log_format, &args.log) {
            (Some(format), _) => Form::Entry(format),
            (None, Some(_)) => Form::Timed(Instant::now()),
            (None, None) => Form::Message,
        }
    }

    fn line(&self, level: Level, message: &str) -> String {
        match self {
            Form::Entry(format) => entry(*format, level, message),
            Form::Timed(start) => {
                let time = start.elapsed().as_secs_f64();
                format!("[{time:12.6}] {}{}", prefix(level), printable(message))
            }
            Form::Message => format!("amber: {}{}", prefix(level), printable(message)),
        }
    }
}

/// Reports why a command failed: in one line on standard error, and in the log if that is another file.
pub(crate) fn report(args: &GlobalArgs, message: &str) {
    if args.log.is_some() {
        log::error!("{message}");
    }
    complain(args.log.is_some(), args.log_format, message);
}

/// Likewise for a command that was called with invalid arguments and logs nothing else.
pub(crate) fn report_early(log: Option<&Path>, format: Option<LogFormat>, message: &str) {
    if let Some(path) = log {
        let line = match format {
            Some(format) => entry(format, Level::Error, message),
            None => format!("{}{}", prefix(Level::Error), printable(message)),
        };
        let file = OpenOptions::new().append(true).create(true).open(path);
        // Standard error has the message as well.
        let _ = file.and_then(|mut file| writeln!(file, "{line}"));
    }
    complain(log.is_some(), format, message);
}

fn complain(is_logged: bool, format: Option<LogFormat>, message: &str) {
    // Without standard error, the exit status remains.
    let _ = match format.filter(|_| !is_logged) {
        Some(format) => writeln!(io::stderr(), "{}", entry(format, Level::Error, message)),
        None => writeln!(io::stderr(), "amber: {}", printable(message)),
    };
}

/// Reports an error in one line on standard error, without regard to flags.
pub(crate) fn complain_plainly(message: &str) {
    complain(false, None, message);
}

/// A line of the log as runc writes it.
fn entry(format: LogFormat, level: Level, message: &str) -> String {
    let level = match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    let time = humantime::format_rfc3339_seconds(SystemTime::now());
    match format {
        LogFormat::Json => {
            serde_json::json!({"level": level, "msg": printable(message), "time": time.to_string()}).to_string()
        }
        LogFormat::Text => format!("time=\"{time}\" level={level} msg={message:?}"),
    }
}

fn level(args: &GlobalArgs) -> LevelFilter {
    let level = filter(args.log_level);
    if args.debug { level.max(LevelFilter::Debug) } else { level }
}

/// Opens the file of `--log`, or else standard error.
pub(crate) fn sink(args: &GlobalArgs) -> Result<Box<dyn Write + Send>> {
    let Some(path) = &args.log else { return Ok(Box::new(StandardError)) };
    let file: io::Result<File> = OpenOptions::new().append(true).create(true).open(path);
    Ok(Box::new(file.with_context(|| format!("--log {}", path.display()))?))
}

/// A descriptor of the log for messages that must be written without locks.
pub(crate) fn descriptor(args: &GlobalArgs) -> Result<OwnedFd> {
    let Some(path) = &args.log else {
        return io::stderr().as_fd().try_clone_to_owned().context("duplicating standard error");
    };
    let file: io::Result<File> = OpenOptions::new().append(true).create(true).open(path);
    Ok(file.with_context(|| format!("--log {}", path.display()))?.into())
}

/// Standard error. Adds carriage returns while the terminal is in raw mode.
struct StandardError;

impl Write for StandardError {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if !terminal::is_raw() {
            return io::stderr().write(buf);
        }
        let mut text = Vec::with_capacity(buf.len() + 16);
        for &byte in buf {
            if byte == b'\n' {
                text.push(b'\r');
            }
            text.push(byte);
        }
        io::stderr().write_all(&text)?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
