//! Several guest threads that make the system calls of the input, with arguments made after the table of calls: live
//! descriptors, paths, addresses of structures, processes, results of earlier calls.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::LazyLock;
use std::time::Duration;

use amber_abi::Signal;
use amber_platform_fake::{Processor, Program, Step};
use amber_sentry::{Entry, entries};
use parking_lot::{Condvar, Mutex};

use crate::arena::{self, BUFFER, HANDLER, PATH_NAMES, PATH_SPACING, PATHS, SLOT, SLOTS};
use crate::script::{ARENA, ARENA_SIZE};

/// Bytes of the input that make one call.
pub const RECORD: usize = 32;
/// The most calls of all threads.
pub const MOST_RECORDS: usize = 96;
/// Guest threads with calls of their own; further ones end at once.
pub const THREADS: usize = 4;
/// Where guests map and unmap.
const REGION: u64 = 0x2000_0000;
/// Numbers at which mistakes are made.
const ODD_NUMBERS: [u64; 16] = [
    0,
    1,
    u64::MAX,
    i64::MAX as u64,
    1 << 63,
    u32::MAX as u64,
    i32::MAX as u64,
    1 << 31,
    0x7fff_ffff_f000,
    0x7fff_ffff_ffff,
    4095,
    4097,
    1 << 46,
    1 << 32,
    (-100i64) as u64,
    (-4096i64) as u64,
];

static CALLS: LazyLock<Vec<&'static Entry>> = LazyLock::new(|| entries().collect());

/// What the threads of one guest share, and who waits for their end.
pub struct Shared {
    records: Vec<[u8; RECORD]>,
    live: Mutex<Live>,
    changed: Condvar,
}

#[derive(Default)]
struct Live {
    /// Threads that were started so far.
    started: usize,
    /// Those that have not ended.
    running: usize,
}

impl Shared {
    /// For the calls that the input names.
    pub fn new(input: &[u8]) -> Arc<Shared> {
        let records = input.chunks_exact(RECORD).take(MOST_RECORDS).filter_map(|record| record.try_into().ok());
        Arc::new(Shared { records: records.collect(), live: Mutex::default(), changed: Condvar::new() })
    }

    /// The program of the next guest thread.
    pub fn program(self: &Arc<Self>) -> Box<dyn Program> {
        let mut live = self.live.lock();
        let index = live.started;
        live.started += 1;
        live.running += 1;
        let setup = if index == 0 { setup(true) } else { VecDeque::new() };
        Box::new(Caller { shared: self.clone(), index, at: 0, setup, called: None, next: None, results: [0; 4] })
    }

    /// Waits for a while until no guest thread is left; whether that is so.
    pub fn wait(&self, most: Duration) -> bool {
        let mut live = self.live.lock();
        let ended = |live: &Live| live.started > 0 && live.running == 0;
        if !ended(&live) {
            self.changed.wait_for(&mut live, most);
        }
        ended(&live)
    }
}

/// One guest thread.
struct Caller {
    shared: Arc<Shared>,
    index: usize,
    /// The next record to look at.
    at: usize,
    /// What comes before the records.
    setup: VecDeque<Step>,
    /// The call that was made last.
    called: Option<u64>,
    /// What follows a store at once.
    next: Option<(u64, [u64; 6])>,
    /// The results of the last calls.
    results: [u64; 4],
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.shared.live.lock().running -= 1;
        self.shared.changed.notify_all();
    }
}

fn call<const N: usize>(number: i64, given: [u64; N]) -> Step {
    let mut arguments = [0; 6];
    arguments[..N].copy_from_slice(&given);
    Step::Call(number as u64, arguments)
}

