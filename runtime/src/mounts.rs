//! Mounts as users write them: volumes, options, and the set every guest gets.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::spec::{DevptsOptions, MountFlags, MountKind, MountSpec, TmpfsOptions, TmpfsSize};

/// The mounts every `do` guest has over its root, as Docker gives them.
pub fn standard() -> Vec<MountSpec> {
    let nosuid = MountFlags { nosuid: true, ..MountFlags::default() };
    let quiet = MountFlags { nosuid: true, nodev: true, noexec: true, ..MountFlags::default() };
    let mount = |destination: &str, kind, flags| MountSpec { destination: destination.into(), kind, flags };
    let tmpfs = |mode| TmpfsOptions { mode: Some(mode), ..TmpfsOptions::default() };
    let terminals =
        DevptsOptions { gid: Some(5), mode: Some(0o620), ptmx_mode: Some(0o666), ..DevptsOptions::default() };
    vec![
        mount("/proc", MountKind::Proc, quiet),
        mount("/dev", MountKind::Devices(tmpfs(0o755)), nosuid),
        mount("/dev/pts", MountKind::Devpts(terminals), MountFlags { noexec: true, ..nosuid }),
        mount("/dev/shm", MountKind::Tmpfs(tmpfs(0o1777)), MountFlags { nodev: true, ..nosuid }),
        mount("/dev/mqueue", MountKind::Mqueue, quiet),
        mount("/sys", MountKind::Sysfs, MountFlags { read_only: true, ..quiet }),
    ]
}

/// Reads a `SRC:DST[:OPTIONS]`. A relative source is meant from the caller's working directory.
pub fn volume(text: &OsStr) -> Result<MountSpec> {
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
    let mut flags = MountFlags::default();
    for option in options.unwrap_or_default().split(|&byte| byte == b',').filter(|option| !option.is_empty()) {
        let option = String::from_utf8_lossy(option);
        let known = matches!(&*option, "ro" | "rw" | "nosuid" | "nodev" | "noexec") && set_flag(&mut flags, &option);
        ensure!(known, "--volume {shown}: unknown option `{option}`; there are ro, rw, nosuid, nodev and noexec");
    }
    Ok(MountSpec { destination: normal(destination)?, kind: MountKind::Host(source), flags })
}

/// Brings an absolute guest path into its shortest form without looking at any file.
///
/// # Errors
/// The path is relative or has a `..`, of which nobody can say where it leads before the links on the way are known.
pub fn normal(path: &Path) -> Result<PathBuf> {
    let mut result = PathBuf::from("/");
    ensure!(path.is_absolute(), "{}: must be an absolute path", path.display());
    for component in path.components() {
        match component {
            Component::Normal(name) => result.push(name),
            Component::ParentDir => bail!("{}: must not contain `..`", path.display()),
            _ => {}
        }
    }
    Ok(result)
}

/// Applies an option that all file systems share; false if it is none of these.
pub fn set_flag(flags: &mut MountFlags, option: &str) -> bool {
    match option {
        "ro" | "rro" => flags.read_only = true,
        "rw" | "rrw" => flags.read_only = false,
        "nosuid" | "rnosuid" => flags.nosuid = true,
        "suid" | "rsuid" => flags.nosuid = false,
        "nodev" | "rnodev" => flags.nodev = true,
        "dev" | "rdev" => flags.nodev = false,
        "noexec" | "rnoexec" => flags.noexec = true,
        "exec" | "rexec" => flags.noexec = false,
        "noatime" | "rnoatime" => (flags.noatime, flags.strictatime) = (true, false),
        "atime" | "ratime" => flags.noatime = false,
        "nodiratime" | "rnodiratime" => flags.nodiratime = true,
        "diratime" | "rdiratime" => flags.nodiratime = false,
        "strictatime" | "rstrictatime" => (flags.noatime, flags.strictatime) = (false, true),
        "relatime" | "rrelatime" | "nostrictatime" => (flags.noatime, flags.strictatime) = (false, false),
        // What follows changes nothing in a mount namespace that nobody shares and a kernel that holds no dirty pages
        // of its own.
        "defaults" | "sync" | "async" | "dirsync" | "silent" | "loud" | "lazytime" | "nolazytime" | "private"
        | "rprivate" | "slave" | "rslave" | "shared" | "rshared" | "unbindable" | "runbindable" => {}
        _ => return false,
    }
    true
}

