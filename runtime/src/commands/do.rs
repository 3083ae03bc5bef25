//! `amber do`: makes a sandbox from flags and the caller's environment.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use amber_abi::capability::CapabilitySet;
use amber_host::terminal;
use amber_sentry::config::{CapabilitySpec, MountSource, MountSpec, ProcessSpec, SandboxConfig, UserSpec};
use amber_sentry::profile::KernelProfile;
use anyhow::{Context, Result, ensure};
use nix::unistd::{getegid, geteuid, getgroups};

use crate::accounts;
use crate::bundle::{check_hostname, root_directory};
use crate::caller::Caller;
use crate::cli::DoArgs;
use crate::mounts;

/// Converts the flags of `do` to a sandbox's configuration.
pub(crate) fn sandbox(args: DoArgs, profile: KernelProfile, caller: &Caller) -> Result<SandboxConfig> {
    check_hostname(&args.hostname)?;
    let root = match &args.rootfs {
        Some(path) => root_directory(path).with_context(|| format!("--rootfs {}", path.display()))?,
        None => PathBuf::from("/"),
    };
    let source = if args.rw { MountSource::Host(root.clone()) } else { MountSource::Overlay(root.clone()) };
    let mut mounts = vec![MountSpec::new("/", source)];
    mounts.extend(mounts::standard());
    for text in &args.volume {
        mounts.push(mounts::volume(text)?);
    }

    let mut env: Vec<OsString> = env::vars_os().map(|(name, value)| assignment(&name, &value)).collect();
    let user = match &args.user {
        Some(text) => {
            let account = accounts::resolve(&root, text)?;
            if let Some(home) = account.home {
                set(&mut env, assignment(OsStr::new("HOME"), OsStr::new(&home)));
            }
            account.user
        }
        None => caller_user()?,
    };
    for entry in args.env {
        apply(&mut env, entry)?;
    }

    let cwd = match (args.cwd, &args.rootfs) {
        (Some(path), _) => {
            ensure!(path.is_absolute(), "--cwd {}: must be an absolute path in the guest", path.display());
            path
        }
        (None, Some(_)) => PathBuf::from("/"),
        (None, None) => env::current_dir().context("the working directory is gone or unreadable; use --cwd")?,
    };
    let process = ProcessSpec {
        program: None,
        args: args.command,
        env,
        cwd,
        capabilities: capabilities_of(user.uid),
        user,
        umask: caller.umask,
        rlimits: caller.rlimits.clone(),
        no_new_privs: false,
        protected: false,
        oom_score_adj: 0,
        terminal: caller.terminal,
    };
    Ok(SandboxConfig {
        profile,
        hostname: args.hostname,
        mounts,
        controlling_terminal: if caller.terminal.is_none() { terminal::controlling() } else { None },
        ..SandboxConfig::new(process)
    })
}

/// The capabilities of a user with none dropped: all for root, none for others.
pub(crate) fn capabilities_of(uid: u32) -> CapabilitySpec {
    let held = if uid == 0 { CapabilitySet::ALL } else { CapabilitySet::EMPTY };
    CapabilitySpec { bounding: CapabilitySet::ALL, effective: held, permitted: held, ..CapabilitySpec::default() }
}

fn caller_user() -> Result<UserSpec> {
    let groups = getgroups().context("reading the caller's groups")?;
    Ok(UserSpec {
        uid: geteuid().as_raw(),
        gid: getegid().as_raw(),
        additional_gids: groups.into_iter().map(|gid| gid.as_raw()).collect(),
    })
}

fn assignment(name: &OsStr, value: &OsStr) -> OsString {
    let mut entry = name.to_os_string();
    entry.push("=");
    entry.push(value);
    entry
}

fn name_of(entry: &OsStr) -> &[u8] {
    let bytes = entry.as_bytes();
    bytes.split(|&byte| byte == b'=').next().unwrap_or(bytes)
}

/// Adds a variable, replacing any of the same name.
fn set(env: &mut Vec<OsString>, entry: OsString) {
    env.retain(|other| name_of(other) != name_of(&entry));
    env.push(entry);
}

/// Applies one `--env`. A name without a value takes the caller's value; if the caller has none, the variable is
/// removed.
fn apply(env: &mut Vec<OsString>, entry: OsString) -> Result<()> {
    let name = OsStr::from_bytes(name_of(&entry)).to_os_string();
    ensure!(!name.is_empty(), "--env {}: the name is missing", entry.display());
    if name.len() < entry.len() {
        set(env, entry);
    } else if let Some(value) = env::var_os(&name) {
        set(env, assignment(&name, &value));
    } else {
        env.retain(|other| name_of(other) != name.as_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn caller() -> Caller {
        Caller { rlimits: Vec::new(), umask: 0o27, terminal: None }
    }

    fn args() -> DoArgs {
        DoArgs { command: vec!["true".into()], hostname: "amber".into(), ..DoArgs::default() }
    }

    #[test]
    fn the_host_root_is_below_a_layer_in_memory() {
        let spec = sandbox(args(), KernelProfile::default(), &caller()).unwrap();
        assert_eq!(spec.mounts[0].source, MountSource::Overlay("/".into()));
        assert_eq!(spec.process.cwd, env::current_dir().unwrap());
        assert_eq!(spec.process.umask, 0o27);
        assert_eq!(spec.process.user.uid, geteuid().as_raw());
        assert!(spec.mounts.iter().any(|mount| mount.target == "/dev/shm"));
    }

    #[test]
    fn a_tree_is_written_only_with_rw() {
        let tree = tempfile::tempdir().unwrap();
        let path = tree.path().canonicalize().unwrap();
        let given = DoArgs { rootfs: Some(tree.path().into()), ..args() };
        let spec = sandbox(given.clone(), KernelProfile::default(), &caller()).unwrap();
        assert_eq!(spec.mounts[0].source, MountSource::Overlay(path.clone()));
        assert_eq!(spec.process.cwd, Path::new("/"));
        let spec = sandbox(DoArgs { rw: true, ..given }, KernelProfile::default(), &caller()).unwrap();
        assert_eq!(spec.mounts[0].source, MountSource::Host(path));
    }

    #[test]
    fn environment_flags_replace_and_remove() {
        let mut env = vec!["A=1".into(), "AMBER_TEST_UNSET=x".into(), "B=2".into()];
        for entry in ["A=3=4", "C=", "AMBER_TEST_UNSET"] {
            apply(&mut env, entry.into()).unwrap();
        }
        assert_eq!(env, ["B=2", "A=3=4", "C="]);
        assert!(apply(&mut env, "=x".into()).is_err());
    }

    #[test]
    fn errors_name_the_flag() {
        for (bad, name) in [
            (DoArgs { rootfs: Some("/no/such/tree".into()), ..args() }, "--rootfs /no/such/tree"),
            (DoArgs { rootfs: Some("/etc/passwd".into()), ..args() }, "--rootfs /etc/passwd: is not a directory"),
            (DoArgs { cwd: Some("tmp".into()), ..args() }, "--cwd tmp"),
            (DoArgs { hostname: "x".repeat(65), ..args() }, "host name"),
            (DoArgs { user: Some("no-such-user".into()), ..args() }, "--user no-such-user"),
        ] {
            let error = format!("{:#}", sandbox(bad, KernelProfile::default(), &caller()).err().unwrap());
            assert!(error.contains(name), "{error}");
        }
    }
}
