//! Tests the error report and the log when a vCPU stops for good, with page tables that are corrupted on purpose.

use std::fs::File;
use std::sync::Arc;

use amber_platform::{AddressSpace, Context, FrameRange, GuestMemory, PAGE_SIZE, Protection, Registers, Trap};
use parking_lot::Mutex;

use super::Space;
use crate::context::KvmContext;
use crate::tables::{FlushSet, KERNEL_ENTRY, trampoline};
use crate::{KvmPlatform, Shared};

const CODE: u64 = 0x10_0000;
const DATA: u64 = 0x20_0000;
/// `mov [rdi], rax`, then `syscall`.
const STORE_AND_CALL: [u8; 5] = [0x48, 0x89, 0x07, 0x0f, 0x05];
/// Guest-physical address where no machine has memory.
const NO_MEMORY: u64 = 2 << 20;
/// A register value to find in the log.
const MARK: u64 = 0x1234_5678_9abc_def0;

/// The captured log.
static LOG: Mutex<String> = Mutex::new(String::new());
/// Serialises the tests.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        *LOG.lock() += &format!("{}\n", record.args());
    }

    fn flush(&self) {}
}

/// A platform with one vCPU; `None` without KVM.
fn start() -> Option<Arc<Shared>> {
    if let Err(error) = File::options().read(true).write(true).open("/dev/kvm") {
        eprintln!("SKIPPED: /dev/kvm cannot be opened: {error}");
        return None;
    }
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(log::LevelFilter::Warn);
    }
    LOG.lock().clear();
    Some(KvmPlatform::with_vcpus(GuestMemory::new(1 << 30).unwrap(), 1).unwrap().shared)
}

/// Runs a guest in a space corrupted by `damage`. Checks the log and returns the error message.
fn broken(shared: &Arc<Shared>, damage: impl FnOnce(&Space)) -> String {
    let memory = shared.machine.memory();
    let frames = memory.allocate(2 * PAGE_SIZE, PAGE_SIZE).unwrap();
    let page = |i: u64| FrameRange { start: frames.range().start + i * PAGE_SIZE, len: PAGE_SIZE };
    memory.write(page(0).start, &STORE_AND_CALL);
    let fill = |space: &Space| {
        space.map(CODE, page(0), Protection { read: true, write: false, execute: true });
        space.map(DATA, page(1), Protection { read: true, write: true, execute: false });
    };
    let (good, bad) = (shared.new_space().unwrap(), shared.new_space().unwrap());
    fill(&good);
    fill(&bad);
    damage(&bad);
    let given = Registers { rdi: DATA, r15: MARK, ..Registers::for_program(CODE, CODE) };
    let vcpus = shared.pool.count();
    let mut context = KvmContext::new(shared.clone());
    let fault = context.run(&bad, &mut given.clone()).expect_err("nothing can run there").to_string();
    let log = LOG.lock().clone();
    // The host may have reset the vCPU, but the log has the registers it was started with.
    assert!(log.contains(&format!("r15: {MARK:x}")) && log.contains("rip: 100000"), "{log}");
    assert!(log.contains("has kvm_regs") && log.contains("kvm_sregs"), "{log}");
    // The next guest runs on another vCPU.
    drop(context);
    let mut other = KvmContext::new(shared.clone());
    assert_eq!(other.run(&good, &mut given.clone()).unwrap(), Trap::Syscall);
    assert_eq!(shared.pool.count(), vcpus + 1);
    fault
}

#[test]
fn a_triple_fault_is_reported() {
    let _one = ONE_AT_A_TIME.lock();
    let Some(shared) = start() else { return };
    let tables = shared.machine.tables();
    // Without the kernel half, no exception can be delivered.
    let fault = broken(&shared, |space| {
        let root = tables.at(space.root().address());
        tables.entries(root)[KERNEL_ENTRY].store(0, std::sync::atomic::Ordering::SeqCst);
        space.unmap(DATA..DATA + PAGE_SIZE, Vec::new());
    });
    assert!(fault.contains("vCPU") && fault.contains("triple fault"), "{fault}");
}

#[test]
fn a_page_without_memory_is_reported() {
    let _one = ONE_AT_A_TIME.lock();
    let Some(shared) = start() else { return };
    for address in [CODE, DATA] {
        let fault = broken(&shared, |space| {
            space.unmap(address..address + PAGE_SIZE, Vec::new());
            let mut tables = space.tables.lock();
            tables.map_own(address, NO_MEMORY, if address == CODE { trampoline() } else { trampoline() | 2 }).unwrap();
            drop(tables);
            space.changed(&FlushSet::default());
        });
        let expected = ["KVM_EXIT_INTERNAL_ERROR", "which is not mapped"];
        assert!(fault.contains("vCPU") && expected.iter().any(|text| fault.contains(text)), "{fault}");
    }
}
