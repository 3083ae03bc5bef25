//! The guest's processes in the columns of `ps -ef`.

use std::time::{Duration, SystemTime};

use amber_sentry::external_process::ProcessInfo;

/// One row per process, without the header.
pub(super) fn rows(processes: &[ProcessInfo]) -> Vec<Vec<String>> {
    processes.iter().map(row).collect()
}

fn row(process: &ProcessInfo) -> Vec<String> {
    let seconds = process.cpu / 1_000_000_000;
    let age = SystemTime::now().duration_since(process.started).unwrap_or_default();
    let share = (process.cpu / 10_000_000).checked_div(age.as_secs()).unwrap_or(0).min(99);
    let command =
        if process.arguments.is_empty() { format!("[{}]", process.name) } else { process.arguments.join(" ") };
    vec![
        process.uid.to_string(),
        process.pid.to_string(),
        process.ppid.to_string(),
        share.to_string(),
        started(process.started, age),
        terminal(process.terminal),
        format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
        command,
    ]
}

/// The time of day, or the date if that is more than a day ago.
fn started(at: SystemTime, age: Duration) -> String {
    let text = humantime::format_rfc3339_seconds(at).to_string();
    let part = if age < Duration::from_secs(86_400) { text.get(11..16) } else { text.get(5..10) };
    part.unwrap_or("?").to_owned()
}

fn terminal(device: u32) -> String {
    // Pseudo-terminals have majors from 136 on. Device numbers are encoded as by Linux.
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00);
    match major {
        0 => "?".to_owned(),
        136..=143 => format!("pts/{}", (major - 136) << 8 | minor),
        _ => format!("{major}:{minor}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_those_of_ps() {
        let process = ProcessInfo {
            pid: 7,
            ppid: 1,
            uid: 33,
            threads: 1,
            terminal: 136 << 8 | 2,
            started: SystemTime::UNIX_EPOCH + Duration::from_secs(3661),
            cpu: 3_723_000_000_000,
            state: 'S',
            resident: 0,
            name: "cat".into(),
            arguments: vec!["cat".into(), "-n".into()],
        };
        assert_eq!(row(&process), ["33", "7", "1", "0", "01-01", "pts/2", "01:02:03", "cat -n"]);
    }
}
