//! Memory: mapping, protection, advice, locking, protection keys and memory policy.

use core::fmt;

/// The size of a page in bytes.
pub const PAGE_SIZE: usize = 4096;
/// The end of the addresses a program can have, with four-level page tables.
pub const TASK_SIZE: u64 = 0x7fff_ffff_f000;
/// The lowest address that can be mapped without `CAP_SYS_RAWIO`, by default.
pub const MMAP_MIN_ADDR: u64 = 65536;

flags! {
    zero PROT_NONE;
    /// What may be done with memory.
    pub struct ProtFlags: u32 {
        PROT_READ = 0x1,
        PROT_WRITE = 0x2,
        PROT_EXEC = 0x4,
        PROT_SEM = 0x8,
        PROT_GROWSDOWN = 0x1000000,
        PROT_GROWSUP = 0x2000000,
    }
}

flag_set! {
    /// The flags of `mmap`. The kind is the number in [`MmapFlags::MAP_TYPE`], not a set of bits.
    pub struct MmapFlags: u32 {
        MAP_TYPE = 0xf,
        MAP_SHARED_VALIDATE = 0x3,
        MAP_SHARED = 0x1,
        MAP_PRIVATE = 0x2,
        MAP_FIXED = 0x10,
        MAP_ANONYMOUS = 0x20,
        MAP_32BIT = 0x40,
        MAP_ABOVE4G = 0x80,
        MAP_GROWSDOWN = 0x100,
        MAP_DENYWRITE = 0x800,
        MAP_EXECUTABLE = 0x1000,
        MAP_LOCKED = 0x2000,
        MAP_NORESERVE = 0x4000,
        MAP_POPULATE = 0x8000,
        MAP_NONBLOCK = 0x10000,
        MAP_STACK = 0x20000,
        MAP_HUGETLB = 0x40000,
        MAP_SYNC = 0x80000,
        MAP_FIXED_NOREPLACE = 0x100000,
        /// Droppable memory, of Linux 6.11.
        MAP_DROPPABLE = 0x8,
    }
}

impl MmapFlags {
    /// The flags that `mmap` accepted before `MAP_SHARED_VALIDATE`, and so ignores when it does not know them.
    pub const LEGACY: Self = Self::from_bits_retain(0x7c07_f9f3);
    /// How far the logarithm of the page size is shifted under `MAP_HUGETLB`.
    pub const MAP_HUGE_SHIFT: u32 = 26;
    /// The bits of that logarithm.
    pub const MAP_HUGE_MASK: u32 = 0x3f;

    /// The kind of mapping: `MAP_SHARED`, `MAP_PRIVATE`, `MAP_SHARED_VALIDATE` or another.
    pub const fn kind(self) -> Self {
        self.intersection(Self::MAP_TYPE)
    }
}

impl fmt::Display for MmapFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = self.difference(Self::MAP_TYPE);
        match self.kind() {
            Self::MAP_SHARED => f.write_str("MAP_SHARED")?,
            Self::MAP_PRIVATE => f.write_str("MAP_PRIVATE")?,
            Self::MAP_SHARED_VALIDATE => f.write_str("MAP_SHARED_VALIDATE")?,
            Self::MAP_DROPPABLE => f.write_str("MAP_DROPPABLE")?,
            kind => write!(f, "{:#x}", kind.bits())?,
        }
        if rest.is_empty() {
            return Ok(());
        }
        f.write_str("|")?;
        crate::macros::spell(f, "0", &rest)
    }
}

flags! {
    /// The flags of `mremap`.
    pub struct MremapFlags: u32 {
        MREMAP_MAYMOVE = 0x1,
        MREMAP_FIXED = 0x2,
        MREMAP_DONTUNMAP = 0x4,
    }
}