/// Memory with all structures, handlers for signals, and for a new sandbox descriptors of all kinds.
fn setup(descriptors: bool) -> VecDeque<Step> {
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED) as u64;
    let map = |at, len| call(libc::SYS_mmap, [at, len, 3, flags, u64::MAX, 0]);
    let mut steps = VecDeque::from([
        map(ARENA, ARENA_SIZE),
        map(REGION, 1 << 18),
        Step::Store(ARENA, arena::image()),
        call(libc::SYS_rt_sigaction, [14, slot(14), 0, 8]),
        call(libc::SYS_rt_sigaction, [10, slot(14), 0, 8]),
        call(libc::SYS_rt_sigaction, [11, slot(14), 0, 8]),
        call(libc::SYS_rt_sigaction, [17, slot(14), 0, 8]),
    ]);
    if descriptors {
        let nonblocking = libc::O_NONBLOCK as u64;
        let path = |name: &str| {
            let index = PATH_NAMES.iter().position(|known| *known == name).unwrap_or_default();
            PATHS + index as u64 * PATH_SPACING
        };
        let open = |name: &str, flags: i32| call(libc::SYS_open, [path(name), flags as u64, 0o600]);
        steps.extend([
            open("/dev/null", libc::O_RDWR),
            open("/tmp/a", libc::O_RDWR | libc::O_CREAT),
            open("/dir/file", libc::O_RDWR),
            call(libc::SYS_pipe2, [slot(62), nonblocking]),
            call(libc::SYS_socketpair, [1, 1 | nonblocking, 0, slot(62)]),
            call(libc::SYS_socketpair, [1, 2 | nonblocking, 0, slot(62)]),
            call(libc::SYS_eventfd2, [0, nonblocking]),
            call(libc::SYS_epoll_create1, [0]),
            call(libc::SYS_timerfd_create, [1, nonblocking]),
            call(libc::SYS_signalfd4, [u64::MAX, slot(13), 8, nonblocking]),
            call(libc::SYS_inotify_init1, [nonblocking]),
            call(libc::SYS_memfd_create, [path("a"), 2]),
            open("/dev/ptmx", libc::O_RDWR | libc::O_NONBLOCK),
            call(libc::SYS_socket, [1, 1 | nonblocking, 0]),
            call(libc::SYS_socket, [2, 1 | nonblocking, 0]),
            call(libc::SYS_socket, [2, 2 | nonblocking, 0]),
            call(libc::SYS_socket, [10, 1 | nonblocking, 0]),
            call(libc::SYS_socket, [16, 3 | nonblocking, 0]),
            open("/tmp/d", libc::O_RDONLY),
            open("/", libc::O_RDONLY | libc::O_DIRECTORY),
            open("/proc/self/fd", libc::O_RDONLY),
            open("/proc/self/mem", libc::O_RDWR),
            open("/proc/self/smaps", libc::O_RDONLY),
            call(libc::SYS_pidfd_open, [1, 0]),
            call(libc::SYS_mq_open, [path("a"), 0o102, 0o600, slot(38)]),
        ]);
    }
    steps
}

const fn slot(index: u64) -> u64 {
    ARENA + index * SLOT
}

impl Caller {
    /// An argument of a kind that the table names, from three bytes.
    fn argument(&self, kind: &str, [choice, low, high]: [u8; 3]) -> u64 {
        let word = u64::from(u16::from_le_bytes([low, high]));
        let (low, high) = (u64::from(low), u64::from(high));
        let result = self.results[low as usize % 4];
        if matches!(kind, "Fd" | "DirFd") {
            return match choice % 16 {
                0 => libc::AT_FDCWD as i64 as u64,
                1 => u64::MAX,
                2 => result,
                3 => word,
                _ => low % 40,
            };
        }
        if matches!(kind, "Path" | "Str") && choice % 8 > 1 {
            return PATHS + low % PATH_NAMES.len() as u64 * PATH_SPACING;
        }
        if is_address(kind) {
            return match choice % 16 {
                0 => 0,
                1 => 0x7fff_0000_0000 + word,
                2 | 3 => REGION + (low % 64) * 4096,
                4 => ARENA + ARENA_SIZE - low,
                5 => result,
                6 => BUFFER + word,
                _ => slot(low % SLOTS) + if high < 128 { 0 } else { high & 0x7c },
            };
        }
        match choice % 16 {
            0..=3 => low,
            4 => word,
            5 => 1 << (low % 64),
            6 => 1 << (low % 64) | 1 << (high % 64),
            7 => low.wrapping_neg(),
            8 => word << 12,
            9 => ODD_NUMBERS[low as usize % ODD_NUMBERS.len()],
            10 => result,
            11 => REGION + (low % 64) * 4096,
            12 => low << 12,
            13 => low << 32 | high,
            _ => 0,
        }
    }

