//! From an OCI bundle to the configuration of a sandbox.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use amber_abi::Named;
use amber_abi::capability::{Capability, CapabilitySet};
use amber_abi::errno::Errno;
use amber_abi::task::Resource;
use amber_host::fs::open_without_links;
use amber_host::trees::{HostTrees, is_directory};
use amber_sentry::config::{CapabilitySpec, Limits, MountSource, MountSpec, ProcessSpec, SandboxConfig, UserSpec};
use amber_sentry::profile::KernelProfile;
use anyhow::{Context, Result, anyhow, bail, ensure};
use oci_spec::runtime::{
    Arch, Capabilities, Linux, LinuxCapabilities, LinuxNamespaceType, LinuxSeccompFilterFlag, Mount, PosixRlimit,
    Process, Root, Spec,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{mounts, resources, seccomp};

/// The configuration file of a bundle.
const CONFIG: &str = "config.json";

/// A bundle.
pub struct Bundle {
    /// Its absolute directory.
    pub directory: PathBuf,
    /// The contents of `config.json`.
    pub spec: Spec,
}

impl Bundle {
    /// Reads the bundle in a directory.
    ///
    /// # Errors
    /// Names what is missing or malformed.
    pub fn load(directory: &Path) -> Result<Bundle> {
        let directory = root_directory(directory).with_context(|| format!("bundle {}", directory.display()))?;
        let path = directory.join(CONFIG);
        let mut file = File::open(&path).with_context(|| {
            format!("{}: every bundle has this file (`amber spec` writes one to start from)", path.display())
        })?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).with_context(|| path.display().to_string())?;
        let spec = parse(&text).with_context(|| path.display().to_string())?;
        Ok(Bundle { directory, spec })
    }

    /// The sandbox for the container `id`. A process with a terminal gets one of the size `terminal` (rows, columns),
    /// unless the bundle gives a size.
    ///
    /// # Errors
    /// Names what is invalid or not supported.
    pub fn sandbox(&self, id: &str, profile: KernelProfile, terminal: Option<(u16, u16)>) -> Result<SandboxConfig> {
        check_id(id)?;
        from_spec(&self.spec, &self.directory, id, profile, terminal)
            .with_context(|| self.directory.join(CONFIG).display().to_string())
    }
}

/// Parses a specification. Skips names of later versions, and values that have no meaning in Amber.
fn parse(text: &[u8]) -> serde_json::Result<Spec> {
    let mut value: Value = serde_json::from_slice(text)?;
    let known_type = |entry: &Value| entry.get("type").is_some_and(is_known::<LinuxNamespaceType>);
    retain(&mut value, "/linux/namespaces", known_type);
    retain(&mut value, "/linux/seccomp/architectures", is_known::<Arch>);
    retain(&mut value, "/linux/seccomp/flags", is_known::<LinuxSeccompFilterFlag>);
    Spec::deserialize(value)
}

fn is_known<T: DeserializeOwned>(value: &Value) -> bool {
    // A value that is not a string is left for the parser to reject.
    !value.is_string() || T::deserialize(value).is_ok()
}

fn retain(value: &mut Value, pointer: &str, keep: impl Fn(&Value) -> bool) {
    if let Some(list) = value.pointer_mut(pointer).and_then(Value::as_array_mut) {
        list.retain(|entry| {
            let kept = keep(entry);
            if !kept {
                log::info!(
                    "`{}`: {entry} is not known, and ignored",
                    pointer.trim_start_matches('/').replace('/', ".")
                );
            }
            kept
        });
    }
}

/// Refuses the container names that runc refuses.
pub(crate) fn check_id(id: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
    ensure!(
        !id.is_empty() && id.chars().all(allowed) && id != "." && id != "..",
        "container ID {id:?}: use letters, digits, `_`, `+`, `-` and `.`, and neither `.` nor `..`"
    );
    Ok(())
}

