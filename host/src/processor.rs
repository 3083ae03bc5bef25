//! The host's CPUs. A guest's `cpuid` instruction would return most of this as well.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::sync::OnceLock;

/// Roughly the size of the text for one CPU.
const FIRST_READ: usize = 2048;

/// The current CPU of the calling thread, if the host reports it.
pub fn current() -> Option<usize> {
    nix::sched::sched_getcpu().ok()
}

/// The number of CPUs that this process may use.
pub fn count() -> usize {
    let usable = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0));
    let count = usable
        .map_or(0, |set| (0..nix::sched::CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).count());
    count.max(1)
}

/// Sets the C library's maximum number of heap arenas per CPU; it would choose 8 itself. Otherwise it counts the CPUs when
/// threads first compete for memory, by host calls that nothing else needs.
pub fn limit_arenas(each: usize) {
    #[cfg(target_env = "gnu")]
    {
        let arenas = i32::try_from(count().saturating_mul(each)).unwrap_or(i32::MAX);
        // SAFETY: the call takes numbers only.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, arenas) };
    }
}

/// A CPU as in `/proc/cpuinfo`. All are assumed to be alike.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the fields carry the names of /proc/cpuinfo")]
pub struct Description {
    pub vendor: String,
    pub family: String,
    pub model: String,
    pub name: String,
    pub stepping: String,
    pub megahertz: String,
    pub cache_kilobytes: u64,
    pub level: String,
    pub flags: String,
    pub bogomips: String,
}

/// Describes the host's first CPU. Read once, before the guest starts.
pub fn description() -> &'static Description {
    static FOUND: OnceLock<Description> = OnceLock::new();
    FOUND.get_or_init(|| parse(&first_paragraph("/proc/cpuinfo").unwrap_or_default()))
}

/// The text up to the first empty line. The rest is not read, since the host generates it CPU by CPU on reading.
fn first_paragraph(path: &str) -> io::Result<String> {
    let mut text = Vec::new();
    let mut file = BufReader::with_capacity(FIRST_READ, File::open(path)?);
    while file.read_until(b'\n', &mut text)? > 1 {}
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Features that guests do not get: memory protection keys.
const NOT_OFFERED: [&str; 2] = ["pku", "ospke"];

fn offered(flags: &str) -> String {
    let flags: Vec<&str> = flags.split_whitespace().filter(|flag| !NOT_OFFERED.contains(flag)).collect();
    flags.join(" ")
}

fn parse(text: &str) -> Description {
    let field = |wanted: &str| {
        let found = text.lines().filter_map(|line| line.split_once(':')).find(|(name, _)| name.trim() == wanted);
        found.map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    Description {
        vendor: field("vendor_id"),
        family: field("cpu family"),
        model: field("model"),
        name: field("model name"),
        stepping: field("stepping"),
        megahertz: field("cpu MHz"),
        cache_kilobytes: field("cache size").trim_end_matches(" KB").parse().unwrap_or(0),
        level: field("cpuid level"),
        flags: offered(&field("flags")),
        bogomips: field("bogomips"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_first_processor_is_described() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let text = "processor\t: 0\nmodel name\t: One\nflags\t\t: fpu pku sse\n\nprocessor\t: 1\nmodel name\t: Two\ncpuid level\t: 7\n\n";
        file.write_all(text.as_bytes()).unwrap();
        let found = parse(&first_paragraph(file.path().to_str().unwrap()).unwrap());
        assert_eq!((&*found.name, &*found.flags, &*found.level), ("One", "fpu sse", ""));
    }
}
