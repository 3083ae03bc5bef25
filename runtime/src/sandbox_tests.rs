//! Tests of sandboxes through the runtime's interface, with the host's programs as guests.

use std::fs::File;
use std::io::{Read, pipe};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use amber_abi::Signal;
use amber_platform::GuestMemory;
use amber_platform_ptrace::PtracePlatform;
use amber_sentry::config::{
    BootError, CpuQuota, Descriptors, DeviceSpec, ExitStatus, Limits, MountSource, MountSpec, ProcessSpec,
    SandboxConfig, SeccompProfile, SeccompRule, UserSpec,
};
use amber_sentry::sandbox::Sandbox;

use crate::mounts;

fn process(script: &str) -> ProcessSpec {
    let args = ["/bin/sh", "-c", script].map(Into::into).to_vec();
    ProcessSpec { env: vec!["PATH=/usr/bin:/bin".into()], protected: true, ..ProcessSpec::of_root(args) }
}

fn config(process: ProcessSpec) -> SandboxConfig {
    let root = MountSpec::new("/", MountSource::Overlay("/".into()));
    SandboxConfig { mounts: std::iter::once(root).chain(mounts::standard()).collect(), ..SandboxConfig::new(process) }
}

fn boot(config: SandboxConfig) -> Result<Arc<Sandbox>, BootError> {
    let _ = env_logger::builder().is_test(true).try_init();
    let memory = GuestMemory::new(1 << 30).unwrap();
    let platform = Arc::new(PtracePlatform::new(memory.clone()).unwrap());
    Sandbox::boot(platform, memory, config).map(Arc::new)
}

/// The output of a process.
struct Output(JoinHandle<String>);

impl Output {
    fn new() -> (Output, Descriptors) {
        let (mut reader, writer) = pipe().unwrap();
        let null = OwnedFd::from(File::open("/dev/null").unwrap());
        let thread = thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        let again = writer.try_clone().unwrap();
        (Output(thread), vec![Some(null), Some(writer.into()), Some(again.into())])
    }

    fn text(self) -> String {
        self.0.join().unwrap()
    }
}

/// Runs a script as the first process and waits for its end.
fn run(script: &str, limits: Limits) -> (ExitStatus, String, Arc<Sandbox>) {
    let (output, descriptors) = Output::new();
    let sandbox = boot(SandboxConfig { descriptors, limits, ..config(process(script)) }).unwrap();
    sandbox.start().unwrap();
    let status = sandbox.wait();
    (status, output.text(), sandbox)
}

/// A sandbox whose first process waits.
fn waiting() -> Arc<Sandbox> {
    let sandbox = boot(config(process("exec sleep 1000"))).unwrap();
    sandbox.start().unwrap();
    sandbox
}

fn exec(sandbox: &Sandbox, script: &str) -> (ExitStatus, String) {
    let (output, descriptors) = Output::new();
    let process = sandbox.exec(&ProcessSpec { protected: false, ..process(script) }, descriptors).unwrap();
    let status = process.wait();
    (status, output.text())
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(20), "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_missing_program_fails_before_the_start() {
    let missing = ProcessSpec { args: vec!["/no/such/program".into()], ..process("") };
    assert!(matches!(boot(config(missing)), Err(BootError::NotFound { .. })));
    let unusable = ProcessSpec { args: vec!["/etc/passwd".into()], ..process("") };
    assert!(matches!(boot(config(unusable)), Err(BootError::NotExecutable { .. })));
}

#[test]
fn nothing_outlives_a_sandbox() {
    let memory = GuestMemory::new(1 << 30).unwrap();
    let platform = Arc::new(PtracePlatform::new(memory.clone()).unwrap());
    let (output, descriptors) = Output::new();
    let config = SandboxConfig { descriptors, ..config(process("echo content > /tmp/file; cat /tmp/file & wait")) };
    let sandbox = Sandbox::boot(platform, memory.clone(), config).unwrap();
    sandbox.start().unwrap();
    assert_eq!(sandbox.wait(), ExitStatus::Exited(0));
    assert_eq!(output.text(), "content\n");
    drop(sandbox);
    eventually("frames of a sandbox outlive it", || memory.allocated() == 0 && Arc::strong_count(&memory) == 1);
}

