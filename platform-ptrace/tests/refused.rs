//! If the host forbids what the platform needs, the error names it.

use amber_platform::GuestMemory;
use amber_platform_ptrace::PtracePlatform;
use seccompiler::sock_filter;

/// Makes a system call fail with `error` in this thread and its descendants, as a container's seccomp profile does.
fn forbid(number: i64, error: i32) {
    let step = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    let filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | error as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    seccompiler::apply_filter(&filter).unwrap();
}

/// The error message for the operator.
fn complaint(number: i64, error: i32) -> String {
    let refused = std::thread::spawn(move || {
        forbid(number, error);
        match PtracePlatform::new(GuestMemory::new(1 << 20).unwrap()) {
            Ok(_) => panic!("the platform starts without call {number}"),
            Err(fault) => fault.to_string(),
        }
    });
    refused.join().unwrap()
}

#[test]
fn a_forbidden_ptrace_is_named() {
    let text = complaint(libc::SYS_ptrace, libc::EPERM);
    assert!(text.contains("ptrace is forbidden") && text.contains("ptrace_scope"), "{text}");
}

#[test]
fn a_forbidden_program_is_named() {
    let text = complaint(libc::SYS_execveat, libc::EACCES);
    assert!(text.contains("memfd_noexec") && text.contains("Permission denied"), "{text}");
}

#[test]
fn a_forbidden_process_is_named() {
    let text = complaint(libc::SYS_clone, libc::EAGAIN);
    assert!(text.contains("ulimit -u"), "{text}");
}

#[test]
fn a_forbidden_filter_is_named() {
    let text = complaint(libc::SYS_seccomp, libc::EPERM);
    assert!(text.contains("seccomp"), "{text}");
}
