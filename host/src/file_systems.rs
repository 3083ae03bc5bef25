//! Which file systems of the host a guest may be served from.
//!
//! What Amber opens, it opens as itself. On an ordinary file system that makes no difference: the bytes are the same for
//! every reader. In others a file depends on its opener (`/proc/self/mem` is the memory of the opener), changes the
//! kernel it belongs to, or is answered by some other process. So ordinary file systems are listed, not the others: what
//! a later kernel adds is refused until somebody has looked at it.

use std::os::fd::BorrowedFd;

use crate::fs::{Result, statfs};

/// What kind of file system a file is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It stores files, which are the same for every reader.
    Ordinary,
    /// Its content is made up by the host's kernel, and depends on who asks.
    Kernel,
    /// Another process answers for it, or nothing is known of it: served where the operator named it, not where it
    /// happens to lie beneath something that the operator named.
    Foreign,
}

/// The number of the root directory of every procfs.
const PROC_ROOT: u64 = 1;

/// Those that store files: on disks, in memory, elsewhere, or in another of these. The names are those of types, as
/// /proc/filesystems and mountinfo have them.
const ORDINARY: &[(u32, &str)] = &[
    (0xef53, "ext2, ext3, ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x2fc1_2fc1, "zfs"),
    (0xca45_1a4e, "bcachefs"),
    (0xf2f5_2010, "f2fs"),
    (0x3153_464a, "jfs"),
    (0x5265_4973, "reiserfs"),
    (0x3434, "nilfs2"),
    (0x5a4f_4653, "zonefs"),
    (0x2405_1905, "ubifs"),
    (0x72b6, "jffs2"),
    (0x4d44, "vfat, msdos"),
    (0x2011_bab0, "exfat"),
    (0x7366_746e, "ntfs3"),
    (0x5346_544e, "ntfs"),
    (0x4244, "hfs"),
    (0x482b, "hfsplus"),
    (0x9660, "iso9660"),
    (0x1501_3346, "udf"),
    (0xe0f5_e1e2, "erofs"),
    (0x7371_7368, "squashfs"),
    (0x28cd_3d45, "cramfs"),
    (0x7275, "romfs"),
    // In memory. devtmpfs says the same of itself: of its nodes none is opened as a device of the host.
    (0x0102_1994, "tmpfs, devtmpfs, rootfs"),
    (0x8584_58f6, "ramfs"),
    (0x794c_7630, "overlay"),
    (0x6175_6673, "aufs"),
    (0xf15f, "ecryptfs"),
    (0x6a65_6a62, "shiftfs"),
    // Elsewhere; the mount decides as whom they are read.
    (0x6969, "nfs, nfs4"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb3"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "ceph"),
    (0x0bd0_0bd0, "lustre"),
    (0x4750_4653, "gpfs"),
    (0x1983_0326, "beegfs"),
    (0x2003_0528, "pvfs2"),
    (0x0116_1970, "gfs2, gfs2meta"),
    (0x7461_636f, "ocfs2"),
    (0x5346_414f, "afs"),
    (0x786f_4256, "vboxsf"),
];

/// Those that the kernel makes up, with what a file there would be.
const KERNEL: &[(u32, &str)] = &[
    // `self` is the opener, and so is whose memory, descriptors and root others are.
    (0x9fa0, "proc"),
    // Devices, modules, firmware; attributes that change the kernel.
    (0x6265_6572, "sysfs"),
    // Where a process belongs, and the limits of others.
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0x0765_5821, "resctrl"),
    // The kernel's insides.
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x6165_676c, "pstore"),
    (0x6f70_726f, "oprofilefs"),
    (0xcafe_4a11, "bpf"),
    // Its rules of security.
    (0x7363_6673, "securityfs"),
    (0xf97c_ff8c, "selinuxfs"),
    (0x4341_5d53, "smackfs"),
    (0x5a3c_69f0, "apparmorfs"),
    // Its configuration, and that of firmware.
    (0x6265_6570, "configfs"),
    (0xde5e_81e4, "efivarfs"),
    (0x4249_4e4d, "binfmt_misc"),
    (0x6573_5543, "fusectl"),
    (0x6e66_7364, "nfsd"),
    (0x6759_6969, "rpc_pipefs"),
    (0xabba_1974, "xenfs"),
    (0x0000_9fa2, "usbfs"),
    // Terminals, queues, namespaces and processes of the opener.
    (0x1cd1, "devpts"),
    (0x1980_0202, "mqueue"),
    (0x6c6f_6f70, "binder"),
    (0x6e73_6673, "nsfs"),
    (0x5049_4446, "pidfs"),
    (0x0904_1934, "anon_inodefs"),
];

/// The name of the file system with this number, as statfs(2) tells it, if the kernel makes it up.
pub fn kernel_name(magic: i64) -> Option<&'static str> {
    name_in(KERNEL, magic)
}

fn name_in(list: &[(u32, &'static str)], magic: i64) -> Option<&'static str> {
    // Some kernels extend the sign of these 32 bits.
    list.iter().find(|(number, _)| *number == magic as u32).map(|(_, name)| *name)
}

/// Whether a file system of this type, as mountinfo has it, stores files.
pub fn stores_files(kind: &str) -> bool {
    ORDINARY.iter().any(|(_, names)| names.split(", ").any(|name| name == kind))
}

/// Whether the file system with this number is sysfs, or the control groups that are mounted in it: its files answer
/// everybody alike, and their modes say who may read.
pub fn is_system(magic: i64) -> bool {
    matches!(kernel_name(magic), Some("sysfs" | "cgroup" | "cgroup2"))
}

/// Whether the file of this number is on such a file system and tells of the machine: all of sysfs and of control groups,
/// and of procfs the root, of which a part is shown.
pub fn tells_of_machine(magic: i64, number: u64) -> bool {
    is_system(magic) || kernel_name(magic) == Some("proc") && number == PROC_ROOT
}

/// What is to be thought of the file system with this number.
pub fn standing_of(magic: i64) -> Standing {
    if name_in(ORDINARY, magic).is_some() {
        Standing::Ordinary
    } else if kernel_name(magic).is_some() {
        Standing::Kernel
    } else {
        Standing::Foreign
    }
}

/// What kind of file system an open file is on; `O_PATH` is enough.
///
/// # Errors
/// The host's.
pub fn standing(file: BorrowedFd<'_>) -> Result<Standing> {
    Ok(standing_of(statfs(file)?.f_type))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn each_is_listed_once() {
        let mut numbers: Vec<u32> = ORDINARY.iter().chain(KERNEL).map(|(number, _)| *number).collect();
        let all = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), all);
    }

    #[test]
    fn the_host_has_both() {
        let of = |path: &str| standing(File::open(path).unwrap().as_fd()).unwrap();
        assert_eq!([of("/proc"), of("/proc/self/ns/mnt"), of("/sys")], [Standing::Kernel; 3]);
        assert_eq!((of("/"), of("/dev")), (Standing::Ordinary, Standing::Ordinary));
        assert_eq!(standing_of(0x6573_5546), Standing::Foreign);
        assert!(
            stores_files("ext3") && stores_files("overlay") && !stores_files("proc") && !stores_files("fuse.sshfs")
        );
        assert_eq!(kernel_name(i64::from(0xf97c_ff8c_u32 as i32)), Some("selinuxfs"));
    }
}