    /// What a record says.
    fn decode(&mut self, record: &[u8; RECORD], processor: &mut Processor<'_>) -> Step {
        let number = usize::from(u16::from_le_bytes([record[1], record[2]])) % (CALLS.len() + 16);
        let bytes = |at: usize| [record[3 + 3 * at], record[4 + 3 * at], record[5 + 3 * at]];
        let mut arguments = [0; 6];
        let Some(entry) = CALLS.get(number) else {
            return self.other_than_a_call(number - CALLS.len(), bytes(0), processor);
        };
        let mut target = None;
        for (at, parameter) in entry.parameters.iter().enumerate().take(6) {
            arguments[at] = self.argument(parameter.kind, bytes(at));
            if is_address(parameter.kind) && (target.is_none() || record[0] >> 2 & 3 == at as u8) {
                target = Some(arguments[at]);
            }
        }
        let number = u64::from(entry.number);
        // Bytes of the input go to where an argument points.
        let len = usize::from(record[21] & 0xf).min(RECORD - 22);
        if let (Some(target), 1..) = (target, len) {
            self.next = Some((number, arguments));
            let offset = u64::from(record[21] >> 4) * 4;
            return Step::Store(target.wrapping_add(offset), record[22..22 + len].to_vec());
        }
        self.make(number, arguments)
    }

    fn other_than_a_call(&mut self, which: usize, bytes: [u8; 3], processor: &mut Processor<'_>) -> Step {
        let word = u64::from(u16::from_le_bytes([bytes[1], bytes[2]]));
        match which {
            0 => Step::Exception(Signal::SIGSEGV),
            1 => Step::Exception(Signal::SIGFPE),
            2 => Step::Exception(Signal::SIGTRAP),
            // The way back from a handler, or what looks like it.
            3 | 4 => {
                processor.registers.rsp = processor.registers.rsp.wrapping_add(8);
                self.make(libc::SYS_rt_sigreturn as u64, [0; 6])
            }
            5 => {
                processor.registers.rsp = BUFFER + word;
                Step::Pass
            }
            // Calls that are in no table.
            6 => self.make(word, [word; 6]),
            7 => self.make(ODD_NUMBERS[word as usize % ODD_NUMBERS.len()], [0; 6]),
            8 => Step::Store(REGION + (word % 64) * 4096, vec![1; 64]),
            // A thread, with the stack of its parent and a place for its number.
            9 | 10 => {
                let flags = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND;
                let flags = flags | libc::CLONE_THREAD | libc::CLONE_SYSVSEM | libc::CLONE_CHILD_CLEARTID;
                self.make(libc::SYS_clone as u64, [flags as u64, BUFFER + 0x8000, 0, slot(60), 0, 0])
            }
            11 | 12 => self.make(libc::SYS_fork as u64, [0; 6]),
            _ => Step::Pass,
        }
    }

    fn make(&mut self, number: u64, arguments: [u64; 6]) -> Step {
        self.called = Some(number);
        Step::Call(number, arguments)
    }

    /// There are no more records for this thread.
    fn end(&mut self) -> Step {
        if self.index > 0 {
            return self.make(libc::SYS_exit as u64, [0; 6]);
        }
        // The others go on until they are done or wait for something; then a signal comes, and all end.
        let alone = self.shared.live.lock().running == 1;
        let interrupted = self.called == Some(libc::SYS_pause as u64);
        let last = if alone || interrupted { libc::SYS_exit_group } else { libc::SYS_pause };
        self.make(last as u64, [0; 6])
    }
}

fn is_address(kind: &str) -> bool {
    ["In<", "Out<", "Ptr", "Buf", "Str", "Iovec", "Sockaddr"].iter().any(|prefix| kind.starts_with(prefix))
        || matches!(kind, "Path" | "Pollfds" | "FdPair" | "FdSet" | "Envp" | "WaitStatusOut")
}

impl Program for Caller {
    fn step(&mut self, processor: &mut Processor<'_>) -> Step {
        if let Some((number, arguments)) = self.next.take() {
            return self.make(number, arguments);
        }
        if let Some(step) = self.setup.pop_front() {
            return step;
        }
        if let Some(number) = self.called {
            let result = processor.registers.rax;
            self.results.rotate_right(1);
            self.results[0] = result;
            let executed = [libc::SYS_execve, libc::SYS_execveat].map(|execve| execve as u64).contains(&number);
            if executed && result == 0 && processor.registers.rip < HANDLER {
                self.called = None;
                self.setup = setup(false);
                return Step::Pass;
            }
        }
        let records = self.shared.clone();
        let mine = |record: &&[u8; RECORD]| usize::from(record[0]) % THREADS == self.index;
        let rest = records.records.get(self.at..).unwrap_or_default();
        let Some(ahead) = rest.iter().position(|record| mine(&record)) else {
            self.at = records.records.len();
            return self.end();
        };
        let record = &rest[ahead];
        self.at += ahead + 1;
        self.called = None;
        self.decode(record, processor)
    }
}
