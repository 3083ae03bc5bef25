//! Room on the heap for what a guest chooses the size of.

use super::{GuestMemory, OutOfMemory};

/// Requests for fewer bytes are served without a look at the limit.
const SMALL: usize = 16 << 10;

impl GuestMemory {
    /// Makes room for `more` elements in a list, and for some beyond them if the list has grown before.
    ///
    /// # Errors
    /// The limit would be exceeded, or the host is out of memory. The list keeps its elements.
    #[inline]
    pub fn reserve<T>(&self, list: &mut Vec<T>, more: usize) -> Result<(), OutOfMemory> {
        if more <= list.capacity() - list.len() { Ok(()) } else { self.grow(list, more) }
    }

    fn grow<T>(&self, list: &mut Vec<T>, more: usize) -> Result<(), OutOfMemory> {
        let old = list.capacity();
        let wanted = list.len().saturating_add(more).max(old.saturating_add(old / 2));
        let bytes = wanted.saturating_mul(size_of::<T>());
        let additional = wanted - list.len();
        if bytes < SMALL {
            list.reserve_exact(additional);
            return Ok(());
        }
        self.admit(bytes as u64)?;
        list.try_reserve_exact(additional).map_err(|_| OutOfMemory)?;
        // The heap counts it from now on, and the host only what is touched: of several threads that were admitted at
        // the same time, those go back that were too many.
        self.admit(0).inspect_err(|_| list.shrink_to_fit())
    }

    /// An empty list with room for `count` elements.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    #[inline]
    pub fn list<T>(&self, count: usize) -> Result<Vec<T>, OutOfMemory> {
        let mut list = Vec::new();
        self.reserve(&mut list, count)?;
        Ok(list)
    }

    /// A list of `count` elements that all are `value`.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    #[inline]
    pub fn filled<T: Clone>(&self, count: usize, value: T) -> Result<Vec<T>, OutOfMemory> {
        let mut list = self.list(count)?;
        list.resize(count, value);
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_lists_need_no_room_below_the_limit() {
        let memory = GuestMemory::new(1 << 20).unwrap();
        memory.set_caps(0, 0);
        assert_eq!(memory.filled(4, 7).unwrap(), [7; 4]);
        assert!(memory.list::<u8>(SMALL).is_err());
    }

    #[test]
    fn lists_are_refused_above_the_limit() {
        let memory = GuestMemory::new(1 << 20).unwrap();
        memory.set_caps(1 << 20, 1 << 20);
        let mut list = memory.list::<u64>(8 << 10).unwrap();
        assert_eq!(list.capacity(), 8 << 10);
        list.resize(8 << 10, 1);
        assert!(memory.reserve(&mut list, 256 << 10).is_err());
        assert!(memory.reserve(&mut list, usize::MAX).is_err());
        assert_eq!(list.len(), 8 << 10);
        memory.reserve(&mut list, 1).unwrap();
        assert_eq!(list.capacity(), 12 << 10);
        assert!(memory.filled(2 << 20, 0_u8).is_err());
    }
}
