//! If the host has no suitable KVM, or refuses a request later, the error says so.
//!
//! A seccomp filter refuses the requests here.

use std::fs::File;
use std::sync::Arc;

use amber_platform::{FrameRange, GuestMemory, PAGE_SIZE, PlatformError, Trap};
use amber_platform_conformance::{DATA, Guest, Machine, READ_WRITE, call_forever, log_to_stderr, write_byte};
use amber_platform_kvm::KvmPlatform;
use seccompiler::sock_filter;

const KVM_CREATE_VM: u32 = 0xae01;
const KVM_CHECK_EXTENSION: u32 = 0xae03;
const KVM_GET_API_VERSION: u32 = 0xae00;
const KVM_CREATE_VCPU: u32 = 0xae41;
const KVM_RUN: u32 = 0xae80;
const KVM_SET_USER_MEMORY_REGION: u32 = 0x4020_ae46;
const KVM_CAP_NR_MEMSLOTS: u32 = 10;
const KVM_CAP_IMMEDIATE_EXIT: u32 = 136;
const KVM_CAP_SYNC_REGS: u32 = 74;
const KVM_CAP_MAX_VCPUS: u32 = 66;
const KVM_CAP_NR_VCPUS: u32 = 9;

/// Which requests are refused: those with this argument, those with at least this argument, or all.
#[derive(Clone, Copy)]
enum Which {
    With(u32),
    From(u32),
    All,
}

/// Makes an `ioctl` request fail with `error` in this thread and its descendants. With error 0 it returns 0.
fn refuse(request: u32, which: Which, error: i32) {
    const NUMBER: u32 = 0;
    const SECOND: u32 = 24;
    const THIRD: u32 = 32;
    let step = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    let load = |offset| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let equal = |value, otherwise| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, otherwise, value);
    let filter = vec![
        load(NUMBER),
        equal(libc::SYS_ioctl as u32, 5),
        load(SECOND),
        equal(request, 3),
        load(THIRD),
        match which {
            Which::With(value) => equal(value, 1),
            Which::From(value) => step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, value),
            Which::All => step(libc::BPF_JMP | libc::BPF_JA, 0, 0, 0),
        },
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | error as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    seccompiler::apply_filter(&filter).unwrap();
}

/// Runs a test in a thread of its own, which may install filters. Skips it if there is no KVM.
fn with_kvm(test: impl FnOnce() + Send + 'static) {
    log_to_stderr();
    if let Err(error) = File::options().read(true).write(true).open("/dev/kvm") {
        eprintln!("SKIPPED: /dev/kvm cannot be opened: {error}");
        return;
    }
    std::thread::spawn(test).join().unwrap();
}

fn start() -> Result<Machine, PlatformError> {
    let memory = GuestMemory::new(1 << 30).unwrap();
    Ok(Machine { platform: Arc::new(KvmPlatform::new(memory.clone())?), memory })
}

/// Asserts that the platform does not start, and that its error is one line that contains these words.
fn reports(request: u32, which: Which, error: i32, words: &'static [&'static str]) {
    with_kvm(move || {
        refuse(request, which, error);
        let Err(fault) = start() else { panic!("the platform starts without {words:?}") };
        let text = fault.to_string();
        assert!(words.iter().all(|word| text.contains(word)) && text.lines().count() == 1, "{text}");
    });
}

#[test]
fn another_interface_is_named() {
    reports(KVM_GET_API_VERSION, Which::All, 0, &["/dev/kvm", "interface 0"]);
}

#[test]
fn a_missing_capability_is_named() {
    for (capability, name) in
        [(KVM_CAP_SYNC_REGS, &["KVM_CAP_SYNC_REGS"]), (KVM_CAP_IMMEDIATE_EXIT, &["KVM_CAP_IMMEDIATE_EXIT"])]
    {
        reports(KVM_CHECK_EXTENSION, Which::With(capability), 0, name);
    }
}

#[test]
fn too_few_memory_slots_are_reported() {
    // Without a result, the documented minimum applies.
    reports(KVM_CHECK_EXTENSION, Which::With(KVM_CAP_NR_MEMSLOTS), 0, &["only 32 memory slots", "--platform ptrace"]);
}

#[test]
fn a_refused_machine_is_reported() {
    reports(KVM_CREATE_VM, Which::All, libc::ENOMEM, &["making a virtual machine", "Cannot allocate memory"]);
    reports(KVM_CREATE_VM, Which::All, libc::EBUSY, &["making a virtual machine", "another hypervisor"]);
}

#[test]
fn a_refused_vcpu_is_reported() {
    reports(KVM_CREATE_VCPU, Which::All, libc::ENOMEM, &["vCPU 0", "Cannot allocate memory"]);
}

#[test]
fn refused_memory_is_reported() {
    reports(KVM_SET_USER_MEMORY_REGION, Which::All, libc::ENOMEM, &["memory slot", "Cannot allocate memory"]);
}

#[test]
fn a_vcpu_that_does_not_run_is_reported() {
    reports(KVM_RUN, Which::All, libc::EIO, &["vCPU 0", "KVM_RUN", "Input/output error"]);
}

/// Runs guests one after another and concurrently, more than there are vCPUs.
fn crowd(machine: &Machine) {
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut guest = Guest::new(machine, call_forever());
                for i in 0..200 {
                    guest.registers.rax = i;
                    guest.run_to_call();
                    assert_eq!(guest.registers.orig_rax, i);
                }
            });
        }
    });
}

#[test]
fn few_vcpus_suffice() {
    // If the host does not report a maximum, four are supported.
    with_kvm(|| {
        refuse(KVM_CHECK_EXTENSION, Which::With(KVM_CAP_MAX_VCPUS), 0);
        refuse(KVM_CHECK_EXTENSION, Which::With(KVM_CAP_NR_VCPUS), 0);
        crowd(&start().unwrap());
    });
    // If the host reports more than it can create, one vCPU suffices.
    with_kvm(|| {
        refuse(KVM_CREATE_VCPU, Which::From(1), libc::ENOMEM);
        crowd(&start().unwrap());
    });
}

/// A guest for whose page tables the host has no memory ends with an error; other guests continue.
#[test]
fn a_guest_without_tables_ends_with_a_reason() {
    with_kvm(|| {
        let machine = start().unwrap();
        let mut other = Guest::new(&machine, call_forever());
        other.run_to_call();
        let mut guest = Guest::new(&machine, write_byte());
        guest.run_to_call();
        refuse(KVM_SET_USER_MEMORY_REGION, Which::All, libc::ENOMEM);
        // Memory whose slot does not exist yet.
        let far = FrameRange { start: machine.memory.limit() - PAGE_SIZE, len: PAGE_SIZE };
        let fault = (0..100).find_map(|_| {
            guest.space.map(DATA, far, READ_WRITE);
            match guest.context.run(&*guest.space, &mut guest.registers) {
                Ok(trap) => assert!(matches!(trap, Trap::PageFault { .. }), "{trap:?}"),
                Err(fault) => return Some(fault.to_string()),
            }
            None
        });
        let text = fault.expect("it cannot go on for ever");
        assert!(text.contains("no memory for the page tables"), "{text}");
        other.run_to_call();
    });
}
