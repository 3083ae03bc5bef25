//! The first line of a script: `#!`, an interpreter, and at most one argument.

use amber_abi::errno::Errno;

/// How much of a file Linux looks at.
pub(super) const HEAD: usize = 256;

/// Whose script it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shebang {
    /// Path of the interpreter.
    pub interpreter: Vec<u8>,
    /// Everything behind it on the line, as one argument.
    pub argument: Option<Vec<u8>>,
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Whether a byte ends a word: blanks, and the zeros behind the end of a short file.
fn ends_word(byte: u8) -> bool {
    is_blank(byte) || byte == 0
}

/// Reads the head of a file (zeros behind its end); none if it is no script.
///
/// # Errors
/// `ENOEXEC` if no interpreter is named, or its name does not end within the head.
pub(super) fn parse(head: &[u8; HEAD]) -> Result<Option<Shebang>, Errno> {
    let Some(text) = head.strip_prefix(b"#!") else { return Ok(None) };
    let whole = text.split_inclusive(|&byte| byte == b'\n').next().unwrap_or_default();
    let (last, line) = whole.split_last().ok_or_else(|| Errno::ENOEXEC.here())?;
    // A line cut off is accepted if the interpreter's name is whole.
    if *last != b'\n' && !whole.iter().skip_while(|&&byte| is_blank(byte)).any(|&byte| ends_word(byte)) {
        return Err(Errno::ENOEXEC.here());
    }
    let line = line.split(|&byte| byte == 0).next().unwrap_or_default().trim_ascii_end_blank();
    let start = line.iter().position(|&byte| !is_blank(byte)).ok_or_else(|| Errno::ENOEXEC.here())?;
    let (_, words) = line.split_at(start);
    let end = words.iter().position(|&byte| is_blank(byte)).unwrap_or(words.len());
    let (interpreter, rest) = words.split_at(end);
    let argument = rest.iter().position(|&byte| !is_blank(byte)).map(|at| rest.split_at(at).1.to_vec());
    Ok(Some(Shebang { interpreter: interpreter.to_vec(), argument }))
}

/// Trimming of blanks only, as the kernel does: a carriage return stays.
trait TrimBlank {
    fn trim_ascii_end_blank(&self) -> &Self;
}

impl TrimBlank for [u8] {
    fn trim_ascii_end_blank(&self) -> &[u8] {
        let mut rest = self;
        while let [head @ .., last] = rest
            && is_blank(*last)
        {
            rest = head;
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &[u8]) -> Result<Option<Shebang>, Errno> {
        let mut head = [0; HEAD];
        head[..text.len()].copy_from_slice(text);
        parse(&head)
    }

    fn named(interpreter: &str, argument: Option<&str>) -> Result<Option<Shebang>, Errno> {
        let argument = argument.map(|text| text.as_bytes().to_vec());
        Ok(Some(Shebang { interpreter: interpreter.as_bytes().to_vec(), argument }))
    }

    #[test]
    fn lines_are_read_as_linux_reads_them() {
        assert_eq!(of(b"#!/bin/sh\nexit"), named("/bin/sh", None));
        assert_eq!(of(b"#! /usr/bin/env  python3 -u  \n"), named("/usr/bin/env", Some("python3 -u")));
        assert_eq!(of(b"#!/bin/sh"), named("/bin/sh", None));
        assert_eq!(of(b"#!  \n"), Err(Errno::ENOEXEC));
        assert_eq!(of(b"\x7fELF"), Ok(None));
        let mut long = b"#!/".to_vec();
        long.resize(HEAD, b'a');
        assert_eq!(of(&long), Err(Errno::ENOEXEC));
        long[100] = b' ';
        assert!(of(&long).unwrap().unwrap().argument.is_some());
    }

    proptest! {
        #[test]
        fn hostile_heads_never_panic(bytes in proptest::collection::vec(any::<u8>(), HEAD - 2)) {
            let mut head = [0; HEAD];
            head[..2].copy_from_slice(b"#!");
            head[2..].copy_from_slice(&bytes);
            let _ = parse(&head);
        }
    }
}
