//! Mounts as users write them: volumes, options, and the default set.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use amber_host::file_systems::{kernel_name, tells_of_machine};
use amber_host::fs::{look, open_root, statfs};
use amber_sentry::config::{MountSource, MountSpec};
use anyhow::{Context, Result, bail, ensure};

/// The options of `/dev/pts` that container runtimes use.
const TERMINALS: &str = "gid=5,mode=620,ptmxmode=666";

/// The mounts over the root of every `do` guest; the same as Docker's.
pub(crate) fn standard() -> Vec<MountSpec> {
    let mount = |target, source, options: &str| {
        let mut spec = MountSpec::new(target, source);
        for option in options.split(',') {
            set_flag(&mut spec, option);
        }
        spec
    };
    vec![
        mount("/proc", MountSource::Proc, "nosuid,nodev,noexec"),
        mount("/dev", MountSource::Dev, "nosuid"),
        mount("/dev/pts", MountSource::DevPts(TERMINALS.into()), "nosuid,noexec"),
        mount("/dev/shm", MountSource::Tmpfs("mode=1777".into()), "nosuid,nodev"),
        mount("/dev/mqueue", MountSource::Mqueue, "nosuid,nodev,noexec"),
        mount("/sys", MountSource::Sys, "nosuid,nodev,noexec,ro"),
        mount("/sys/fs/cgroup", MountSource::Cgroup, "nosuid,nodev,noexec,ro"),
    ]
}

/// Parses `SRC:DST[:OPTIONS]`. A relative source starts at the caller's working directory.
pub(crate) fn volume(text: &OsStr) -> Result<MountSpec> {
    let shown = text.display();
    let mut parts = text.as_bytes().split(|&byte| byte == b':');
    let (Some(source), Some(destination), options, None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        bail!("--volume {shown}: write it as SRC:DST or SRC:DST:ro");
    };
    let (source, destination) = (Path::new(OsStr::from_bytes(source)), Path::new(OsStr::from_bytes(destination)));
    ensure!(destination.is_absolute(), "--volume {shown}: the place in the guest must be an absolute path");
    ensure!(!source.as_os_str().is_empty(), "--volume {shown}: the host path is missing");
    let source = source.canonicalize().with_context(|| format!("--volume {shown}: host path {}", source.display()))?;
    let target = normal(destination)?;
    let source = bind(&target, source).with_context(|| format!("--volume {shown}"))?;
    let mut spec = MountSpec::new(&target, source);
    for option in options.unwrap_or_default().split(|&byte| byte == b',').filter(|option| !option.is_empty()) {
        let option = String::from_utf8_lossy(option);
        let known = matches!(&*option, "ro" | "rw" | "nosuid" | "nodev" | "noexec") && set_flag(&mut spec, &option);
        ensure!(known, "--volume {shown}: unknown option `{option}`; there are ro, rw, nosuid, nodev and noexec");
    }
    Ok(spec)
}

/// The source of a bind mount at `target`. A kernel file system bound to its usual place is replaced by the sandbox's
/// own, since it shows the processes, devices and queues of its kernel.
///
/// # Errors
/// The path cannot be inspected.
pub(crate) fn bind(target: &str, source: PathBuf) -> Result<MountSource> {
    let file = open_root(&source)?;
    let (number, magic) = (look(file.as_fd())?.stat.number, statfs(file.as_fd())?.f_type);
    let kind = kernel_name(magic);
    let own = match (kind, target) {
        (Some("proc"), "/proc") => MountSource::Proc,
        (Some("sysfs"), "/sys") => MountSource::Sys,
        (Some("cgroup" | "cgroup2"), "/sys/fs/cgroup") => MountSource::Cgroup,
        // With version 1, /sys/fs/cgroup is a tmpfs with a directory for each hierarchy.
        (None, "/sys/fs/cgroup") if source.as_os_str() == target => MountSource::Cgroup,
        (Some("mqueue"), "/dev/mqueue") => MountSource::Mqueue,
        (Some("devpts"), "/dev/pts") => MountSource::DevPts(TERMINALS.into()),
        _ => {
            if let (Some(kind), false) = (kind, tells_of_machine(magic, number)) {
                log::warn!(
                    "{} is on the host's {kind}, whose files depend on the opener: at {target} the guest sees nothing \
                     of it",
                    source.display()
                );
            }
            return Ok(MountSource::Host(source));
        }
    };
    log::info!("{target} is the sandbox's own, not the host's {}", source.display());
    Ok(own)
}

