//! Puts a sandbox's tree of mounts together.

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::stat::{Device, FileType};
use amber_host::trees::HostTrees;
use amber_host::users::UNMAPPED;

use crate::config::{BootError, DeviceSpec, MountSource, MountSpec};
use crate::credentials::Credentials;
use crate::fs::copy;
use crate::fs::hostfs;
use crate::fs::overlay::OverlayFs;
use crate::fs::tmpfs::{TmpFs, TmpfsOptions};
use crate::kernel::Kernel;
use crate::vfs::namei::{self, Creation};
use crate::vfs::walk::Scope;
use crate::vfs::{FileSystem, Inode, Mount, MountNamespace, MountOptions, Path, SetAttributes, SuperBlock};

/// Mounts everything, the first as the root, which can be written until [`finish_root`].
///
/// # Errors
/// Names the mount that could not be made, and why.
pub(super) fn mount_all(
    kernel: &Arc<Kernel>,
    specs: &[MountSpec],
    trees: &HostTrees,
) -> Result<Arc<MountNamespace>, BootError> {
    let Some((root, rest)) = specs.split_first() else {
        return Err(BootError::Config("no root file system is given".to_owned()));
    };
    // Places of mounts that are missing are made in a root that becomes read-only afterwards.
    let writable = MountSpec { read_only: false, ..root.clone() };
    let namespace = MountNamespace::new(
        kernel.mm.frames.clone(),
        make(kernel, &writable, trees).map_err(|errno| failure(root, errno))?,
    );
    for spec in rest {
        mount(kernel, &namespace, spec, trees).map_err(|errno| failure(spec, errno))?;
    }
    Ok(namespace)
}

/// Makes the root read-only if it shall be.
///
/// # Errors
/// It cannot be.
pub(super) fn finish_root(namespace: &Arc<MountNamespace>, specs: &[MountSpec]) -> Result<(), BootError> {
    let root = namespace.root();
    match specs.first().filter(|spec| spec.read_only) {
        Some(spec) => {
            keep_as_given(&root.super_block, spec);
            root.set_options(root.options() | MountOptions::READ_ONLY).map_err(|errno| failure(spec, errno))
        }
        None => Ok(()),
    }
}

/// A tree of the host that is given to be read is no guest's to remount.
fn keep_as_given(super_block: &SuperBlock, spec: &MountSpec) {
    if spec.read_only && matches!(spec.source, MountSource::Host(_)) {
        super_block.keep_read_only();
    }
}

/// Makes device nodes, in the place of whatever else has their names.
///
/// # Errors
/// Names the node that could not be made, and why.
pub(super) fn make_devices(
    kernel: &Arc<Kernel>,
    namespace: &Arc<MountNamespace>,
    devices: &[DeviceSpec],
) -> Result<(), BootError> {
    for device in devices {
        make_device(kernel, namespace, device)
            .map_err(|errno| BootError::Config(format!("device {}: {}", device.path, errno.text())))?;
    }
    Ok(())
}

fn make_device(kernel: &Arc<Kernel>, namespace: &Arc<MountNamespace>, device: &DeviceSpec) -> Result<(), Errno> {
    let credentials = Credentials::root();
    let scope = Scope::kernel(&credentials, namespace.root().root_path().topmost());
    let special = Device::new(device.major, device.minor);
    let kind = FileType::CharacterDevice;
    let path = device.path.as_bytes();
    let is_it = |place: &Path| -> Result<bool, Errno> {
        let metadata = place.inode()?.metadata()?;
        Ok(metadata.kind == kind && metadata.special == special)
    };
    let place = match scope.resolve(path, false) {
        Ok(place) if is_it(&place)? => place,
        found => {
            if found.is_ok() {
                namei::unlink(&credentials, &scope.parent(path)?)?;
            }
            // Also makes the directories above it, with a file that gives way to the node.
            prepare(namespace, path, FileType::Regular)?;
            let target = scope.parent(path)?;
            namei::unlink(&credentials, &target)?;
            let new = Creation { special, ..Creation::plain(kind, 0o600, 0) };
            match namei::create(&credentials, &target, &new) {
                // In a tree of the host nodes are not made. So one of the sandbox's own is mounted over a file.
                Err(Errno::EPERM) => {
                    let over = prepare(namespace, path, FileType::Regular)?;
                    let fs = TmpFs::new(&kernel.vfs, kernel.mm.frames.clone(), TmpfsOptions::mask());
                    let inode = fs.root().create(b"device", &new.inode_in(&credentials, &*fs.root())?)?;
                    let super_block = SuperBlock::new(&kernel.vfs, fs, false);
                    let root = super_block.root.graft(b"device", inode);
                    let options = MountOptions::NO_SUID | MountOptions::NO_EXEC;
                    let mount = Mount::new(super_block, root, "tmpfs", options);
                    namespace.change(|| mount.attach(&over));
                    scope.resolve(path, false)?
                }
                made => made?,
            }
        }
    };
    place.inode()?.set_attributes(&SetAttributes {
        permissions: Some(device.permissions),
        uid: Some(device.uid),
        gid: Some(device.gid),
        ..SetAttributes::default()
    })
}