/// Prints numbers and lists that belong to one kernel.
const LOOK: &str = "stat -c %d / /proc /dev; cut -d' ' -f1-3 /proc/self/mountinfo; readlink /proc/self/ns/mnt\n\
    cat /proc/locks /proc/net/unix";

/// Occupies everything that one kernel must not see of another, until the end.
const OCCUPY: &str = "python3 -c '\n\
import fcntl, socket, time\n\
name = socket.socket(socket.AF_UNIX)\n\
name.bind(chr(0) + \"there\")\n\
locked = open(\"/tmp/locked\", \"w\")\n\
fcntl.flock(locked, fcntl.LOCK_EX | fcntl.LOCK_NB)\n\
record = open(\"/tmp/record\", \"w\")\n\
fcntl.lockf(record, fcntl.LOCK_EX | fcntl.LOCK_NB)\n\
many = [open(\"/dev/null\") for _ in range(500)]\n\
open(\"/tmp/ready\", \"w\")\n\
time.sleep(1000)\n\
' > /dev/null 2> /tmp/failure &\n\
until [ -e /tmp/ready ] || [ -s /tmp/failure ]; do sleep 0.01; done; cat /tmp/failure";

#[test]
fn two_sandboxes_of_one_process_see_nothing_of_each_other() {
    let one = waiting();
    let (_, fresh) = exec(&one, LOOK);
    assert_eq!(exec(&one, OCCUPY), (ExitStatus::Exited(0), String::new()));
    let (_, occupied) = exec(&one, LOOK);
    assert!(occupied.contains("FLOCK") && occupied.contains("POSIX") && occupied.contains("@there"), "{occupied}");
    let other = waiting();
    assert_eq!(exec(&other, LOOK).1, fresh);
    let open: u64 = exec(&other, "cut -f1 /proc/sys/fs/file-nr").1.trim().parse().unwrap();
    assert!(open < 500, "{open} open files");
    assert_eq!(exec(&other, OCCUPY), (ExitStatus::Exited(0), String::new()));
    for sandbox in [one, other] {
        sandbox.kill();
        sandbox.wait();
    }
}

#[test]
fn nothing_runs_before_the_start() {
    let (output, descriptors) = Output::new();
    let sandbox = boot(SandboxConfig { descriptors, ..config(process("echo ran; exit 3")) }).unwrap();
    assert!(!sandbox.is_started());
    let (status, text) = exec(&sandbox, "ps -o pid= -p 1 >/dev/null && cat /proc/1/comm");
    assert_eq!((status, text.as_str()), (ExitStatus::Exited(0), "sh\n"));
    assert_eq!(sandbox.processes().len(), 1);
    sandbox.start().unwrap();
    sandbox.start().unwrap();
    assert_eq!(sandbox.wait(), ExitStatus::Exited(3));
    assert_eq!(output.text(), "ran\n");
}

#[test]
fn a_sandbox_is_killed_before_its_start() {
    let (output, descriptors) = Output::new();
    let sandbox = boot(SandboxConfig { descriptors, ..config(process("echo ran")) }).unwrap();
    sandbox.kill();
    assert_eq!(sandbox.wait(), ExitStatus::Signaled(9));
    assert_eq!(output.text(), "");
    assert!(sandbox.exec(&process("true"), Vec::new()).is_err());
}

#[test]
fn further_processes_are_nobodys_children() {
    let sandbox = waiting();
    let (status, text) = exec(&sandbox, "cut -d' ' -f4-6 /proc/$$/stat; echo $PPID; (exit 5) & wait $!; exit $?");
    assert_eq!(status, ExitStatus::Exited(5));
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!((words[0], words[3]), ("0", "0"), "{text}");
    assert_eq!(words[1], words[2], "a session of its own: {text}");
    // Its orphans are reparented to the first process, and do not delay it.
    let (status, _) = exec(&sandbox, "sleep 0.2 >/dev/null 2>&1 & exit 7");
    assert_eq!(status, ExitStatus::Exited(7));
    let missing = ProcessSpec { args: vec!["nothing-like-it".into()], ..process("") };
    assert!(matches!(sandbox.exec(&missing, Vec::new()), Err(BootError::NotFound { .. })));
    eventually("the orphan ends", || sandbox.processes().iter().filter(|p| p.state != 'Z').count() == 1);
    sandbox.kill();
    sandbox.wait();
}

