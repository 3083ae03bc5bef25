//! Programs for seccomp are hostile. Each is refused or ends with an answer; a call that is said to be allowed always is
//! allowed with any arguments.
#![no_main]

use amber_abi::seccomp::{AUDIT_ARCH_X86_64, SeccompAction, SeccompData, SockFilter};
use amber_sentry::Filter;
use libfuzzer_sys::fuzz_target;
use zerocopy::FromBytes;

fuzz_target!(|input: &[u8]| {
    let Some((words, rest)) = input.split_first_chunk::<32>() else { return };
    let program: Vec<SockFilter> =
        rest.chunks_exact(size_of::<SockFilter>()).filter_map(|op| SockFilter::read_from_bytes(op).ok()).collect();
    let Ok(first) = Filter::new(program.clone(), None) else { return };
    let word = |at: usize| u64::from_ne_bytes(*words[at..].first_chunk().expect("there are 32 bytes"));
    let data = SeccompData {
        nr: word(0) as i32,
        arch: if words[7] == 0 { word(8) as u32 } else { AUDIT_ARCH_X86_64 },
        instruction_pointer: word(16),
        args: [word(24); 6],
    };
    let answer = first.evaluate(&data);
    // Before a filter that looks at an argument, nothing is known beforehand: this one is run.
    let load = SockFilter { code: 0x20, jt: 0, jf: 0, k: 16 };
    let allow = SockFilter { code: 0x06, jt: 0, jf: 0, k: SeccompAction::SECCOMP_RET_ALLOW.raw() };
    let both = Filter::new(vec![load, allow], Some(first)).expect("there is room for a second");
    assert_eq!(both.evaluate(&data) & 0xffff_0000, answer & 0xffff_0000, "the two ways to an answer agree");
});
