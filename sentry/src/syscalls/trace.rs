//! The output of `--strace`: a line for each call in the format of strace(1).

use std::io::Write;
use std::time::Instant;

use amber_abi::errno::Errno;

use crate::config::TraceFilter;
use crate::error::{Restart, SysError, SysResult};
use crate::sync::{Mutex, Rank};
use crate::syscalls::args::{View, put};
use crate::syscalls::dispatch::{Entry, serve};
use crate::task::TaskContext;

/// Prints calls, signals and exits.
pub(crate) struct Tracer {
    names: Vec<String>,
    sink: Mutex<Box<dyn Write + Send>>,
}

impl Tracer {
    /// A tracer of the calls that a filter selects.
    pub(crate) fn new(filter: TraceFilter) -> Self {
        Tracer { names: filter.names, sink: Mutex::new(Rank::Leaf, filter.sink) }
    }

    fn selects(&self, entry: &Entry) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| name == entry.name)
    }

    /// Prints a line about a task. Write errors are ignored, since tracing must not affect the task.
    pub(crate) fn line(&self, tid: i32, text: &str) {
        let mut line = String::with_capacity(text.len() + 16);
        put!(line, "[pid {tid:>5}] {text}\n");
        let _ = self.sink.lock().write_all(line.as_bytes());
    }

    /// Handles a call and prints it.
    pub(crate) fn call(&self, ctx: &mut TaskContext, entry: &'static Entry, raw: [u64; 6]) -> SysResult {
        if !self.selects(entry) {
            return serve(ctx, entry, raw);
        }
        // Inputs are printed before the call, which may change them, and outputs after it.
        let before: Vec<Option<String>> = entry
            .parameters
            .iter()
            .enumerate()
            .map(|(index, parameter)| {
                (!parameter.is_out).then(|| {
                    let mut text = String::new();
                    (parameter.show)(&View { ctx, raw, index, result: None }, &mut text);
                    text
                })
            })
            .collect();
        Errno::forget_place();
        let start = Instant::now();
        let result = serve(ctx, entry, raw);
        let took = start.elapsed();
        let mut line = format!("{}(", entry.name);
        for (index, (parameter, text)) in entry.parameters.iter().zip(before).enumerate() {
            line.push_str(if index > 0 { ", " } else { "" });
            match text {
                Some(text) => line.push_str(&text),
                None => (parameter.show)(&View { ctx, raw, index, result: Some(&result) }, &mut line),
            }
        }
        line.push_str(") = ");
        show_result(entry, &result, &mut line);
        put!(line, " <{}.{:06}>", took.as_secs(), took.subsec_micros());
        self.line(ctx.tid(), &line);
        result
    }
}

fn show_result(entry: &Entry, result: &SysResult, out: &mut String) {
    match result {
        Ok(_) if matches!(entry.name, "exit" | "exit_group") => out.push('?'),
        // Larger results are addresses.
        Ok(value) if *value > u64::from(u32::MAX) => put!(out, "{value:#x}"),
        Ok(value) => put!(out, "{value}"),
        Err(SysError::Errno(errno)) => {
            put!(out, "-1 {} ({})", errno.name(), errno.text());
            if let Some(place) = errno.place() {
                put!(out, " at {}:{}", place.file(), place.line());
            }
        }
        Err(SysError::Restart(restart)) => put!(
            out,
            "? {} (To be restarted if SA_RESTART is set)",
            match restart {
                Restart::ByFlag => "ERESTARTSYS",
                Restart::UnlessHandled => "ERESTARTNOHAND",
                Restart::Always => "ERESTARTNOINTR",
                Restart::Resume(_) => "ERESTART_RESTARTBLOCK",
            }
        ),
    }
}
