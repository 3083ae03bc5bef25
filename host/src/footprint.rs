//! How much memory this process takes on the host.

use std::fs::File;
use std::io;

use crate::fs::read_at;

/// `/proc/self/statm`, kept open: what it tells is asked for when no file can be opened any more.
#[derive(Debug)]
pub struct Footprint(File);

impl Footprint {
    /// Opens it.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn open() -> io::Result<Footprint> {
        File::open("/proc/self/statm").map(Footprint)
    }

    /// Bytes of private memory that are resident; none if the host does not tell. The host's own counters may be some
    /// pages behind for each thread.
    pub fn private_bytes(&self) -> Option<u64> {
        let mut text = [0; 128];
        let len = read_at(&self.0, &mut text, 0).ok()?;
        private_pages(text.get(..len)?).map(|pages| pages * 4096)
    }
}

/// Resident pages that are of no file: the second field less the third, see proc_pid_statm(5).
fn private_pages(text: &[u8]) -> Option<u64> {
    let mut fields = std::str::from_utf8(text).ok()?.split_ascii_whitespace().skip(1);
    let mut field = || fields.next()?.parse::<u64>().ok();
    let resident = field()?;
    Some(resident.saturating_sub(field()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_no_private_memory() {
        assert_eq!(private_pages(b"9000 500 120 10 0 300 0\n"), Some(380));
        assert_eq!(private_pages(b"9000 5"), None);
    }

    #[test]
    fn memory_that_is_written_to_shows() {
        let footprint = Footprint::open().unwrap();
        let before = footprint.private_bytes().unwrap();
        let block = vec![1u8; 64 << 20];
        assert!(footprint.private_bytes().unwrap() > before + (block.len() as u64) / 2);
    }
}
