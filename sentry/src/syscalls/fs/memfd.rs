//! memfd_create(2).

use amber_abi::errno::Errno;
use amber_abi::open::{MemfdFlags, OpenFlags, Seals};
use amber_abi::stat::{Device, FileType};

use super::support::{check_open_files, descriptor_limit};
use crate::error::SysResult;
use crate::syscalls::args::Str;
use crate::task::TaskContext;
use crate::vfs::{Dentry, FileDescription, NewInode, Path};

/// Maximum length of a name, without `memfd:` and the zero byte.
const NAME_MOST: usize = 249;

/// memfd_create(2). Huge pages are not supported.
pub(crate) fn memfd_create(ctx: &mut TaskContext, name: Str, flags: MemfdFlags) -> SysResult {
    let flags = MemfdFlags::from_bits(flags.bits()).ok_or_else(|| Errno::EINVAL.here())?;
    if flags.contains(MemfdFlags::MFD_EXEC | MemfdFlags::MFD_NOEXEC_SEAL) {
        return Err(Errno::EINVAL.here().into());
    }
    let name = ctx.read_string(name.0, NAME_MOST + 1).map_err(|errno| match errno {
        Errno::ENAMETOOLONG => Errno::EINVAL.here(),
        errno => errno,
    })?;
    if flags.contains(MemfdFlags::MFD_HUGETLB) {
        return Err(Errno::ENODEV.here().into());
    }
    let reserved = ctx.files().reserve(0, descriptor_limit(ctx))?;
    check_open_files(ctx)?;
    let sealed_exec = flags.contains(MemfdFlags::MFD_NOEXEC_SEAL);
    let credentials = ctx.credentials();
    let new = NewInode {
        kind: FileType::Regular,
        permissions: if sealed_exec { 0o666 } else { 0o777 },
        masked: 0,
        uid: credentials.fsuid,
        gid: credentials.fsgid,
        special: Device::default(),
        target: &[],
    };
    let mount = ctx.kernel().fs.memfds.clone();
    let inode = mount.root.inode()?.create_unnamed(&new, false)?;
    if let Some(inode) = inode.as_any().downcast_ref::<crate::fs::tmpfs::TmpInode>() {
        if sealed_exec {
            inode.allow_sealing(Seals::F_SEAL_EXEC);
        } else if flags.contains(MemfdFlags::MFD_ALLOW_SEALING) {
            inode.allow_sealing(Seals::empty());
        }
    }
    let mut shown = b"memfd:".to_vec();
    shown.extend_from_slice(&name);
    let dentry = Dentry::unnamed(&ctx.kernel().vfs, inode.clone(), &shown);
    let path = Path { mount, dentry };
    let flags_of_file = OpenFlags::O_RDWR | OpenFlags::O_LARGEFILE;
    let description = FileDescription::new(&ctx.kernel().vfs, inode.open(flags_of_file)?, Some(path), flags_of_file);
    Ok(reserved.install(description, flags.contains(MemfdFlags::MFD_CLOEXEC)) as u64)
}
