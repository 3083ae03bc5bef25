//! The host's mounts, as `/proc/PID/mountinfo` has them: see proc(5).

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// So many bytes tell of the mounts of a usual host.
const USUAL: usize = 8 << 10;

/// A mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostMount {
    /// Its number.
    pub number: u64,
    /// The number of the mount it lies on.
    pub parent: u64,
    /// Which directory of its file system it shows.
    pub root: PathBuf,
    /// Where it is, from the root of the process that reads.
    pub point: PathBuf,
    /// The type of its file system.
    pub kind: String,
    /// The options of its file system, separated by commas.
    pub options: String,
}

/// The mounts of this process's namespace.
///
/// # Errors
/// The host does not show them.
pub fn own() -> Result<Vec<HostMount>> {
    const FILE: &str = "/proc/self/mountinfo";
    let mut text = Vec::with_capacity(USUAL);
    File::open(FILE).and_then(|mut file| file.read_to_end(&mut text)).context(FILE)?;
    parse(&text).context(FILE)
}

/// Reads such a file; none if a line is malformed.
pub fn parse(text: &[u8]) -> Option<Vec<HostMount>> {
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

/// A name in which blanks and backslashes are octal numbers.
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
