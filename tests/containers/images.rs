//! The images containers are made of. No registry is needed: a tree of files is imported.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::space::Space;

/// Debian with the servers and interpreters of `rootfs/build services`.
pub(crate) const SERVICES: &str = "services";

/// Gives the engine the image, unless it has it from the last run.
pub(crate) fn import(space: &Space) -> Result<()> {
    let key = fs::read_to_string(space.tree.join(".amber-rootfs")).context("the Debian tree is not finished")?;
    let kept = format!("{SERVICES}:{}", key.trim());
    if space.docker(&["image", "inspect", "--format", "{{.Id}}", &kept]).is_err() {
        let mut command = space.command("bash");
        command.args(["-c", r#"set -o pipefail; tar --create --directory "$TREE" . | docker import - "$0""#, &kept]);
        let output = command.output().context("cannot run tar")?;
        if !output.status.success() {
            bail!("cannot import the Debian tree: {}", String::from_utf8_lossy(&output.stderr).trim_end());
        }
    }
    space.docker(&["tag", &kept, SERVICES])?;
    Ok(())
}