#[test]
fn signals_reach_a_further_process() {
    let sandbox = waiting();
    let process = sandbox.exec(&ProcessSpec { protected: false, ..process("exec sleep 1000") }, Vec::new());
    let process = process.unwrap();
    process.signal(Signal::SIGTERM);
    assert_eq!(process.wait(), ExitStatus::Signaled(15));
    // The other processes end with the first one.
    let (output, descriptors) = Output::new();
    let other = sandbox.exec(&self::process("echo here; exec sleep 1000"), descriptors).unwrap();
    eventually("it runs", || sandbox.processes().iter().any(|p| p.pid == other.pid() && p.name == "sleep"));
    sandbox.kill();
    assert_eq!(sandbox.wait(), ExitStatus::Signaled(9));
    assert_eq!(other.wait(), ExitStatus::Signaled(9));
    assert_eq!(output.text(), "here\n");
}

#[test]
fn a_further_process_has_a_terminal_of_its_own() {
    let sandbox = waiting();
    let spec =
        ProcessSpec { terminal: Some((33, 77)), ..process("stty size; tty; read line; echo got $line; sleep 1000 &") };
    let process = sandbox.exec(&spec, Vec::new()).unwrap();
    let console = process.console().unwrap().clone();
    console.write(b"hello\n");
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        let mut buffer = [0; 256];
        loop {
            match console.read(&mut buffer) {
                0 => return String::from_utf8(text).unwrap(),
                got => text.extend_from_slice(&buffer[..got]),
            }
        }
    });
    assert_eq!(process.wait(), ExitStatus::Exited(0));
    let text = reader.join().unwrap();
    for part in ["33 77", "/dev/pts/0", "got hello"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    sandbox.kill();
    sandbox.wait();
}

#[test]
fn processes_are_listed() {
    let sandbox = waiting();
    eventually("it is sleep", || sandbox.processes()[0].arguments == ["sleep", "1000"]);
    let (output, descriptors) = Output::new();
    let user = UserSpec { uid: 1234, gid: 5, additional_gids: Vec::new() };
    let script =
        "exec python3 -c 'import threading,time;threading.Thread(target=time.sleep,args=(9,)).start();print(1)'";
    let spec = ProcessSpec { user, ..process(script) };
    let other = sandbox.exec(&spec, descriptors).unwrap();
    eventually("a second thread", || sandbox.processes().last().is_some_and(|p| p.threads == 2));
    let all = sandbox.processes();
    assert_eq!((all[0].pid, all[0].ppid, all[0].uid, all[0].state), (1, 0, 0, 'S'));
    assert_eq!((all[1].pid, all[1].uid, all[1].name.as_str()), (other.pid(), 1234, "python3"));
    assert!(all[1].cpu > 0 && all[1].resident > 1 << 20 && all[1].terminal == 0, "{all:?}");
    let usage = sandbox.usage();
    assert_eq!(usage.tasks, 3);
    assert!(usage.memory > 1 << 20 && usage.cpu_user + usage.cpu_system > 0, "{usage:?}");
    sandbox.kill();
    sandbox.wait();
    drop(output);
}

#[test]
fn a_paused_guest_stands_still() {
    let script = "trap 'echo hup; exit 0' HUP; (while :; do :; done) & while :; do :; done";
    let (output, descriptors) = Output::new();
    let sandbox = boot(SandboxConfig { descriptors, ..config(process(script)) }).unwrap();
    sandbox.start().unwrap();
    eventually("both run", || sandbox.processes().len() == 2 && sandbox.usage().cpu_user > 20_000_000);
    for _ in 0..20 {
        sandbox.pause();
        let before = sandbox.usage().cpu_user;
        thread::sleep(Duration::from_millis(5));
        assert_eq!(sandbox.usage().cpu_user, before);
        sandbox.resume();
        eventually("it goes on", || sandbox.usage().cpu_user > before);
    }
    sandbox.pause();
    assert!(sandbox.is_paused());
    sandbox.signal(Signal::SIGHUP, false);
    // A process started in the meantime is paused as well.
    let late = sandbox.exec(&process("exit 4"), Vec::new()).unwrap();
    thread::sleep(Duration::from_millis(50));
    assert_eq!(sandbox.processes().len(), 3);
    sandbox.resume();
    assert_eq!(sandbox.wait(), ExitStatus::Exited(0));
    late.wait();
    assert_eq!(output.text(), "hup\n");
}

