//! `amber ps`.

use std::ffi::OsString;
use std::time::Duration;

use amber_host::channel::Channel;
use anyhow::{Context, Result, bail, ensure};

use crate::cli::{ListFormat, PsArgs};
use crate::oci::Runtime;
use crate::oci::control::{Processes, Reply, Request, ask};
use crate::oci::state::Status;
use crate::oci::store::Container;
use crate::printable::in_columns;

/// Timeout for the sandbox's answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Prints the guest's processes, or the process IDs of their proxies on the host.
///
/// # Errors
/// There is no such container, or its sandbox does not answer.
pub(super) fn command(runtime: &Runtime, args: &PsArgs) -> Result<u8> {
    let (container, state) = runtime.store.load(&args.id)?;
    let status = state.current();
    let runs = matches!(status, Status::Running | Status::Created | Status::Paused);
    match args.format {
        ListFormat::Json => {
            let mut pids = Vec::new();
            if runs {
                pids.push(state.pid);
                // A sandbox that does not answer has at least its own process.
                let answer = if status == Status::Paused { None } else { processes(&container).ok() };
                pids.extend(answer.unwrap_or_default().proxies);
                return crate::print(&format!("{}\n", serde_json::to_string(&pids).context("the list")?));
            }
            crate::print("null\n")
        }
        ListFormat::Table => {
            let columns = columns(&args.options)?;
            let answer = if runs { processes(&container)? } else { Processes::default() };
            let mut rows = vec![columns.iter().map(|(_, head)| head.clone()).collect::<Vec<_>>()];
            for row in &answer.table {
                rows.push(columns.iter().filter_map(|(column, _)| row.get(*column).cloned()).collect());
            }
            crate::print(&in_columns(&rows, 0))
        }
    }
}

/// The columns of the sandbox's answer, with the headers of `ps -f`.
const FULL: [&str; 8] = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];
/// Names of columns in ps(1), the index of each in [`FULL`], and its header.
const NAMES: [(&str, usize, &str); 18] = [
    ("uid", 0, "UID"),
    ("euid", 0, "EUID"),
    ("user", 0, "USER"),
    ("euser", 0, "EUSER"),
    ("pid", 1, "PID"),
    ("tgid", 1, "TGID"),
    ("ppid", 2, "PPID"),
    ("c", 3, "C"),
    ("stime", 4, "STIME"),
    ("start_time", 4, "START"),
    ("tty", 5, "TT"),
    ("tt", 5, "TT"),
    ("tname", 5, "TTY"),
    ("time", 6, "TIME"),
    ("cputime", 6, "TIME"),
    ("cmd", 7, "CMD"),
    ("args", 7, "COMMAND"),
    ("command", 7, "COMMAND"),
];

/// The columns selected by options of ps(1), with their headers; those of `ps -f` by default. Options that select
/// processes are ignored: the list always has those of the container.
///
/// # Errors
/// An option or a column is not supported.
fn columns(options: &[OsString]) -> Result<Vec<(usize, String)>> {
    let mut columns = Vec::new();
    let mut words = options.iter().map(|word| word.to_string_lossy());
    while let Some(word) = words.next() {
        let (letters, list) = match word.strip_prefix("--format") {
            Some(list) => ("", Some(list.trim_start_matches('=').to_owned())),
            None => match word.split_once('o') {
                Some((letters, list)) => (letters, Some(list.to_owned())),
                None => (&*word, None),
            },
        };
        ensure!(letters.chars().all(|letter| "-eAafx".contains(letter)), "ps {word}: this option is not offered");
        let list = match list {
            Some(list) if list.is_empty() => {
                words.next().with_context(|| format!("ps {word}: a list is missing"))?.into()
            }
            Some(list) => list,
            None => continue,
        };
        for name in list.split([',', ' ']).filter(|name| !name.is_empty()) {
            let (name, head) = name.split_once('=').map_or((name, None), |(name, head)| (name, Some(head)));
            let known = NAMES.iter().find(|known| known.0 == name);
            let (_, column, usual) = known.with_context(|| format!("ps: the column {name} is not offered"))?;
            columns.push((*column, head.unwrap_or(usual).to_owned()));
        }
    }
    if columns.is_empty() {
        columns.extend(FULL.iter().enumerate().map(|(column, head)| (column, (*head).to_owned())));
    }
    Ok(columns)
}

fn processes(container: &Container) -> Result<Processes> {
    let channel = Channel::new(container.connect().context("connecting to the sandbox")?);
    channel.set_timeout(Some(TIMEOUT)).context("a socket")?;
    match ask(&channel, &Request::Processes, &[])? {
        Reply::Processes(processes) => Ok(processes),
        other => bail!("the sandbox answered {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(line: &str) -> String {
        let options: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let columns = columns(&options).map_err(|error| error.to_string());
        columns.map_or_else(|error| error, |columns| columns.into_iter().map(|(_, head)| head + " ").collect())
    }

    #[test]
    fn options_are_those_of_ps() {
        for line in ["", "-ef", "-e -f", "ax", "-A"] {
            assert_eq!(heads(line), "UID PID PPID C STIME TTY TIME CMD ", "{line}");
        }
        for line in ["-o pid,args", "-eo pid,args", "-opid,args", "o pid,args", "-o pid -o args", "--format=pid,args"] {
            assert_eq!(heads(line), "PID COMMAND ", "{line}");
        }
        assert_eq!(heads("-o pid=NUMBER,cmd="), "NUMBER  ");
        assert!(heads("aux").contains("not offered") && heads("-o rss").contains("rss"));
        assert!(heads("-eo").contains("missing"));
    }
}
