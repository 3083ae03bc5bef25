//! `amber run`: from an OCI bundle to a sandbox.

use std::collections::HashSet;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{
    Capabilities, Capability, Linux, LinuxCapabilities, Mount, PosixRlimit, PosixRlimitType, Process, Spec,
};

use crate::mounts;
use crate::quick::{check_hostname, root_directory};
use crate::spec::{CapabilitySets, Credentials, MountFlags, MountKind, MountSpec, ProcessSpec, Rlimit, SandboxSpec};

/// Reads the bundle in `directory` for a container called `id`.
///
/// # Errors
/// What is missing, malformed, or asked for and not offered, by name.
pub fn sandbox(directory: &Path, id: &str) -> Result<SandboxSpec> {
    check_id(id)?;
    let directory = root_directory(directory).with_context(|| format!("bundle {}", directory.display()))?;
    let path = directory.join("config.json");
    let file = File::open(&path).with_context(|| {
        format!("{}: every bundle has this file (`runc spec` writes one to start from)", path.display())
    })?;
    let spec: Spec = serde_json::from_reader(BufReader::new(file)).with_context(|| path.display().to_string())?;
    from_spec(&spec, &directory, id).with_context(|| path.display().to_string())
}

/// What runc accepts as the name of a container.
fn check_id(id: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
    ensure!(
        !id.is_empty() && id.chars().all(allowed) && id != "." && id != "..",
        "container ID {id:?}: use letters, digits, `_`, `+`, `-` and `.`, and neither `.` nor `..`"
    );
    Ok(())
}

fn from_spec(spec: &Spec, directory: &Path, id: &str) -> Result<SandboxSpec> {
    check_version(spec.version())?;
    let process = spec.process().as_ref().context("`process` is missing: there is nothing to run")?;
    let root = spec.root().as_ref().context("`root` is missing: name the root file system in `root.path`")?;
    let shown = root.path().display();
    let path = root_directory(&directory.join(root.path())).with_context(|| format!("`root.path` {shown}"))?;
    let hostname = spec.hostname().clone().unwrap_or_else(|| id.chars().take(64).collect());
    check_hostname(&hostname)?;
    for (name, present) in [("hooks", spec.hooks().is_some()), ("domainname", spec.domainname().is_some())] {
        if present {
            log::warn!("`{name}` in the bundle is ignored");
        }
    }

    let flags = MountFlags { read_only: root.readonly().unwrap_or(false), ..MountFlags::default() };
    let mut mounts = vec![MountSpec { destination: "/".into(), kind: MountKind::Host(path), flags }];
    for (index, entry) in spec.mounts().iter().flatten().enumerate() {
        let named = || format!("`mounts[{index}]` on {}", entry.destination().display());
        mounts.extend(mount(entry, directory).with_context(named)?);
    }

    let linux = spec.linux().as_ref();
    let paths = |list: Option<&Vec<String>>| list.into_iter().flatten().map(PathBuf::from).collect();
    let mut sysctls: Vec<(String, String)> =
        linux.and_then(|linux| linux.sysctl().clone()).into_iter().flatten().collect();
    sysctls.sort();
    if let Some(linux) = linux {
        note_ignored(linux);
    }
    Ok(SandboxSpec {
        hostname,
        mounts,
        process: first_process(process).context("`process`")?,
        masked_paths: paths(linux.and_then(|linux| linux.masked_paths().as_ref())),
        readonly_paths: paths(linux.and_then(|linux| linux.readonly_paths().as_ref())),
        sysctls,
    })
}

fn check_version(version: &str) -> Result<()> {
    ensure!(!version.is_empty(), "`ociVersion` is missing; Amber reads versions 1.x, such as \"1.0.2\"");
    let release = version.split(['-', '+']).next().unwrap_or(version);
    let numbers: Vec<Option<u32>> = release.split('.').map(|part| part.parse().ok()).collect();
    let supported = matches!(numbers[..], [Some(1), Some(_), Some(_)]);
    ensure!(supported, "`ociVersion` \"{version}\" is not supported; Amber reads versions 1.x, such as \"1.0.2\"");
    Ok(())
}

/// Says what a bundle asks for that a sandbox of Amber has anyway, or does not have yet.
fn note_ignored(linux: &Linux) {
    if linux.seccomp().is_some() {
        log::info!("`linux.seccomp` is ignored: no system call of the guest reaches the host");
    }
    if linux.resources().is_some() {
        log::info!("`linux.resources` is ignored: put amber itself into a cgroup to limit it");
    }
    if linux.devices().as_ref().is_some_and(|devices| !devices.is_empty()) {
        log::warn!("`linux.devices` in the bundle is ignored: the guest has the standard devices only");
    }
}