#[test]
fn a_paused_guest_can_be_killed() {
    let sandbox = boot(config(process("(while :; do :; done) & sleep 1000"))).unwrap();
    sandbox.start().unwrap();
    eventually("both run", || sandbox.usage().cpu_user > 20_000_000);
    sandbox.pause();
    sandbox.kill();
    assert_eq!(sandbox.wait(), ExitStatus::Signaled(9));
}

#[test]
fn tasks_are_limited() {
    let limits = Limits { tasks: Some(4), ..Limits::default() };
    // A shell that cannot fork reports that with status 2.
    let script =
        "cat /sys/fs/cgroup/pids.max; sleep 9 & sleep 9 & sleep 9 & cat /sys/fs/cgroup/pids.current </dev/null";
    let (status, text, sandbox) = run(script, limits);
    assert_eq!(status, ExitStatus::Exited(2), "{text}");
    assert!(text.starts_with("4\n") && text.to_lowercase().contains("fork"), "{text}");
    assert!(sandbox.usage().tasks_refused > 0);
}

#[test]
fn the_largest_process_goes_when_memory_runs_out() {
    let limits = Limits { memory: Some(64 << 20), ..Limits::default() };
    let script = "cat /sys/fs/cgroup/memory.max; python3 -c 'x=b\"1\"*(200<<20); print(len(x))'; echo status $?; \
                  grep oom_kill /sys/fs/cgroup/memory.events";
    let (status, text, sandbox) = run(script, limits);
    assert_eq!(status, ExitStatus::Exited(0), "{text}");
    assert!(text.starts_with("67108864\n"), "{text}");
    assert!(text.contains("status 137\n") && text.contains("oom_kill 1\n"), "{text}");
    let usage = sandbox.usage();
    assert_eq!(usage.oom_kills, 1);
    assert!(usage.memory_peak < 90 << 20, "{usage:?}");
}

#[test]
fn who_is_exempt_survives_a_larger_one_that_is_not() {
    let limits = Limits { memory: Some(96 << 20), ..Limits::default() };
    let script = "echo 1000 > /proc/self/oom_score_adj; \
                  python3 -c 'x=b\"1\"*(30<<20); open(\"/tmp/ready\", \"w\"); import signal; signal.pause()' & victim=$!; \
                  until [ -e /tmp/ready ]; do sleep 0.1; done; \
                  echo -1000 > /proc/self/oom_score_adj; python3 -c 'x=b\"1\"*(70<<20)'; wait $victim; echo $?; \
                  echo alive";
    let (status, text, _) = run(script, limits);
    assert_eq!(status, ExitStatus::Exited(0), "{text}");
    assert!(text.contains("137\nalive\n"), "{text}");
}

#[test]
fn cached_files_go_before_processes() {
    let limits = Limits { memory: Some(48 << 20), ..Limits::default() };
    let script = "python3 - <<'END'\n\
        import mmap, os\n\
        sums = 0\n\
        for name in ('/usr/bin/python3', '/bin/bash', '/usr/bin/git', '/usr/bin/perl', '/usr/bin/gdb'):\n\
        \x20   if not os.path.exists(name): continue\n\
        \x20   with open(name, 'rb') as f:\n\
        \x20       m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)\n\
        \x20       for at in range(0, len(m), 4096): sums += m[at]\n\
        x = bytearray(16 << 20)\n\
        print('fine')\n\
        END";
    let (status, text, sandbox) = run(script, limits);
    assert_eq!((status, text.as_str()), (ExitStatus::Exited(0), "fine\n"));
    assert_eq!(sandbox.usage().oom_kills, 0);
}

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x5_0000;

fn rule(number: u32, answer: u32) -> SeccompRule {
    SeccompRule { number, conditions: Vec::new(), answer }
}