/// Reads the options of a tmpfs; shared options go to `flags`.
pub fn tmpfs_options(options: &[String], flags: &mut MountFlags) -> Result<TmpfsOptions> {
    let mut result = TmpfsOptions::default();
    for option in options {
        if set_flag(flags, option) {
            continue;
        }
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let malformed = || format!("option `{option}` is not understood");
        match name {
            "size" => result.size = Some(tmpfs_size(value).with_context(malformed)?),
            "nr_blocks" => {
                let pages = scaled(value).with_context(malformed)?;
                result.size = Some(TmpfsSize::Bytes(pages.checked_mul(4096).with_context(malformed)?));
            }
            "nr_inodes" => result.inodes = Some(scaled(value).with_context(malformed)?),
            "mode" => result.mode = Some(octal(value).with_context(malformed)?),
            "uid" => result.uid = Some(value.parse().with_context(malformed)?),
            "gid" => result.gid = Some(value.parse().with_context(malformed)?),
            _ => bail!("option `{option}` is not known for tmpfs"),
        }
    }
    Ok(result)
}

/// Reads the options of a devpts; shared options go to `flags`.
pub fn devpts_options(options: &[String], flags: &mut MountFlags) -> Result<DevptsOptions> {
    let mut result = DevptsOptions::default();
    for option in options {
        if set_flag(flags, option) || option == "newinstance" {
            continue;
        }
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let malformed = || format!("option `{option}` is not understood");
        match name {
            "mode" => result.mode = Some(octal(value).with_context(malformed)?),
            "ptmxmode" => result.ptmx_mode = Some(octal(value).with_context(malformed)?),
            "uid" => result.uid = Some(value.parse().with_context(malformed)?),
            "gid" => result.gid = Some(value.parse().with_context(malformed)?),
            _ => bail!("option `{option}` is not known for devpts"),
        }
    }
    Ok(result)
}

/// Reads the options of a file system that has none of its own.
pub fn plain_options(options: &[String], flags: &mut MountFlags, file_system: &str) -> Result<()> {
    for option in options {
        ensure!(set_flag(flags, option), "option `{option}` is not known for {file_system}");
    }
    Ok(())
}

fn octal(text: &str) -> Result<u32> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.context("a mode is an octal number up to 7777")
}

fn tmpfs_size(text: &str) -> Result<TmpfsSize> {
    match text.strip_suffix('%') {
        Some(percent) => Ok(TmpfsSize::Percent(percent.parse()?)),
        None => scaled(text).map(TmpfsSize::Bytes),
    }
}

/// A number with a suffix `k`, `m`, `g`, `t`, `p` or `e` for powers of 1024.
fn scaled(text: &str) -> Result<u64> {
    let suffix = "kmgtpe".find(text.chars().last().unwrap_or('0').to_ascii_lowercase());
    let digits = if suffix.is_some() { &text[..text.len() - 1] } else { text };
    let scale = suffix.map_or(0, |place| 10 * (place as u32 + 1));
    let number: u64 = digits.parse()?;
    number.checked_mul(1 << scale).context("the number is too large")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|&text| text.into()).collect()
    }

    #[test]
    fn volumes_are_read_as_docker_reads_them() {
        let mount = volume(OsStr::new("/usr/:/data/x/:ro,noexec")).unwrap();
        assert_eq!(mount.destination, Path::new("/data/x"));
        assert_eq!(mount.kind, MountKind::Host("/usr".into()));
        assert!(mount.flags.read_only && mount.flags.noexec && !mount.flags.nosuid);
        assert!(!volume(OsStr::new(".:/data")).unwrap().flags.read_only);
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
    fn tmpfs_options_have_their_units() {
        let mut flags = MountFlags::default();
        let list = strings(&["nosuid", "strictatime", "mode=1777", "size=64k", "nr_inodes=2m", "uid=3", "gid=4"]);
        let options = tmpfs_options(&list, &mut flags).unwrap();
        assert!(flags.nosuid && flags.strictatime);
        assert_eq!(options.size, Some(TmpfsSize::Bytes(65536)));
        assert_eq!(options.inodes, Some(2 << 20));
        assert_eq!((options.mode, options.uid, options.gid), (Some(0o1777), Some(3), Some(4)));
        assert_eq!(tmpfs_size("50%").unwrap(), TmpfsSize::Percent(50));
        for bad in ["size=", "size=k", "size=-1", "size=16e9", "size=17e", "mode=9", "mode=17777", "tmpcopyup", "uid=x"]
        {
            assert!(tmpfs_options(&strings(&[bad]), &mut flags).is_err(), "{bad}");
        }
    }
}
