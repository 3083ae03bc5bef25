//! The arguments and the environment of a program that is to be executed.

use amber_abi::errno::Errno;
use amber_platform::GuestMemory;

/// Strings as a program finds them on its stack: one behind the other, each with a zero at its end. A list of many short
/// ones takes hardly more memory than the stack will.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Strings {
    bytes: Vec<u8>,
    count: usize,
}

impl Strings {
    /// Makes a list of strings, each up to its first zero.
    ///
    /// # Errors
    /// `ENOMEM` if they are longer than the memory limit permits.
    pub(crate) fn new<'a>(memory: &GuestMemory, texts: impl IntoIterator<Item = &'a [u8]>) -> Result<Strings, Errno> {
        let mut strings = Strings::default();
        for text in texts {
            let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
            memory.reserve(&mut strings.bytes, text.len() + 1)?;
            strings.bytes.extend_from_slice(text);
            strings.end();
        }
        Ok(strings)
    }

    /// Adds a string without a zero that `append` puts behind the bytes it is given; returns its length.
    ///
    /// # Errors
    /// Those of `append`; `ENOMEM`.
    pub(crate) fn push_with(
        &mut self,
        memory: &GuestMemory,
        append: impl FnOnce(&mut Vec<u8>) -> Result<(), Errno>,
    ) -> Result<usize, Errno> {
        let before = self.bytes.len();
        append(&mut self.bytes)?;
        memory.reserve(&mut self.bytes, 1)?;
        let len = self.bytes.len() - before;
        self.end();
        Ok(len)
    }

    fn end(&mut self) {
        self.bytes.push(0);
        self.count += 1;
    }

    /// Puts other strings in the place of the first.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn replace_first(&mut self, memory: &GuestMemory, new: &Strings) -> Result<(), Errno> {
        let end = self.iter().next().map_or(0, <[u8]>::len);
        memory.reserve(&mut self.bytes, new.bytes.len())?;
        self.bytes.splice(0..end, new.bytes.iter().copied());
        self.count = self.count.saturating_sub(1) + new.count;
        Ok(())
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// All of them.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Each, with its zero.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.split_inclusive(|&byte| byte == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_string_makes_way_for_others() {
        let memory = GuestMemory::new(1 << 20).unwrap();
        let list = |texts: &[&str]| Strings::new(&memory, texts.iter().map(|text| text.as_bytes())).unwrap();
        let mut strings = list(&["script", "", "b\0c"]);
        assert_eq!((strings.count(), strings.bytes()), (3, &b"script\0\0b\0"[..]));
        strings.replace_first(&memory, &list(&["sh", "-e", "./script"])).unwrap();
        assert_eq!(strings, list(&["sh", "-e", "./script", "", "b"]));
        assert_eq!(strings.iter().nth(3), Some(&b"\0"[..]));
        let mut none = Strings::default();
        none.replace_first(&memory, &list(&[""])).unwrap();
        assert_eq!((none.count(), none.bytes()), (1, &b"\0"[..]));
    }

    #[test]
    fn a_string_that_fails_midway_ends_the_list() {
        let memory = GuestMemory::new(1 << 20).unwrap();
        let mut strings = Strings::default();
        let len = strings.push_with(&memory, |bytes| {
            bytes.extend_from_slice(b"text");
            Ok(())
        });
        assert_eq!(len, Ok(4));
        assert_eq!(strings.push_with(&memory, |_| Err(Errno::EFAULT)), Err(Errno::EFAULT));
        assert_eq!((strings.count(), strings.bytes()), (1, &b"text\0"[..]));
    }
}