#[test]
fn a_profile_holds_for_every_process() {
    // getcwd returns EXDEV, uname kills, calls above 340 do not exist.
    let rules = vec![rule(79, ERRNO | 18), rule(63, 0x8000_0000)];
    let seccomp = Some(SeccompProfile { default: ALLOW, newer: Some((340, ERRNO | 38)), rules });
    let sandbox = boot(SandboxConfig { seccomp, ..config(process("exec sleep 1000")) }).unwrap();
    sandbox.start().unwrap();
    let (status, text) = exec(&sandbox, "python3 -c 'import os; os.getcwd()' 2>&1 | tail -1; uname; echo $?");
    assert_eq!(status, ExitStatus::Exited(0));
    assert!(text.contains("[Errno 18]") && text.ends_with("159\n"), "{text}");
    let (_, text) =
        exec(&sandbox, "grep Seccomp /proc/1/status; python3 -c 'import os; os.pidfd_open(1)' 2>&1 | tail -1");
    assert!(text.contains("Seccomp:\t2\nSeccomp_filters:\t1\n") && text.contains("[Errno 38]"), "{text}");
    sandbox.kill();
    sandbox.wait();
}

#[test]
fn device_nodes_are_made() {
    let node =
        |path: &str, minor, permissions| DeviceSpec { path: path.into(), major: 1, minor, permissions, uid: 5, gid: 6 };
    let devices = vec![node("/dev/null", 3, 0o600), node("/dev/deep/nought", 5, 0o644), node("/dev/zero", 7, 0o666)];
    let script = "stat -c '%a %u %g %t:%T %F' /dev/null /dev/deep/nought; head -c 3 /dev/deep/nought | od -An -tx1; \
                  echo x > /dev/zero || echo full";
    let (output, descriptors) = Output::new();
    let sandbox = boot(SandboxConfig { descriptors, devices, ..config(process(script)) }).unwrap();
    sandbox.start().unwrap();
    assert_eq!(sandbox.wait(), ExitStatus::Exited(0));
    let text = output.text();
    let kind = "character special file";
    assert!(text.starts_with(&format!("600 5 6 1:3 {kind}\n644 5 6 1:5 {kind}\n 00 00 00\n")), "{text}");
    assert!(text.ends_with("full\n"), "{text}");
}

/// No nodes are made in a host tree: a node of the sandbox is mounted over a file there.
#[test]
fn device_nodes_are_not_made_on_the_host() {
    let shared = tempfile::tempdir().unwrap();
    let device = DeviceSpec { path: "/data/nought".into(), major: 1, minor: 5, permissions: 0o644, uid: 0, gid: 0 };
    let script = "stat -c '%a %t:%T %F' /data/nought; head -c 2 /data/nought | od -An -tx1; \
                  mknod /data/own c 1 3 2>&1; mknod /data/disk b 7 0 2>&1; ls /data; mkfifo /data/fifo; \
                  mknod /data/mark c 0 0; stat -c %F /data/fifo";
    let (output, descriptors) = Output::new();
    let mut config = SandboxConfig { descriptors, devices: vec![device], ..config(process(script)) };
    config.mounts.push(MountSpec::new("/data", MountSource::Host(shared.path().into())));
    let sandbox = boot(config).unwrap();
    sandbox.start().unwrap();
    sandbox.wait();
    let text = output.text();
    assert!(text.starts_with("644 1:5 character special file\n 00 00\n"), "{text}");
    assert_eq!(text.matches("Operation not permitted").count(), 2, "{text}");
    assert!(text.ends_with("\nnought\nfifo\n"), "{text}");
    assert!(std::fs::metadata(shared.path().join("nought")).unwrap().is_file());
}

