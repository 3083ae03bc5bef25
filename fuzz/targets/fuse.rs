//! Requests of FUSE are hostile. Each has an answer of the protocol's form, or none where it has none.
#![no_main]
// That a guest may be used by another thread follows from all that its kernel holds.
#![recursion_limit = "256"]

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::sync::{Arc, LazyLock, Mutex};

use amber_fuzz::Guest;
use amber_runtime::fuzzing::serve;
use libfuzzer_sys::fuzz_target;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

/// Bytes of `struct fuse_in_header`.
const HEADER: usize = 40;
const STATFS: u32 = 17;
/// The longest answer.
const ANSWER: usize = 1 << 17;

/// A connection as that of FUSE, where each request is one message, and the guest that is looked at.
static CONNECTION: LazyLock<Mutex<(File, Guest)>> = LazyLock::new(|| {
    let guest = Guest::start();
    let sockets = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
    let (ours, theirs) = sockets.expect("sockets");
    serve(theirs, Arc::downgrade(guest.sandbox())).expect("a thread");
    Mutex::new((ours.into(), guest))
});

/// A request, with the number by which its answer is known.
fn request(opcode: u32, number: u64, node: u64, rest: &[u8]) -> Vec<u8> {
    let mut bytes = ((HEADER + rest.len()) as u32).to_ne_bytes().to_vec();
    bytes.extend(opcode.to_ne_bytes());
    bytes.extend(number.to_ne_bytes());
    bytes.extend(node.to_ne_bytes());
    bytes.resize(HEADER, 0);
    bytes.extend(rest);
    bytes
}

fuzz_target!(|input: &[u8]| {
    let Some((head, rest)) = input.split_first_chunk::<9>() else { return };
    if rest.len() > 4096 {
        return;
    }
    let mut connection = CONNECTION.lock().expect("nobody panicked");
    let (connection, _) = &mut *connection;
    let node = u64::from_ne_bytes(*head[1..].first_chunk().expect("there are eight bytes"));
    for request in [request(head[0].into(), 1, node, rest), request(STATFS, 2, 1, &[])] {
        connection.write_all(&request).expect("it is served");
    }
    // There are requests without an answer, but the second has one.
    let mut answer = vec![0; ANSWER];
    loop {
        let len = loop {
            match connection.read(&mut answer) {
                // The fuzzer's alarm, after the process was stopped.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result.expect("there is an answer"),
            }
        };
        let word = |at: usize| u32::from_ne_bytes(*answer[at..].first_chunk().expect("there are four bytes"));
        assert_eq!(word(0) as usize, len, "an answer says how long it is");
        assert!(word(4) as i32 <= 0, "an error is one");
        match word(8) {
            1 => {}
            2 => return,
            other => panic!("an answer to {other}"),
        }
    }
});
