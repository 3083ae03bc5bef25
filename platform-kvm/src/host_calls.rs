//! The calls of the host's kernel that this platform makes while guest code runs.

use amber_platform::host_call::{Condition, HostCall, Rule};
use amber_platform::host_call_rules;

/// They all.
pub const HOST_CALLS: &[HostCall] = &[
    HostCall {
        number: libc::SYS_ioctl,
        name: "ioctl",
        reason: "the virtual machine and its processors",
        rules: MACHINE,
    },
    HostCall { number: libc::SYS_madvise, name: "madvise", reason: "guest memory mapped ahead of use", rules: AHEAD },
];

/// A request of ioctl(2) by its number.
const fn request(number: u64) -> Condition {
    Condition::int(1, number)
}

/// What a running machine needs.
const MACHINE: &[Rule] = host_call_rules! {
    "KVM_RUN" => [request(0xae80)];
    "KVM_GET_REGS" => [request(0x8090_ae81)];
    "KVM_GET_SREGS" => [request(0x8138_ae83)];
    "KVM_SET_SREGS" => [request(0x4138_ae84)];
    "KVM_GET_XSAVE" => [request(0x9000_aea4)];
    "KVM_SET_XSAVE" => [request(0x5000_aea5)];
    "KVM_SET_XCRS" => [request(0x4188_aea7)];
    "KVM_SET_MSRS" => [request(0x4008_ae89)];
    "KVM_SET_CPUID2" => [request(0x4008_ae90)];
    "KVM_CREATE_VCPU" => [request(0xae41)];
    "KVM_SET_USER_MEMORY_REGION" => [request(0x4020_ae46)];
    "KVM_CHECK_EXTENSION" => [request(0xae03)];
    "KVM_GET_VCPU_MMAP_SIZE" => [request(0xae04)];
    "KVM_SET_DEVICE_ATTR" => [request(0x4018_aee1)];
    "KVM_GET_DEBUGREGS" => [request(0x8080_aea1)];
    "KVM_SET_DEBUGREGS" => [request(0x4080_aea2)];
    "KVM_GET_VCPU_EVENTS" => [request(0x8040_ae9f)];
};

const AHEAD: &[Rule] = host_call_rules! {
    "MADV_POPULATE_READ" => [Condition::int(2, libc::MADV_POPULATE_READ as u64)];
};