#[test]
fn a_read_only_root_still_gets_its_places() {
    let script = "ls -d /made/here /made/file; touch /x 2>&1; touch /made/here/y && echo fine; cat /made/file; \
                  touch /made/file 2>&1; hostname; domainname";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "content\n").unwrap();
    let root = tempfile::tempdir().unwrap();
    for name in ["usr", "bin", "lib", "lib64", "etc"] {
        std::fs::create_dir(root.path().join(name)).unwrap();
    }
    let read_only = |target: &str, source| MountSpec { read_only: true, ..MountSpec::new(target, source) };
    let mut all = vec![read_only("/", MountSource::Host(root.path().into()))];
    all.extend(["/usr", "/bin", "/lib", "/lib64", "/etc"].map(|path| read_only(path, MountSource::Host(path.into()))));
    all.extend(mounts::standard());
    all.push(MountSpec::new("/made/here", MountSource::Tmpfs("size=1m,mode=700".into())));
    all.push(read_only("/made/file", MountSource::Host(file.path().into())));
    let (output, descriptors) = Output::new();
    let domainname = Some("realm".to_owned());
    let config = SandboxConfig { descriptors, mounts: all, domainname, ..config(process(script)) };
    let sandbox = boot(config).unwrap();
    sandbox.start().unwrap();
    sandbox.wait();
    let text = output.text();
    assert!(text.starts_with("/made/file\n/made/here\n"), "{text}");
    assert_eq!(text.matches("Read-only file system").count(), 2, "{text}");
    assert!(text.contains("fine\ncontent\n") && text.ends_with("amber\nrealm\n"), "{text}");
}

/// A tmpfs with a copy has everything in the directory below, which is not changed; another tmpfs has its own mode.
#[test]
fn a_tmpfs_starts_with_what_it_covers() {
    let below = tempfile::tempdir().unwrap();
    let make = "cd $0; echo text > file; chmod 4640 file; chown 5:6 file; ln file other; ln -s file link; mkdir -p a/b; \
        echo deep > a/b/deep; chmod 750 a .; truncate -s 3M a/hole; echo end >> a/hole; mkfifo fifo; mknod null c 1 3; \
        touch -d @1000000 a/b/deep a/b a file; chown 7:8 .";
    let made = std::process::Command::new("sh").args(["-c", make]).arg(below.path()).status().unwrap();
    assert!(made.success());
    let xattr = std::process::Command::new("python3")
        .args(["-c", "import os, sys; os.setxattr(sys.argv[1], 'user.key', b'value')"])
        .arg(below.path().join("a"))
        .status();
    let has_xattr = xattr.is_ok_and(|status| status.success());
    let volume = |target: &str| MountSpec::new(target, MountSource::Host(below.path().into()));
    let tmpfs = |target: &str, make: fn(String) -> MountSource, options: &str| {
        MountSpec::new(target, make(format!("size=8m{options}")))
    };
    let mut all = config(process("")).mounts;
    all.extend(["/tmp/shown", "/tmp/copy", "/tmp/small", "/tmp/plain"].map(volume));
    all.push(tmpfs("/tmp/copy", MountSource::TmpfsCopy, ""));
    all.push(tmpfs("/tmp/small", MountSource::TmpfsCopy, ",mode=1700,uid=0"));
    all.push(tmpfs("/tmp/plain", MountSource::Tmpfs, ""));
    let script = "cd /tmp; list() { (cd $1; find . ! -type d -printf '%P %M %U:%G %l %T@ %s %n\\n' -o -printf '%P %M %U:%G\\n' | sort); }; \
        list shown > 1; list copy > 2; cmp 1 2 && cmp shown/a/b/deep copy/a/b/deep && stat -c %Y copy/a/b copy/a; \
        cmp shown/a/hole copy/a/hole; [ $(du -k copy/a/hole | cut -f1) -lt 100 ] && echo sparse; \
        [ copy/file -ef copy/other ] && echo linked; echo new > copy/file; cat shown/file; \
        stat -c '%a %u:%g' small plain; ls plain | wc -l; \
        python3 -c \"import os; print(os.getxattr('/tmp/copy/a', 'user.key'))\"";
    let (output, descriptors) = Output::new();
    let sandbox = boot(SandboxConfig { descriptors, mounts: all, ..config(process(script)) }).unwrap();
    sandbox.start().unwrap();
    sandbox.wait();
    let text = output.text();
    let wanted = "1000000\n1000000\nsparse\nlinked\ntext\n1700 0:8\n750 0:0\n0\n";
    assert!(text.starts_with(wanted) && (!has_xattr || text.ends_with("b'value'\n")), "{text}");

    let mut all = config(process("")).mounts;
    all.push(volume("/tmp/copy"));
    all.push(MountSpec::new("/tmp/copy", MountSource::TmpfsCopy("size=4k".into())));
    let full = boot(SandboxConfig { mounts: all, ..config(process("true")) }).err().unwrap().to_string();
    assert!(full.contains("/tmp/copy") && full.contains("No space left"), "{full}");
}

