//! The mount options of tmpfs(5).

use std::fmt;

use amber_abi::errno::Errno;
use amber_platform::PAGE_SIZE;

/// Limits of a tmpfs and attributes of its root directory; none for Linux' default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TmpfsOptions {
    /// The maximum number of pages.
    pub pages: Option<u64>,
    /// The maximum number of inodes.
    pub inodes: Option<u64>,
    /// Permissions of the root directory.
    pub mode: Option<u16>,
    /// The root directory's user ID.
    pub uid: Option<u32>,
    /// The root directory's group ID.
    pub gid: Option<u32>,
    /// The default number of pages and inodes, which the options do not show.
    defaults: Option<u64>,
}

impl TmpfsOptions {
    /// An empty file system that no user may access, to mask a path.
    pub(crate) fn mask() -> Self {
        TmpfsOptions { mode: Some(0), pages: Some(0), ..TmpfsOptions::default() }
    }

    /// Parses mount(8) options. Sizes may be relative to `memory`, the bytes of memory of the machine.
    ///
    /// # Errors
    /// `EINVAL` for an unknown option or a malformed value.
    pub(crate) fn parse(text: &str, memory: u64) -> Result<Self, Errno> {
        let mut options = TmpfsOptions::default();
        for option in text.split(',').filter(|o| !o.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match name {
                "size" => {
                    let bytes = match value.strip_suffix('%') {
                        Some(percent) => {
                            let percent: u64 = percent.parse().map_err(|_| Errno::EINVAL.here())?;
                            memory.checked_mul(percent).ok_or_else(|| Errno::EINVAL.here())? / 100
                        }
                        None => scaled(value)?,
                    };
                    options.pages = limit(bytes.div_ceil(PAGE_SIZE));
                }
                "nr_blocks" => options.pages = limit(scaled(value)?),
                "nr_inodes" => options.inodes = limit(scaled(value)?),
                "mode" => {
                    let mode = u16::from_str_radix(value, 8).map_err(|_| Errno::EINVAL.here())?;
                    options.mode = Some(mode & 0o7777);
                }
                "uid" => options.uid = Some(value.parse().map_err(|_| Errno::EINVAL.here())?),
                "gid" => options.gid = Some(value.parse().map_err(|_| Errno::EINVAL.here())?),
                // Accepted without effect: there is one memory node, and there are no huge pages and no swap.
                "mpol" | "huge" | "inode32" | "inode64" | "noswap" => {}
                _ => return Err(Errno::EINVAL.here()),
            }
        }
        Ok(options)
    }

    /// Sets Linux' defaults for missing options: half of the memory, and as many inodes as pages.
    pub(crate) fn with_defaults(mut self, memory: u64) -> Self {
        self.defaults = Some(memory / PAGE_SIZE / 2);
        self.pages = self.pages.or(self.defaults);
        self.inodes = self.inodes.or(self.defaults);
        self
    }
}

/// A limit, where zero means none.
fn limit(value: u64) -> Option<u64> {
    Some(if value == 0 { u64::MAX } else { value })
}

fn scaled(text: &str) -> Result<u64, Errno> {
    let (digits, unit) = text.split_at(text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len());
    let shift = match unit {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        "t" | "T" => 40,
        _ => return Err(Errno::EINVAL.here()),
    };
    let value: u64 = digits.parse().map_err(|_| Errno::EINVAL.here())?;
    value.checked_mul(1 << shift).ok_or_else(|| Errno::EINVAL.here())
}

impl fmt::Display for TmpfsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(pages) = self.pages.filter(|&p| p != u64::MAX && self.pages != self.defaults) {
            write!(f, ",size={}k", pages.saturating_mul(PAGE_SIZE / 1024))?;
        }
        if let Some(inodes) = self.inodes.filter(|&i| i != u64::MAX && self.inodes != self.defaults) {
            write!(f, ",nr_inodes={inodes}")?;
        }
        if let Some(mode) = self.mode.filter(|&m| m != 0o1777) {
            write!(f, ",mode={mode:o}")?;
        }
        if let Some(uid) = self.uid.filter(|&u| u != 0) {
            write!(f, ",uid={uid}")?;
        }
        if let Some(gid) = self.gid.filter(|&g| g != 0) {
            write!(f, ",gid={gid}")?;
        }
        Ok(())
    }
}