/// Makes a directory, and those above it, unless it is there: root's, with mode 0755. Symbolic links lead to places in the
/// sandbox's root only.
///
/// # Errors
/// Names it and says why it could not be made.
pub(super) fn make_directory(namespace: &Arc<MountNamespace>, path: &std::path::Path) -> Result<(), BootError> {
    prepare(namespace, path.as_os_str().as_bytes(), FileType::Directory)
        .map(drop)
        .map_err(|errno| BootError::Config(format!("working directory {}: {}", path.display(), errno.text())))
}

/// Hides `masked` paths and makes `read_only` ones read-only; paths that are not there are passed over.
///
/// # Errors
/// Names the path and why it could not be done.
pub(super) fn restrict(
    kernel: &Arc<Kernel>,
    namespace: &Arc<MountNamespace>,
    masked: &[String],
    read_only: &[String],
) -> Result<(), BootError> {
    let credentials = Credentials::root();
    let scope = Scope::kernel(&credentials, namespace.root().root_path().topmost());
    let each = |target: &String, work: &dyn Fn(&Path) -> Result<(), Errno>| {
        let done = match scope.resolve(target.as_bytes(), true) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
            place => place.and_then(|place| work(&place)),
        };
        done.map_err(|errno| BootError::Mount { target: target.clone(), reason: errno.text().to_owned() })
    };
    let options = MountOptions::READ_ONLY | MountOptions::NO_SUID | MountOptions::NO_DEV | MountOptions::NO_EXEC;
    for target in masked {
        each(target, &|place| {
            let fs = TmpFs::new(&kernel.vfs, kernel.mm.frames.clone(), TmpfsOptions::mask());
            let super_block = SuperBlock::new(&kernel.vfs, fs.clone(), true);
            let root = if place.dentry.is_directory() {
                super_block.root.clone()
            } else {
                let new = Creation::plain(FileType::Regular, 0, 0).inode_in(&credentials, &*fs.root())?;
                super_block.root.graft(b"masked", fs.root().create(b"masked", &new)?)
            };
            let mount = Mount::new(super_block, root, "tmpfs", options);
            namespace.change(|| mount.attach(place));
            Ok(())
        })?;
    }
    for target in read_only {
        each(target, &|place| {
            let mount = place.mount.copy(place.dentry.clone());
            mount.set_options(mount.options() | MountOptions::READ_ONLY)?;
            namespace.change(|| mount.attach(place));
            Ok(())
        })?;
    }
    Ok(())
}

fn failure(spec: &MountSpec, errno: Errno) -> BootError {
    let what = match &spec.source {
        MountSource::Host(path) | MountSource::Overlay(path) => format!("host path {}: ", path.display()),
        MountSource::Tmpfs(options) | MountSource::TmpfsCopy(options) | MountSource::DevPts(options)
            if errno == Errno::EINVAL =>
        {
            format!("options `{options}`: ")
        }
        _ => String::new(),
    };
    BootError::Mount { target: spec.target.clone(), reason: format!("{what}{}", errno.text()) }
}

fn mount(
    kernel: &Arc<Kernel>,
    namespace: &Arc<MountNamespace>,
    spec: &MountSpec,
    trees: &HostTrees,
) -> Result<(), Errno> {
    if matches!(spec.source, MountSource::Mqueue) && kernel.fs.registry.file_system(b"mqueue").is_err() {
        log::info!("mounting {}: there are no message queues", spec.target);
        return Ok(());
    }
    let mount = make(kernel, spec, trees)?;
    let root = mount.root.inode()?;
    let beneath = directory_at(namespace, spec.target.as_bytes());
    let place = prepare(namespace, spec.target.as_bytes(), root.kind())?;
    if let Some(beneath) = &beneath {
        cover(beneath, root, &spec.source)?;
    }
    namespace.change(|| mount.attach(&place));
    Ok(())
}

/// The directory at a path, if there is one.
fn directory_at(namespace: &Arc<MountNamespace>, target: &[u8]) -> Option<Arc<dyn Inode>> {
    let credentials = Credentials::root();
    let scope = Scope::kernel(&credentials, namespace.root().root_path().topmost());
    let place = scope.resolve(target, true).ok()?;
    place.inode().ok().filter(|inode| inode.kind() == FileType::Directory).cloned()
}

