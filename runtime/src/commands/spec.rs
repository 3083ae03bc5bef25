//! `amber spec`: writes a template of config.json, as runc does.

use std::fs::File;
use std::io::{ErrorKind, Write};

use anyhow::{Context, Result, bail};
use nix::unistd::{getegid, geteuid};
use serde_json::{Map, Value, json};

use crate::cli::SpecArgs;
use crate::oci::state::OCI_VERSION;

/// Writes the file.
///
/// # Errors
/// The file exists, or cannot be written.
pub(super) fn command(args: &SpecArgs) -> Result<()> {
    let path = args.bundle.join("config.json");
    let mut file = match File::options().write(true).create_new(true).open(&path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("File config.json exists. Remove it first")
        }
        file => file.with_context(|| path.display().to_string())?,
    };
    let text = serde_json::to_string_pretty(&config(args.for_ordinary_user)).context("the bundle")?;
    file.write_all(text.as_bytes()).with_context(|| path.display().to_string())
}

fn config(rootless: bool) -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mount = |target: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": target, "type": kind, "source": source, "options": options});
    let pts: &[&str] = &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc"}),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", if rootless { pts.get(..5).unwrap_or(pts) } else { pts }),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ];
    let mut namespaces = vec!["pid", "network", "ipc", "uts", "mount", "cgroup"];
    if rootless {
        namespaces.retain(|kind| *kind != "network");
        namespaces.push("user");
        mounts.push(mount("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"]));
    } else {
        mounts.push(mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]));
        let options = ["nosuid", "noexec", "nodev", "relatime", "ro"];
        mounts.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", &options));
    }
    let mut linux = Map::new();
    if rootless {
        let mapping = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
        linux.insert("uidMappings".into(), mapping(geteuid().as_raw()));
        linux.insert("gidMappings".into(), mapping(getegid().as_raw()));
    } else {
        linux.insert("resources".into(), json!({"devices": [{"allow": false, "access": "rwm"}]}));
    }
    linux.insert("namespaces".into(), namespaces.iter().map(|kind| json!({"type": kind})).collect());
    let masked = [
        "/proc/acpi",
        "/proc/asound",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/sys/firmware",
        "/proc/scsi",
    ];
    linux.insert("maskedPaths".into(), json!(masked));
    let read_only = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
    linux.insert("readonlyPaths".into(), json!(read_only));
    json!({
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
                "ambient": capabilities,
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "amber",
        "mounts": mounts,
        "linux": linux,
    })
}
