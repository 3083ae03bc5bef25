//! The rules on arguments of host calls.

use amber_abi::host_call::{Condition, Rule, Value};
use amber_abi::host_call_rules as rules;

/// The 32 bits of an `int`.
const INT: u64 = 0xffff_ffff;

const fn bits(argument: u8, mask: u64, value: u64) -> Condition {
    Condition::bits(argument, mask, value)
}

const fn int(argument: u8, value: u64) -> Condition {
    Condition::int(argument, value)
}

const fn descriptor(argument: u8) -> Condition {
    Condition::descriptor(argument)
}

/// One rule per constant of the C library that an `int` argument may be.
macro_rules! one_of {
    ($argument:literal: $($name:ident)+) => {
        &[$(Rule { conditions: &[int($argument, libc::$name as u64)], meaning: stringify!($name) }),+]
    };
}

pub(super) const NOT_EXECUTABLE: &[Rule] = rules! {
    "not executable" => [bits(2, libc::PROT_EXEC as u64, 0)];
};

/// The flags of clone(2) that would make a process or a namespace.
const CLONE_BITS: u64 = (libc::CLONE_VM
    | libc::CLONE_THREAD
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32 as u64;

pub(super) const THREAD: &[Rule] = rules! {
    "a thread" => [bits(0, CLONE_BITS, (libc::CLONE_VM | libc::CLONE_THREAD) as u64)];
};

pub(super) const TO_ITSELF: &[Rule] = rules! {
    "to itself" => [Condition { argument: 0, mask: INT, value: Value::OwnProcess }];
};

/// The host may move memory, but not to a chosen address.
pub(super) const MAY_MOVE: &[Rule] = rules! {
    "MREMAP_MAYMOVE" => [int(3, libc::MREMAP_MAYMOVE as u64)];
};

pub(super) const GIVE_BACK: &[Rule] = one_of!(2: MADV_DONTNEED);

/// The operations that locks and condition variables of the C library and of Rust use. None passes on a lock or its
/// priority.
pub(super) const FUTEX: &[Rule] = {
    const OPERATION: u64 = INT & !((libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME) as u64);
    rules! {
        "FUTEX_WAIT" => [bits(1, OPERATION, libc::FUTEX_WAIT as u64)];
        "FUTEX_WAKE" => [bits(1, OPERATION, libc::FUTEX_WAKE as u64)];
        "FUTEX_WAIT_BITSET" => [bits(1, OPERATION, libc::FUTEX_WAIT_BITSET as u64)];
    }
};

pub(super) const DESCRIPTOR_COMMANDS: &[Rule] = one_of!(1: F_DUPFD_CLOEXEC F_GETFD F_GETFL F_SETFL);

pub(super) const IS_OPEN: &[Rule] = one_of!(1: F_GETFD);

/// Opened beneath a directory, for reading only.
pub(super) const OPEN_TO_READ: &[Rule] = {
    const CHANGES: i32 = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC;
    rules! { "beneath a descriptor, for reading" => [descriptor(0), bits(2, CHANGES as u64, 0)]; }
};

/// A path relative to the working directory or the root.
pub(super) const BY_PATH: &[Rule] = rules! { "not beneath a descriptor" => [int(0, libc::AT_FDCWD as u32 as u64)]; };

pub(super) const BENEATH: &[Rule] = rules! { "beneath a descriptor" => [descriptor(0)]; };
pub(super) const BENEATH_SECOND: &[Rule] = rules! { "beneath a descriptor" => [descriptor(1)]; };
pub(super) const BETWEEN: &[Rule] = rules! { "beneath descriptors" => [descriptor(0), descriptor(2)]; };

/// The special files in file trees. Device nodes are not among them, except overlay whiteouts, whose device number is
/// zero.
pub(super) const NODES: &[Rule] = {
    const KIND: u64 = libc::S_IFMT as u64;
    rules! {
        "a fifo beneath a descriptor" => [descriptor(0), bits(2, KIND, libc::S_IFIFO as u64)];
        "a socket beneath a descriptor" => [descriptor(0), bits(2, KIND, libc::S_IFSOCK as u64)];
        "a regular file beneath a descriptor" => [descriptor(0), bits(2, KIND, libc::S_IFREG as u64)];
        "a whiteout beneath a descriptor" => [descriptor(0), bits(2, KIND, libc::S_IFCHR as u64), int(3, 0)];
    }
};

pub(super) const TERMINALS: &[Rule] = one_of!(1: TCGETS TCSETS TCSETSW TCSETSF TCGETS2 TCSETS2 TCSETSW2 TCSETSF2
    TIOCGWINSZ FIONREAD TIOCOUTQ TCFLSH TCXONC TCSBRK TIOCGPGRP);

pub(super) const NAME_OF_THREAD: &[Rule] = one_of!(0: PR_SET_NAME);
pub(super) const DEATH_OF_PARENT: &[Rule] = one_of!(0: PR_SET_PDEATHSIG);
pub(super) const WITHOUT_WAITING: &[Rule] = one_of!(1: FIONBIO);

pub(super) const INTERNET: &[Rule] = one_of!(0: AF_INET AF_INET6 AF_NETLINK);
pub(super) const PACKETS: &[Rule] = one_of!(0: AF_PACKET);

/// The levels of socket options that guests can use.
pub(super) const OPTION_LEVELS: &[Rule] =
    one_of!(1: SOL_SOCKET SOL_IP SOL_IPV6 SOL_TCP SOL_UDP SOL_RAW SOL_ICMPV6 SOL_NETLINK);
pub(super) const PACKET_OPTIONS: &[Rule] = one_of!(1: SOL_PACKET);
pub(super) const SOCKET_OPTIONS: &[Rule] = one_of!(1: SOL_SOCKET);

pub(super) const NETWORK_QUESTIONS: &[Rule] = rules! { "SIOC…" => [bits(1, 0xffff_ff00, 0x8900)]; };
