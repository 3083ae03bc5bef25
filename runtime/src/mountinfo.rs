//! The host's mounts from `/proc/PID/mountinfo`, see proc(5).

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// Usual size of the file in bytes.
const USUAL: usize = 8 << 10;

/// A mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostMount {
    /// Mount ID.
    pub number: u64,
    /// ID of the parent mount.
    pub parent: u64,
    /// The directory of the file system that is mounted.
    pub root: PathBuf,
    /// The mount point, relative to the reading process's root.
    pub point: PathBuf,
    /// File system type.
    pub kind: String,
    /// Options of the file system, separated by commas.
    pub options: String,
}

/// The mounts of this process's namespace.
///
/// # Errors
/// The host's file cannot be read.
pub(crate) fn own() -> Result<Vec<HostMount>> {
    const FILE: &str = "/proc/self/mountinfo";
    let mut text = Vec::with_capacity(USUAL);
    File::open(FILE).and_then(|mut file| file.read_to_end(&mut text)).context(FILE)?;
    parse(&text).context(FILE)
}

/// Parses such a file; `None` if a line is malformed.
pub(crate) fn parse(text: &[u8]) -> Option<Vec<HostMount>> {
    text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<HostMount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
    let (number, parent) = (number()?, number()?);
    let root = unescape(fields.nth(1)?);
    let point = unescape(fields.next()?);
    let mut behind = fields.skip_while(|field| *field != b"-").skip(1);
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let kind = text(behind.next()?);
    let options = text(behind.nth(1)?);
    Some(HostMount { number, parent, root, point, kind, options })
}

/// Decodes octal escapes of blanks and backslashes.
fn unescape(text: &[u8]) -> PathBuf {
    let (mut name, mut rest) = (Vec::new(), text);
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after
            .split_first_chunk::<3>()
            .filter(|(digits, _)| byte == b'\\' && digits.iter().all(|digit| (b'0'..b'8').contains(digit)));
        match octal {
            Some((digits, behind)) => {
                name.push(digits.iter().fold(0u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
                rest = behind;
            }
            None => {
                name.push(byte);
                rest = after;
            }
        }
    }
    OsString::from_vec(name).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read() {
        let text = br"36 35 98:0 /mnt1 /mnt\0402\134 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
";
        let mount = HostMount {
            number: 36,
            parent: 35,
            root: "/mnt1".into(),
            point: r"/mnt 2\".into(),
            kind: "ext3".into(),
            options: "rw,errors=continue".into(),
        };
        assert_eq!(parse(text), Some(vec![mount]));
        assert_eq!(parse(b"36 35 98:0 /mnt1"), None);
        assert_eq!(parse(b""), Some(Vec::new()));
    }
}
