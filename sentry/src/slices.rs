//! Parts of byte slices by lengths that need not fit.

use amber_abi::errno::Errno;

/// The first bytes, at most this many.
pub(crate) fn at_most(bytes: &[u8], most: usize) -> &[u8] {
    bytes.get(..most).unwrap_or(bytes)
}

/// The first bytes, at most this many, for writing.
pub(crate) fn at_most_mut(bytes: &mut [u8], most: usize) -> &mut [u8] {
    let len = most.min(bytes.len());
    bytes.split_at_mut(len).0
}

/// The bytes that a read put into a buffer.
///
/// # Errors
/// `EIO` if the read reported more bytes than the buffer has.
pub(crate) fn filled(buffer: &[u8], len: usize) -> Result<&[u8], Errno> {
    buffer.get(..len).ok_or_else(|| Errno::EIO.here())
}

/// Copies as many bytes as there are and fit. Returns their number.
pub(crate) fn copy_fitting(from: &[u8], to: &mut [u8]) -> usize {
    let to = at_most_mut(to, from.len());
    to.copy_from_slice(at_most(from, to.len()));
    to.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_need_not_fit() {
        assert_eq!(at_most(b"abc", 2), b"ab");
        assert_eq!(at_most(b"abc", 4), b"abc");
        assert_eq!(at_most_mut(&mut [1, 2, 3], usize::MAX), [1, 2, 3]);
        assert_eq!(filled(b"abc", 3), Ok(&b"abc"[..]));
        assert_eq!(filled(b"abc", 4), Err(Errno::EIO));
    }

    #[test]
    fn a_copy_ends_with_the_shorter_side() {
        let mut to = [0; 3];
        assert_eq!(copy_fitting(b"ab", &mut to), 2);
        assert_eq!(to, *b"ab\0");
        assert_eq!(copy_fitting(b"cdef", &mut to), 3);
        assert_eq!(to, *b"cde");
    }
}