/// Gives the root of a tmpfs what it takes over from the directory that it covers: its mode where none is said, as
/// container runtimes have it; and for a copy everything.
fn cover(beneath: &Arc<dyn Inode>, root: &Arc<dyn Inode>, source: &MountSource) -> Result<(), Errno> {
    let m = beneath.metadata()?;
    let unsaid = |name: &str, options: &str| !options.split(',').any(|option| option.starts_with(name));
    let mode = |options: &str| unsaid("mode=", options).then_some(m.permissions);
    match source {
        MountSource::Tmpfs(options) => {
            root.set_attributes(&SetAttributes { permissions: mode(options), ..SetAttributes::default() })
        }
        MountSource::TmpfsCopy(options) => {
            root.set_attributes(&SetAttributes {
                permissions: mode(options),
                uid: (m.uid != UNMAPPED && unsaid("uid=", options)).then_some(m.uid),
                gid: (m.gid != UNMAPPED && unsaid("gid=", options)).then_some(m.gid),
                ..SetAttributes::default()
            })?;
            copy::attributes(beneath, root)?;
            copy::tree(beneath, root)
        }
        _ => Ok(()),
    }
}

/// Makes the mount of a specification.
fn make(kernel: &Arc<Kernel>, spec: &MountSpec, trees: &HostTrees) -> Result<Arc<Mount>, Errno> {
    let by_type = |name: &str, options: &str| (kernel.fs.registry.file_system(name.as_bytes())?.make)(kernel, options);
    let (fs, source): (Arc<dyn FileSystem>, &str) = match &spec.source {
        MountSource::Host(path) => (hostfs::open(&kernel.vfs, &kernel.mm.frames, trees.start(path)?, true)?, "host"),
        MountSource::Overlay(path) => {
            let upper = TmpFs::new(
                &kernel.vfs,
                kernel.mm.frames.clone(),
                TmpfsOptions::default().with_defaults(kernel.mm.frames.limit()),
            );
            (
                OverlayFs::new(
                    &kernel.vfs,
                    hostfs::open(&kernel.vfs, &kernel.mm.frames, trees.start(path)?, false)?,
                    upper,
                )?,
                "overlay",
            )
        }
        MountSource::Tmpfs(options) | MountSource::TmpfsCopy(options) => (by_type("tmpfs", options)?, "tmpfs"),
        MountSource::Proc => (by_type("proc", "")?, "proc"),
        MountSource::Sys => (by_type("sysfs", "")?, "sysfs"),
        MountSource::Dev => (by_type("devtmpfs", "mode=755")?, "tmpfs"),
        MountSource::DevPts(options) => (by_type("devpts", options)?, "devpts"),
        MountSource::Mqueue => (by_type("mqueue", "")?, "mqueue"),
        MountSource::Cgroup => (by_type("cgroup2", "")?, "cgroup"),
    };
    let mut options = MountOptions::RELATIVE_ATIME;
    options.set(MountOptions::READ_ONLY, spec.read_only);
    options.set(MountOptions::NO_SUID, spec.no_suid);
    options.set(MountOptions::NO_DEV, spec.no_dev);
    options.set(MountOptions::NO_EXEC, spec.no_exec);
    let super_block = SuperBlock::new(&kernel.vfs, fs, false);
    keep_as_given(&super_block, spec);
    let root = super_block.root.clone();
    Ok(Mount::new(super_block, root, source, options))
}

/// The place of a mount; directories (and the file under a mounted file) that are missing are made.
fn prepare(namespace: &Arc<MountNamespace>, target: &[u8], kind: FileType) -> Result<Path, Errno> {
    let credentials = Credentials::root();
    let root = namespace.root().root_path().topmost();
    let scope = Scope::kernel(&credentials, root);
    let mut end = 0;
    loop {
        let rest = target.get(end..).unwrap_or_default();
        let slashes = rest.iter().take_while(|&&b| b == b'/').count();
        let name = rest.iter().skip(slashes).take_while(|&&b| b != b'/').count();
        if name == 0 {
            return scope.resolve(if target.is_empty() { b"/" } else { target }, true);
        }
        end += slashes + name;
        let (prefix, rest) = target.split_at(end);
        let is_last = rest.iter().all(|&b| b == b'/');
        match scope.resolve(prefix, true) {
            Ok(_) => {}
            Err(Errno::ENOENT) => {
                let is_file = is_last && kind != FileType::Directory;
                let kind = if is_file { FileType::Regular } else { FileType::Directory };
                namei::create(&credentials, &scope.parent(prefix)?, &Creation::plain(kind, 0o755, 0))?;
            }
            Err(errno) => return Err(errno),
        }
    }
}
