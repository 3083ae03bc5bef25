//! What comes over a sandbox's control socket is hostile, on both sides: a sandbox that was taken over answers what it
//! likes.
#![no_main]

use std::io::Write;
use std::os::unix::net::UnixStream;

use amber_host::channel::Channel;
use amber_runtime::fuzzing::{Reply, Request, receive};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&choice, frames)) = input.split_first() else { return };
    // What fits into a socket, so that nothing waits.
    if frames.len() > 1 << 15 {
        return;
    }
    let (mut sender, receiver) = UnixStream::pair().expect("sockets");
    if choice & 1 == 0 {
        // One whole frame.
        sender.write_all(&(frames.len() as u32).to_le_bytes()).expect("the other end is there");
    }
    sender.write_all(frames).expect("the other end is there");
    drop(sender);
    let channel = Channel::new(receiver);
    if choice & 2 == 0 {
        while let Ok(Some(_)) = receive::<Request>(&channel) {}
    } else {
        while let Ok(Some(_)) = receive::<Reply>(&channel) {}
    }
});