fn from_spec(
    spec: &Spec,
    directory: &Path,
    id: &str,
    profile: KernelProfile,
    terminal: Option<(u16, u16)>,
) -> Result<SandboxConfig> {
    check_version(spec.version())?;
    let process = spec.process().as_ref().context("`process` is missing: there is nothing to run")?;
    let root = spec.root().as_ref().context("`root` is missing: name the root file system in `root.path`")?;
    let path = root_path(directory, root);
    check_root(&path).with_context(|| format!("`root.path` {}", root.path().display()))?;
    let hostname = spec.hostname().clone().unwrap_or_else(|| id.chars().take(64).collect());
    check_hostname(&hostname)?;
    check_hostname(spec.domainname().as_deref().unwrap_or_default())?;
    let read_only = root.readonly().unwrap_or(false);
    let mut mounts = vec![MountSpec { read_only, ..MountSpec::new("/", MountSource::Host(path)) }];
    for (index, entry) in spec.mounts().iter().flatten().enumerate() {
        let named = || format!("`mounts[{index}]` on {}", entry.destination().display());
        mounts.extend(mount(entry, directory).with_context(named)?);
    }

    let linux = spec.linux().as_ref();
    let paths = |list: Option<&Vec<String>>| list.cloned().unwrap_or_default();
    let mut sysctls: Vec<(String, String)> =
        linux.and_then(|linux| linux.sysctl().clone()).into_iter().flatten().collect();
    sysctls.sort();
    note_ignored(process, linux);
    let seccomp = linux.and_then(|linux| linux.seccomp().as_ref()).map(seccomp::profile).transpose()?;
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    Ok(SandboxConfig {
        profile,
        hostname,
        domainname: spec.domainname().clone(),
        mounts,
        trees: HostTrees::default(),
        masked_paths: paths(linux.and_then(|linux| linux.masked_paths().as_ref())),
        readonly_paths: paths(linux.and_then(|linux| linux.readonly_paths().as_ref())),
        sysctls,
        seccomp,
        devices: linux.map(resources::devices).transpose()?.unwrap_or_default(),
        limits: resources.map_or_else(|| Ok(Limits::default()), |said| resources::limits(said, Limits::default()))?,
        make_cwd: true,
        ..SandboxConfig::new(process_spec(process, terminal).context("`process`")?)
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

/// Logs settings of a bundle that have no meaning in Amber.
fn note_ignored(process: &Process, linux: Option<&Linux>) {
    let labels = [
        ("process.apparmorProfile", process.apparmor_profile().is_some()),
        ("process.selinuxLabel", process.selinux_label().is_some()),
        ("process.ioPriority", process.io_priority().is_some()),
        ("process.scheduler", process.scheduler().is_some()),
        ("linux.mountLabel", linux.is_some_and(|linux| linux.mount_label().is_some())),
        ("linux.intelRdt", linux.is_some_and(|linux| linux.intel_rdt().is_some())),
    ];
    for (name, _) in labels.iter().filter(|(_, present)| *present) {
        ignored(name);
    }
    let memory = linux.and_then(|linux| linux.resources().as_ref()?.memory().as_ref());
    if memory.and_then(|memory| memory.disable_oom_killer()) == Some(true) {
        log::warn!(
            "`linux.resources.memory.disableOOMKiller` is not offered: a process is killed when memory runs out"
        );
    }
}

/// Logs that a setting has no meaning in Amber.
pub(crate) fn ignored(name: &str) {
    log::info!("`{name}` is ignored: it is about the host's kernel, which runs none of the guest");
}

/// Converts a mount. Returns `None` for a kind that is left out.
fn mount(entry: &Mount, directory: &Path) -> Result<Option<MountSpec>> {
    let options = entry.options().clone().unwrap_or_default();
    let (bind, options): (Vec<String>, Vec<String>) =
        options.into_iter().partition(|option| option == "bind" || option == "rbind");
    // The specification allows old bundles to omit the leading slash.
    let target = mounts::normal(&Path::new("/").join(entry.destination()))?;
    let mut spec = MountSpec::new(&target, MountSource::Proc);
    let own = mounts::apply(&options, &mut spec);
    let refuse = |kind: &str| {
        ensure!(own.is_empty(), "options `{own}` are not known for {kind}");
        Ok(())
    };
    let maps = |list: &Option<Vec<_>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let idmapped = ["idmap", "ridmap"].iter().any(|name| own.split(',').any(|option| option == *name));
    ensure!(
        !idmapped && !maps(entry.uid_mappings()) && !maps(entry.gid_mappings()),
        "mounts whose owners are mapped (`idmap`) are not offered"
    );
    let kind = entry.typ().as_deref().unwrap_or("none");
    spec.source = match kind {
        _ if !bind.is_empty() || kind == "bind" => {
            refuse("bind mounts")?;
            let source = entry.source().as_ref().context("`source` is missing")?;
            let source = directory.join(source);
            let named = || format!("`source` {}", source.display());
            let path = source.canonicalize().with_context(named)?;
            mounts::bind(&target, path).with_context(named)?
        }
        // In OCI, a tmpfs on /dev is filled with the standard devices by the runtime.
        "tmpfs" if target == "/dev" => MountSource::Dev,
        "tmpfs" => {
            let (copied, others): (Vec<&str>, Vec<&str>) =
                own.split(',').partition(|option| ["tmpcopyup", "copyup"].contains(option));
            let kind = if copied.is_empty() { MountSource::Tmpfs } else { MountSource::TmpfsCopy };
            kind(others.join(","))
        }
        "devpts" => MountSource::DevPts(own),
        "proc" => refuse(kind).map(|()| MountSource::Proc)?,
        "sysfs" => refuse(kind).map(|()| MountSource::Sys)?,
        "mqueue" => refuse(kind).map(|()| MountSource::Mqueue)?,
        // The guest always sees its control group in version 2, whatever the host has.
        "cgroup" | "cgroup2" => MountSource::Cgroup,
        _ => bail!("type `{kind}` is not offered; there are bind, tmpfs, proc, sysfs, devpts, mqueue and cgroup"),
    };
    Ok(Some(spec))
}

/// Converts a process, the first or an additional one. If it has a terminal, that has the size `terminal` (rows,
/// columns), unless the process gives a size.
///
/// # Errors
/// Names what is missing or invalid.
pub(crate) fn process_spec(process: &Process, terminal: Option<(u16, u16)>) -> Result<ProcessSpec> {
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
    let terminal = match process.terminal() {
        Some(true) => Some(console_size(process).or(terminal).context(
            "`terminal` is true, but standard input and output are not a terminal in whose foreground amber runs; \
             start it from one or set `terminal` to false",
        )?),
        _ => None,
    };
    Ok(ProcessSpec {
        program: None,
        args: args.into_iter().map(Into::into).collect(),
        env: env.into_iter().map(Into::into).collect(),
        cwd: process.cwd().clone(),
        user: UserSpec {
            uid: user.uid(),
            gid: user.gid(),
            additional_gids: user.additional_gids().clone().unwrap_or_default(),
        },
        capabilities: process.capabilities().as_ref().map(capability_sets).unwrap_or_default(),
        rlimits: rlimits(process.rlimits().iter().flatten())?,
        no_new_privs: process.no_new_privileges().unwrap_or(false),
        protected: true,
        oom_score_adj: process.oom_score_adj().unwrap_or(0),
        umask,
        terminal,
    })
}

fn console_size(process: &Process) -> Option<(u16, u16)> {
    let size = process.console_size()?;
    let (rows, columns) = (u16::try_from(size.height()).ok()?, u16::try_from(size.width()).ok()?);
    (rows > 0 && columns > 0).then_some((rows, columns))
}

fn rlimits<'a>(list: impl Iterator<Item = &'a PosixRlimit>) -> Result<Vec<(u32, u64, u64)>> {
    let mut seen = HashSet::new();
    let mut result = Vec::new();
    for limit in list {
        let name = limit.typ().to_string();
        let (soft, hard) = (limit.soft(), limit.hard());
        let mut numbers = 0..Resource::COUNT as u32;
        let number = numbers
            .find(|&number| Resource::from_raw(number).name() == Some(&name))
            .with_context(|| format!("`rlimits`: there is no {name}"))?;
        ensure!(seen.insert(number), "`rlimits` has {name} twice");
        ensure!(soft <= hard, "`rlimits` {name}: the soft limit {soft} is above the hard limit {hard}");
        result.push((number, soft, hard));
    }
    Ok(result)
}

fn capability_sets(sets: &LinuxCapabilities) -> CapabilitySpec {
    let set = |names: &Option<Capabilities>| -> CapabilitySet {
        names.iter().flatten().filter_map(|name| Capability::from_name(&format!("CAP_{name}"))).collect()
    };
    CapabilitySpec {
        bounding: set(sets.bounding()),
        effective: set(sets.effective()),
        inheritable: set(sets.inheritable()),
        permitted: set(sets.permitted()),
        ambient: set(sets.ambient()),
    }
}

/// The root of a bundle, as a normalized path. As with runc, `..` removes the preceding name.
pub(crate) fn root_path(directory: &Path, root: &Root) -> PathBuf {
    let mut path = PathBuf::new();
    for component in directory.join(root.path()).components() {
        match component {
            Component::ParentDir => _ = path.pop(),
            Component::CurDir => {}
            other => path.push(other),
        }
    }
    path
}

/// Refuses a root with symbolic links in its path, as runc does. The sandbox checks again when it opens the root, so
/// that a user who can write to a directory above cannot substitute another part of the host.
fn check_root(path: &Path) -> Result<()> {
    let root = open_without_links(path).map_err(|errno| match errno {
        Errno::ELOOP => anyhow!("invalid rootfs: not an absolute path, or a symlink"),
        errno => anyhow!("{}", errno.text()),
    })?;
    ensure!(is_directory(&root)?, "is not a directory");
    Ok(())
}

/// The absolute path of a directory, without symbolic links.
pub(crate) fn root_directory(path: &Path) -> Result<PathBuf> {
    let path = path.canonicalize()?;
    ensure!(path.is_dir(), "is not a directory");
    Ok(path)
}

/// Refuses host names that Linux would refuse, and unprintable ones.
pub(crate) fn check_hostname(name: &str) -> Result<()> {
    ensure!(name.len() <= 64, "host name `{name}`: at most 64 bytes are allowed");
    ensure!(!name.contains(|c: char| c.is_control()), "host name {name:?}: control characters are not allowed");
    Ok(())
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
