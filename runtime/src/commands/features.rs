//! `amber features`: prints the features that bundles can use.

use amber_abi::Named;
use amber_abi::capability::Capability;
use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::json;

use crate::mounts;
use crate::oci::state::OCI_VERSION;
use crate::platforms::PlatformKind;

/// Prints the features as JSON.
///
/// # Errors
/// Standard output cannot be written.
pub(super) fn command() -> Result<u8> {
    let capabilities: Vec<&str> = (0..64).filter_map(|number| Capability::from_raw(number).name()).collect();
    let actions = [
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_LOG",
        "SCMP_ACT_TRACE",
        "SCMP_ACT_TRAP",
    ];
    let operators = ["EQ", "GE", "GT", "LE", "LT", "MASKED_EQ", "NE"].map(|name| format!("SCMP_CMP_{name}"));
    let platforms: Vec<&str> = PlatformKind::value_variants().iter().map(|kind| kind.name()).collect();
    let features = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": mounts::OPTIONS.as_slice(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capabilities,
            "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true},
            "seccomp": {
                "enabled": true,
                "actions": actions,
                "operators": operators,
                "archs": ["SCMP_ARCH_X86", "SCMP_ARCH_X86_64", "SCMP_ARCH_X32"],
            },
            "apparmor": {"enabled": false},
            "selinux": {"enabled": false},
            "intelRdt": {"enabled": false},
            "mountExtensions": {"idmap": {"enabled": false}},
        },
        "annotations": {"org.amber.version": env!("CARGO_PKG_VERSION"), "org.amber.platforms": platforms.join(" ")},
    });
    let text = serde_json::to_string_pretty(&features).context("the features")?;
    crate::print(&format!("{text}\n"))
}