/// Brings one mount into our form; none for a kind that is left out.
fn mount(entry: &Mount, directory: &Path) -> Result<Option<MountSpec>> {
    let options = entry.options().clone().unwrap_or_default();
    let (bind, options): (Vec<String>, Vec<String>) =
        options.into_iter().partition(|option| option == "bind" || option == "rbind");
    // The specification lets old bundles write a destination without its slash.
    let destination = mounts::normal(&Path::new("/").join(entry.destination()))?;
    let mut flags = MountFlags::default();
    let kind = entry.typ().as_deref().unwrap_or("none");
    let kind = match kind {
        _ if !bind.is_empty() || kind == "bind" => {
            let source = entry.source().as_ref().context("`source` is missing")?;
            let source = directory.join(source);
            let found = source.canonicalize().with_context(|| format!("`source` {}", source.display()))?;
            mounts::plain_options(&options, &mut flags, "bind mounts")?;
            MountKind::Host(found)
        }
        "tmpfs" => {
            let options = mounts::tmpfs_options(&options, &mut flags)?;
            if destination == Path::new("/dev") { MountKind::Devices(options) } else { MountKind::Tmpfs(options) }
        }
        "devpts" => MountKind::Devpts(mounts::devpts_options(&options, &mut flags)?),
        "proc" | "sysfs" | "mqueue" => {
            mounts::plain_options(&options, &mut flags, kind)?;
            match kind {
                "proc" => MountKind::Proc,
                "sysfs" => MountKind::Sysfs,
                _ => MountKind::Mqueue,
            }
        }
        "cgroup" | "cgroup2" => {
            log::info!("the {kind} mount on {} is left out: the guest has no control groups", destination.display());
            return Ok(None);
        }
        _ => bail!("type `{kind}` is not offered; there are bind, tmpfs, proc, sysfs, devpts, mqueue and cgroup"),
    };
    Ok(Some(MountSpec { destination, kind, flags }))
}

fn first_process(process: &Process) -> Result<ProcessSpec> {
    let args = process.args().clone().unwrap_or_default();
    ensure!(args.first().is_some_and(|program| !program.is_empty()), "`args` is empty: name the program to run");
    ensure!(process.cwd().is_absolute(), "`cwd` {:?} must be an absolute path", process.cwd());
    let env = process.env().clone().unwrap_or_default();
    if let Some(entry) = env.iter().find(|entry| entry.find('=').unwrap_or(0) == 0) {
        bail!("`env` entry {entry:?} must be NAME=VALUE");
    }
    if let Some(text) = args.iter().chain(&env).find(|text| text.contains('\0')) {
        bail!("{text:?} contains a NUL byte");
    }
    let user = process.user();
    let umask = user.umask().unwrap_or(0o22);
    ensure!(umask <= 0o777, "`user.umask` {umask} is more than 0777 (write it in decimal)");
    Ok(ProcessSpec {
        args: args.into_iter().map(Into::into).collect(),
        env: env.into_iter().map(Into::into).collect(),
        cwd: process.cwd().clone(),
        user: Credentials {
            uid: user.uid(),
            gid: user.gid(),
            additional_gids: user.additional_gids().clone().unwrap_or_default(),
        },
        capabilities: process.capabilities().as_ref().map(capability_sets).unwrap_or_default(),
        rlimits: rlimits(process.rlimits().iter().flatten())?,
        no_new_privs: process.no_new_privileges().unwrap_or(false),
        umask,
        terminal: process.terminal().unwrap_or(false),
    })
}

fn rlimits<'a>(list: impl Iterator<Item = &'a PosixRlimit>) -> Result<Vec<Rlimit>> {
    let mut seen = HashSet::new();
    let mut result = Vec::new();
    for limit in list {
        let name = limit.typ();
        let (soft, hard) = (limit.soft(), limit.hard());
        let resource = resource_number(name);
        ensure!(seen.insert(resource), "`rlimits` has {name} twice");
        ensure!(soft <= hard, "`rlimits` {name}: the soft limit {soft} is above the hard limit {hard}");
        result.push(Rlimit { resource, soft, hard });
    }
    Ok(result)
}

fn resource_number(resource: PosixRlimitType) -> u32 {
    use PosixRlimitType::*;
    match resource {
        RlimitCpu => 0,
        RlimitFsize => 1,
        RlimitData => 2,
        RlimitStack => 3,
        RlimitCore => 4,
        RlimitRss => 5,
        RlimitNproc => 6,
        RlimitNofile => 7,
        RlimitMemlock => 8,
        RlimitAs => 9,
        RlimitLocks => 10,
        RlimitSigpending => 11,
        RlimitMsgqueue => 12,
        RlimitNice => 13,
        RlimitRtprio => 14,
        RlimitRttime => 15,
    }
}

fn capability_sets(sets: &LinuxCapabilities) -> CapabilitySets {
    let bits = |set: &Option<Capabilities>| {
        set.iter().flatten().fold(0, |bits, &capability| bits | 1 << capability_number(capability))
    };
    CapabilitySets {
        bounding: bits(sets.bounding()),
        effective: bits(sets.effective()),
        inheritable: bits(sets.inheritable()),
        permitted: bits(sets.permitted()),
        ambient: bits(sets.ambient()),
    }
}

fn capability_number(capability: Capability) -> u32 {
    use Capability::*;
    match capability {
        Chown => 0,
        DacOverride => 1,
        DacReadSearch => 2,
        Fowner => 3,
        Fsetid => 4,
        Kill => 5,
        Setgid => 6,
        Setuid => 7,
        Setpcap => 8,
        LinuxImmutable => 9,
        NetBindService => 10,
        NetBroadcast => 11,
        NetAdmin => 12,
        NetRaw => 13,
        IpcLock => 14,
        IpcOwner => 15,
        SysModule => 16,
        SysRawio => 17,
        SysChroot => 18,
        SysPtrace => 19,
        SysPacct => 20,
        SysAdmin => 21,
        SysBoot => 22,
        SysNice => 23,
        SysResource => 24,
        SysTime => 25,
        SysTtyConfig => 26,
        Mknod => 27,
        Lease => 28,
        AuditWrite => 29,
        AuditControl => 30,
        Setfcap => 31,
        MacOverride => 32,
        MacAdmin => 33,
        Syslog => 34,
        WakeAlarm => 35,
        BlockSuspend => 36,
        AuditRead => 37,
        Perfmon => 38,
        Bpf => 39,
        CheckpointRestore => 40,
    }
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
