//! The mount options of devpts.

use std::fmt;
use std::str::FromStr;

use amber_abi::errno::Errno;

/// The maximum number of pairs of an instance.
const MOST: u32 = 1 << 20;

/// Owner and mode of new slaves, and limits.
#[derive(Clone, Debug)]
pub(super) struct Options {
    /// The owner of slaves; none for the opener of the master.
    pub uid: Option<u32>,
    /// The group of slaves; none for that of the opener of the master.
    pub gid: Option<u32>,
    /// The mode of slaves.
    pub mode: u16,
    /// The mode of ptmx.
    pub master_mode: u16,
    /// The maximum number of pairs.
    pub max: u32,
}

impl FromStr for Options {
    type Err = Errno;

    fn from_str(text: &str) -> Result<Self, Errno> {
        let mut options = Options { uid: None, gid: None, mode: 0o600, master_mode: 0, max: MOST };
        let octal = |value| u16::from_str_radix(value, 8).map(|mode| mode & 0o7777).map_err(|_| Errno::EINVAL.here());
        for option in text.split(',').filter(|o| !o.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match name {
                "uid" => options.uid = Some(value.parse().map_err(|_| Errno::EINVAL.here())?),
                "gid" => options.gid = Some(value.parse().map_err(|_| Errno::EINVAL.here())?),
                "mode" => options.mode = octal(value)?,
                "ptmxmode" => options.master_mode = octal(value)?,
                "max" => {
                    let max = value.parse().map_err(|_| Errno::EINVAL.here())?;
                    options.max = Some(max).filter(|&m| m <= MOST).ok_or_else(|| Errno::EINVAL.here())?;
                }
                // Since Linux 4.7 every mount is a separate instance.
                "newinstance" => {}
                _ => return Err(Errno::EINVAL.here()),
            }
        }
        Ok(options)
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(uid) = self.uid {
            write!(f, ",uid={uid}")?;
        }
        if let Some(gid) = self.gid {
            write!(f, ",gid={gid}")?;
        }
        write!(f, ",mode={:03o},ptmxmode={:03o}", self.mode, self.master_mode)?;
        if self.max < MOST {
            write!(f, ",max={}", self.max)?;
        }
        Ok(())
    }
}