/// Normalizes an absolute guest path without looking at files.
///
/// # Errors
/// The path is relative, is not UTF-8, or has a `..`, whose meaning depends on symbolic links.
pub(crate) fn normal(path: &Path) -> Result<String> {
    let mut result = String::new();
    ensure!(path.is_absolute(), "{}: must be an absolute path", path.display());
    for component in path.components() {
        match component {
            Component::Normal(name) => {
                let name = name.to_str().with_context(|| format!("{}: must be UTF-8", path.display()))?;
                result.push('/');
                result.push_str(name);
            }
            Component::ParentDir => bail!("{}: must not contain `..`", path.display()),
            _ => {}
        }
    }
    Ok(if result.is_empty() { "/".into() } else { result })
}

/// The options of all mounts, as listed by `amber features`.
pub(crate) const OPTIONS: [&str; 42] = [
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "lazytime",
    "loud",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "nolazytime",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "private",
    "rbind",
    "rdev",
    "relatime",
    "rexec",
    "rnodev",
    "rnoexec",
    "rnosuid",
    "ro",
    "rprivate",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rsuid",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "sync",
    "unbindable",
];

/// Applies an option that all file systems share; returns false for others.
fn set_flag(spec: &mut MountSpec, option: &str) -> bool {
    match option {
        "ro" | "rro" => spec.read_only = true,
        "rw" | "rrw" => spec.read_only = false,
        "nosuid" | "rnosuid" => spec.no_suid = true,
        "suid" | "rsuid" => spec.no_suid = false,
        "nodev" | "rnodev" => spec.no_dev = true,
        "dev" | "rdev" => spec.no_dev = false,
        "noexec" | "rnoexec" => spec.no_exec = true,
        "exec" | "rexec" => spec.no_exec = false,
        // Without effect on the guest: its mounts are not shared, and access times are up to the host or, in memory,
        // relatime.
        "defaults" | "sync" | "async" | "dirsync" | "silent" | "loud" | "lazytime" | "nolazytime" | "private"
        | "rprivate" | "slave" | "rslave" | "shared" | "rshared" | "unbindable" | "runbindable" | "atime"
        | "noatime" | "diratime" | "nodiratime" | "relatime" | "norelatime" | "strictatime" | "nostrictatime" => {}
        _ => return false,
    }
    true
}

/// Applies the options that all file systems share, and returns the others in the form of mount(8).
pub(crate) fn apply(options: &[String], spec: &mut MountSpec) -> String {
    let own: Vec<&str> = options.iter().map(String::as_str).filter(|option| !set_flag(spec, option)).collect();
    own.join(",")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn volumes_are_read_as_docker_reads_them() {
        let mount = volume(OsStr::new("/usr/:/data/x/:ro,noexec")).unwrap();
        assert_eq!(mount.target, "/data/x");
        assert_eq!(mount.source, MountSource::Host("/usr".into()));
        assert!(mount.read_only && mount.no_exec && !mount.no_suid);
        assert!(!volume(OsStr::new(".:/data")).unwrap().read_only);
    }

    #[test]
    fn what_the_kernel_makes_up_is_the_sandboxs_own_in_its_place() {
        let of = |text: &str| volume(OsStr::new(text)).unwrap().source;
        assert_eq!(of("/proc:/proc"), MountSource::Proc);
        assert_eq!(of("/sys:/sys:ro"), MountSource::Sys);
        assert_eq!(of("/sys/fs/cgroup:/sys/fs/cgroup"), MountSource::Cgroup);
        assert_eq!(of("/proc:/host/proc"), MountSource::Host("/proc".into()));
    }

    #[test]
    fn malformed_volumes_are_named() {
        for (text, reason) in [
            ("/usr", "SRC:DST"),
            ("/usr:data", "absolute"),
            (":/data", "host path is missing"),
            ("/usr:/d:ro:x", "SRC:DST"),
            ("/usr:/d:z", "unknown option `z`"),
            ("/no/such/dir:/d", "/no/such/dir"),
            ("/usr:/a/../b", "`..`"),
        ] {
            let error = format!("{:#}", volume(&OsString::from(text)).unwrap_err());
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn options_are_those_of_the_mount_or_of_the_file_system() {
        let mut spec = MountSpec::new("/tmp", MountSource::Proc);
        let options = ["nosuid", "strictatime", "mode=1777", "size=64k", "rprivate", "ro"].map(String::from);
        assert_eq!(apply(&options, &mut spec), "mode=1777,size=64k");
        assert!(spec.no_suid && spec.read_only && !spec.no_dev);
    }
}
