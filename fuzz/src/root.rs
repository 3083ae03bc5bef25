//! The tree that guests have as their root.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process;

use amber_platform_fake::smallest_program;

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
        ("bin/init", smallest_program()),
        ("bin/script", b"#!/bin/init argument\n".to_vec()),
        ("etc/passwd", b"root:x:0:0::/root:/bin/sh\n".to_vec()),
        ("dir/file", vec![b'x'; 10_000]),
    ] {
        fs::write(root.join(name), content)?;
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o755))?;
    }
    std::os::unix::fs::symlink("dir/file", root.join("link"))
}