/// The guest sees changes of the host to a container's files at once, as by `docker cp`, and the host those of the
/// guest.
#[test]
fn host_and_guest_share_files() {
    let shared = tempfile::tempdir().unwrap();
    let path = |name: &str| shared.path().join(name);
    let volume = MountSpec::new("/shared", MountSource::Host(shared.path().into()));
    let script = "cd /shared; step() { echo $1 >> log; while [ ! -e go$1 ]; do sleep 0.01; done; }; \
        cat new 2>/dev/null; step 1; cat new; [ -e old ] && echo old; step 2; cat new; [ -e old ] || echo gone; \
        exec 3< new; step 3; cat new; cat <&3; cat dir/inner; step 4; cat dir/inner; \
        python3 -c 'import mmap; f = open(\"mapped\"); print(mmap.mmap(f.fileno(), 0, prot=1)[:3])'; step 5; \
        python3 -c 'import mmap; f = open(\"mapped\"); print(mmap.mmap(f.fileno(), 0, prot=1)[:3])'; \
        mkdir made; echo own > made/file; chown 7:8 made/file; chmod 640 made/file";
    std::fs::write(path("old"), "").unwrap();
    std::fs::write(path("mapped"), "one").unwrap();
    let (output, descriptors) = Output::new();
    let mut config = SandboxConfig { descriptors, ..config(process(script)) };
    config.mounts.push(volume);
    let sandbox = boot(config).unwrap();
    sandbox.start().unwrap();
    let after = |step: usize, change: &dyn Fn()| {
        eventually(&format!("step {step}"), || {
            std::fs::read_to_string(path("log")).is_ok_and(|log| log.lines().count() == step)
        });
        change();
        std::fs::write(path(&format!("go{step}")), "").unwrap();
    };
    after(1, &|| std::fs::write(path("new"), "created\n").unwrap());
    after(2, &|| {
        std::fs::write(path("new"), "changed\n").unwrap();
        std::fs::remove_file(path("old")).unwrap();
    });
    after(3, &|| {
        std::fs::write(path("other"), "replaced\n").unwrap();
        std::fs::rename(path("other"), path("new")).unwrap();
        std::fs::create_dir(path("dir")).unwrap();
        std::fs::write(path("dir/inner"), "inner\n").unwrap();
    });
    after(4, &|| {
        std::fs::remove_dir_all(path("dir")).unwrap();
        std::fs::create_dir(path("dir")).unwrap();
        std::fs::write(path("dir/inner"), "again\n").unwrap();
    });
    after(5, &|| std::fs::write(path("mapped"), "two").unwrap());
    assert_eq!(sandbox.wait(), ExitStatus::Exited(0));
    let expected = "created\nold\nchanged\ngone\nreplaced\nchanged\ninner\nagain\nb'one'\nb'two'\n";
    assert_eq!(output.text(), expected);
    let made = std::fs::metadata(path("made/file")).unwrap();
    assert_eq!((made.uid(), made.gid(), made.mode() & 0o777), (7, 8, 0o640));
}

#[test]
fn limits_can_change_while_the_guest_runs() {
    let sandbox = waiting();
    let cpu = Some(CpuQuota { quota: 150_000, period: 100_000 });
    sandbox.set_limits(&Limits { memory: Some(512 << 20), tasks: Some(100), cpu });
    let (_, text) =
        exec(&sandbox, "cd /sys/fs/cgroup; cat memory.max pids.max cpu.max; head -1 /proc/meminfo; free -m");
    assert!(text.starts_with("536870912\n100\n150000 100000\nMemTotal:         524288 kB\n"), "{text}");
    sandbox.set_limits(&Limits::default());
    let (_, text) = exec(&sandbox, "cd /sys/fs/cgroup; cat memory.max pids.max cpu.max cgroup.procs cgroup.type");
    assert!(text.starts_with("max\nmax\nmax 100000\n1\n") && text.ends_with("\ndomain\n"), "{text}");
    let (_, text) =
        exec(&sandbox, "cat /proc/self/cgroup; stat -fc %T /sys/fs/cgroup; echo 5 > /sys/fs/cgroup/memory.max");
    assert!(text.starts_with("0::/\ncgroup2fs\n"), "{text}");
    sandbox.kill();
    sandbox.wait();
}
