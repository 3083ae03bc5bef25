//! The resource limits that the memory manager enforces.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::tunables::Tunables;

/// Soft limits in bytes, set by setrlimit(2). `u64::MAX` is no limit.
#[derive(Debug)]
pub(crate) struct MemoryLimits {
    address_space: AtomicU64,
    data: AtomicU64,
    stack: AtomicU64,
    locked: AtomicU64,
    /// The parameters below `/proc/sys/vm`.
    system: Arc<Tunables>,
}

macro_rules! limit {
    ($field:ident, $set:ident, $doc:literal) => {
        #[doc = $doc]
        pub(crate) fn $field(&self) -> u64 {
            self.$field.load(Ordering::Relaxed)
        }

        #[doc = concat!("Sets ", $doc)]
        pub(crate) fn $set(&self, bytes: u64) {
            self.$field.store(bytes, Ordering::Relaxed);
        }
    };
}

impl MemoryLimits {
    /// Linux's limits of the first process, with the parameters of the sandbox.
    pub(crate) fn new(system: Arc<Tunables>) -> Self {
        MemoryLimits {
            address_space: AtomicU64::new(u64::MAX),
            data: AtomicU64::new(u64::MAX),
            stack: AtomicU64::new(8 << 20),
            locked: AtomicU64::new(8 << 20),
            system,
        }
    }

    /// The parameters below `/proc/sys/vm`.
    pub(crate) fn system(&self) -> &Tunables {
        &self.system
    }

    limit!(address_space, set_address_space, "`RLIMIT_AS`: bytes in all VMAs.");
    limit!(data, set_data, "`RLIMIT_DATA`: bytes in private writable VMAs.");
    limit!(stack, set_stack, "`RLIMIT_STACK`: bytes of a growing stack.");
    limit!(locked, set_locked, "`RLIMIT_MEMLOCK`: bytes in locked VMAs.");
}

impl Clone for MemoryLimits {
    fn clone(&self) -> Self {
        MemoryLimits {
            address_space: AtomicU64::new(self.address_space()),
            data: AtomicU64::new(self.data()),
            stack: AtomicU64::new(self.stack()),
            locked: AtomicU64::new(self.locked()),
            system: self.system.clone(),
        }
    }
}
