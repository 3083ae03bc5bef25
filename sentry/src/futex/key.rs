//! What makes two words the same futex.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::mm::Mappable;

/// The identity of a futex.
#[derive(Clone)]
pub(crate) enum Key {
    /// A word of one address space, by its number, for use within it.
    Private(u64, u64),
    /// A word of private memory of one address space that was named as shared.
    Local(u64, u64),
    /// A word of a shared object, by its offset.
    Object(Arc<dyn Mappable>, u64),
}

impl Key {
    fn parts(&self) -> (u8, usize, u64) {
        match self {
            Key::Private(space, address) => (0, *space as usize, *address),
            Key::Local(space, address) => (1, *space as usize, *address),
            Key::Object(object, offset) => (2, Arc::as_ptr(object).cast::<()>() as usize, *offset),
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use amber_platform::GuestMemory;

    use super::*;
    use crate::mm::PageCache;

    #[test]
    fn identity_is_by_place_not_by_view() {
        let memory = GuestMemory::new(1 << 20).unwrap();
        let one: Arc<dyn Mappable> = PageCache::in_memory(memory.clone(), 4096);
        let other: Arc<dyn Mappable> = PageCache::in_memory(memory, 4096);
        assert!(Key::Object(one.clone(), 8) == Key::Object(one.clone(), 8));
        assert!(Key::Object(one.clone(), 8) != Key::Object(one, 12));
        assert!(Key::Object(other.clone(), 8) != Key::Local(1, 8));
        assert!(Key::Private(1, 8) != Key::Local(1, 8));
        assert!(Key::Private(1, 8) != Key::Private(2, 8));
    }
}
