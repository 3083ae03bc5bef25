//! What is measured, and what is aimed at.

/// A line of the tables.
pub(crate) struct Row {
    /// What is measured.
    pub name: &'static str,
    /// In what.
    pub unit: Unit,
    /// The most that Amber shall need, as a part of what the rival needs.
    pub aim: Option<f64>,
    /// The most that Amber shall need on KVM, as a part of what it needs on ptrace.
    pub kvm_aim: f64,
    /// Whether exits are counted.
    pub exits: Counting,
}

/// Whether the exits of an operation are counted, and how many it may take on KVM.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Counting {
    /// They are not: it is no operation of the guest program.
    No,
    /// They are, and nothing is aimed at.
    Yes,
    /// It may take so many: one for each system call and page fault that needs the sentry.
    AtMost(f64),
}

/// What a value counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Nanoseconds.
    Time,
    /// Bytes.
    Bytes,
    /// A part of one processor.
    Share,
}

impl Unit {
    /// A value as people read it.
    pub(crate) fn show(self, value: f64) -> String {
        let scaled = |steps: &[(f64, &str)]| {
            let (size, name) = steps.iter().rev().find(|(size, _)| value >= *size).unwrap_or(&steps[0]);
            let value = value / size;
            if value < 10.0 { format!("{value:.2} {name}") } else { format!("{value:.0} {name}") }
        };
        match self {
            Unit::Time => scaled(&[(1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s")]),
            Unit::Bytes => scaled(&[(1024.0, "KiB"), (1024.0 * 1024.0, "MiB")]),
            Unit::Share => format!("{:.1} %", value * 100.0),
        }
    }
}

impl Row {
    /// Every row, in the order of the tables.
    pub(crate) fn all() -> &'static [Row] {
        const fn row(name: &'static str, aim: f64, exits: Counting) -> Row {
            Row { name, unit: Unit::Time, aim: Some(aim), kvm_aim: 1.0, exits }
        }
        const fn at_most(name: &'static str, aim: f64, exits: u32) -> Row {
            row(name, aim, Counting::AtMost(exits as f64))
        }
        const ROWS: &[Row] = &[
            at_most("getpid", 0.4, 0),
            at_most("gettid+getuid", 0.7, 0),
            Row { aim: None, ..at_most("clock_gettime", 0.7, 0) },
            Row { aim: None, ..at_most("getcpu", 0.7, 0) },
            at_most("sched_yield", 0.7, 1),
            at_most("read 1 B", 0.7, 1),
            at_most("read 64 KiB", 0.7, 1),
            at_most("write 1 B", 0.7, 1),
            at_most("write 64 KiB", 0.7, 1),
            at_most("open+close", 0.7, 2),
            at_most("stat", 0.7, 1),
            at_most("mmap+touch 64 KiB", 0.7, 2 + 16),
            at_most("page fault", 0.7, 1),
            row("futex ping-pong", 0.7, Counting::Yes),
            at_most("pipe ping-pong", 0.7, 4),
            row("thread create", 0.7, Counting::Yes),
            row("fork+wait", 0.4, Counting::Yes),
            row("fork+exec", 0.4, Counting::Yes),
            Row { kvm_aim: 1.3, ..row("start `true`", 0.3, Counting::No) },
            row("find in 10,000 files", 0.7, Counting::No),
            row("build a C project", 0.7, Counting::No),
            Row { unit: Unit::Bytes, ..row("idle memory", 0.4, Counting::No) },
            row("create+start", 0.5, Counting::No),
            row("container of `true`", 0.5, Counting::No),
            row("exec `true`", 0.5, Counting::No),
            Row { unit: Unit::Bytes, ..row("container memory", 0.5, Counting::No) },
            row("docker run `true`", 0.5, Counting::No),
            row("nginx request", 0.5, Counting::No),
            row("redis GET", 0.5, Counting::No),
            Row { unit: Unit::Bytes, ..row("size of the program", 0.5, Counting::No) },
            Row { unit: Unit::Share, aim: None, ..row("idle CPU", 0.0, Counting::No) },
        ];
        ROWS
    }
}