named! {
    /// The advice of `madvise`.
    pub struct MemoryAdvice(u32) {
        MADV_NORMAL = 0,
        MADV_RANDOM = 1,
        MADV_SEQUENTIAL = 2,
        MADV_WILLNEED = 3,
        MADV_DONTNEED = 4,
        MADV_FREE = 8,
        MADV_REMOVE = 9,
        MADV_DONTFORK = 10,
        MADV_DOFORK = 11,
        MADV_MERGEABLE = 12,
        MADV_UNMERGEABLE = 13,
        MADV_HUGEPAGE = 14,
        MADV_NOHUGEPAGE = 15,
        MADV_DONTDUMP = 16,
        MADV_DODUMP = 17,
        MADV_WIPEONFORK = 18,
        MADV_KEEPONFORK = 19,
        MADV_COLD = 20,
        MADV_PAGEOUT = 21,
        MADV_POPULATE_READ = 22,
        MADV_POPULATE_WRITE = 23,
        MADV_DONTNEED_LOCKED = 24,
        MADV_COLLAPSE = 25,
        MADV_HWPOISON = 100,
        MADV_SOFT_OFFLINE = 101,
    }
}

flags! {
    /// The flags of `msync`.
    pub struct MsyncFlags: u32 {
        MS_ASYNC = 0x1,
        MS_INVALIDATE = 0x2,
        MS_SYNC = 0x4,
    }
}

flags! {
    /// The flags of `mlockall`.
    pub struct MlockallFlags: u32 {
        MCL_CURRENT = 0x1,
        MCL_FUTURE = 0x2,
        MCL_ONFAULT = 0x4,
    }
}

flags! {
    /// The flags of `mlock2`.
    pub struct MlockFlags: u32 {
        MLOCK_ONFAULT = 0x1,
    }
}

flags! {
    /// The rights a new protection key takes away.
    pub struct PkeyRights: u32 {
        PKEY_DISABLE_ACCESS = 0x1,
        PKEY_DISABLE_WRITE = 0x2,
    }
}

named! {
    /// A memory policy, less its flags.
    pub struct MemoryPolicy(u32) {
        MPOL_DEFAULT = 0,
        MPOL_PREFERRED = 1,
        MPOL_BIND = 2,
        MPOL_INTERLEAVE = 3,
        MPOL_LOCAL = 4,
        MPOL_PREFERRED_MANY = 5,
        MPOL_WEIGHTED_INTERLEAVE = 6,
    }
}

flags! {
    /// The flags within a memory policy.
    pub struct MemoryPolicyFlags: u32 {
        MPOL_F_STATIC_NODES = 0x8000,
        MPOL_F_RELATIVE_NODES = 0x4000,
        MPOL_F_NUMA_BALANCING = 0x2000,
    }
}

flags! {
    /// The flags of `get_mempolicy`.
    pub struct GetMempolicyFlags: u32 {
        MPOL_F_NODE = 0x1,
        MPOL_F_ADDR = 0x2,
        MPOL_F_MEMS_ALLOWED = 0x4,
    }
}

flags! {
    /// The flags of `mbind` and `move_pages`.
    pub struct MbindFlags: u32 {
        MPOL_MF_STRICT = 0x1,
        MPOL_MF_MOVE = 0x2,
        MPOL_MF_MOVE_ALL = 0x4,
    }
}

layout! {
    /// A range of a file: what `cachestat` is asked about.
    pub struct CachestatRange: 16 {
        off: u64,
        len: u64,
    }

    /// What `cachestat` gives, in pages.
    pub struct Cachestat: 40 {
        nr_cache: u64,
        nr_dirty: u64,
        nr_writeback: u64,
        nr_evicted: u64,
        nr_recently_evicted: u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling() {
        let flags = MmapFlags::MAP_PRIVATE | MmapFlags::MAP_ANONYMOUS | MmapFlags::MAP_FIXED;
        assert_eq!(flags.to_string(), "MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS");
        assert_eq!((ProtFlags::PROT_READ | ProtFlags::PROT_EXEC).to_string(), "PROT_READ|PROT_EXEC");
        assert_eq!(ProtFlags::PROT_NONE.to_string(), "PROT_NONE");
        assert_eq!(MemoryAdvice::MADV_DONTNEED.raw(), libc::MADV_DONTNEED as u32);
    }
}
