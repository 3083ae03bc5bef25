//! The tree that guests have as their root.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process;

use amber_abi::elf::{ELFCLASS64, ELFMAG, EM_X86_64, ET_EXEC, Ehdr, PF_R, PF_X, PT_LOAD, Phdr};
use zerocopy::{FromZeros, IntoBytes};

/// Where the first program is in memory.
const BASE: u64 = 0x40_0000;

/// The directory, which is made if it is not there.
///
/// # Panics
/// It cannot be made.
pub fn directory() -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let root = target.join("root");
    if !root.exists() {
        // Several targets may start at once: each makes a tree of its own, and the first one stays.
        let own = target.join(format!("root.{}", process::id()));
        make(&own).expect("the guests' root can be made");
        if fs::rename(&own, &root).is_err() {
            let _ = fs::remove_dir_all(&own);
        }
    }
    root
}

fn make(root: &Path) -> std::io::Result<()> {
    for directory in ["bin", "tmp", "etc", "dir/sub"] {
        fs::create_dir_all(root.join(directory))?;
    }
    for (name, content) in [
        ("bin/init", program()),
        ("bin/script", b"#!/bin/init argument\n".to_vec()),
        ("etc/passwd", b"root:x:0:0::/root:/bin/sh\n".to_vec()),
        ("dir/file", vec![b'x'; 10_000]),
    ] {
        fs::write(root.join(name), content)?;
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o755))?;
    }
    std::os::unix::fs::symlink("dir/file", root.join("link"))
}

/// The smallest program: headers, which are mapped.
fn program() -> Vec<u8> {
    let size = (size_of::<Ehdr>() + size_of::<Phdr>()) as u64;
    let mut header = Ehdr::new_zeroed();
    header.e_ident[..4].copy_from_slice(&ELFMAG);
    header.e_ident[4] = ELFCLASS64;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_entry = BASE + size;
    header.e_phoff = size_of::<Ehdr>() as u64;
    header.e_phentsize = size_of::<Phdr>() as u16;
    header.e_phnum = 1;
    let mut segment = Phdr::new_zeroed();
    segment.p_type = PT_LOAD;
    segment.p_flags = PF_R | PF_X;
    segment.p_vaddr = BASE;
    (segment.p_filesz, segment.p_memsz) = (size, 4096);
    [header.as_bytes(), segment.as_bytes()].concat()
}
