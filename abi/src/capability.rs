//! Capabilities: the privileges of the superuser, one by one.

use core::fmt;

named! {
    /// One capability.
    pub struct Capability(u32) {
        CAP_CHOWN = 0,
        CAP_DAC_OVERRIDE = 1,
        CAP_DAC_READ_SEARCH = 2,
        CAP_FOWNER = 3,
        CAP_FSETID = 4,
        CAP_KILL = 5,
        CAP_SETGID = 6,
        CAP_SETUID = 7,
        CAP_SETPCAP = 8,
        CAP_LINUX_IMMUTABLE = 9,
        CAP_NET_BIND_SERVICE = 10,
        CAP_NET_BROADCAST = 11,
        CAP_NET_ADMIN = 12,
        CAP_NET_RAW = 13,
        CAP_IPC_LOCK = 14,
        CAP_IPC_OWNER = 15,
        CAP_SYS_MODULE = 16,
        CAP_SYS_RAWIO = 17,
        CAP_SYS_CHROOT = 18,
        CAP_SYS_PTRACE = 19,
        CAP_SYS_PACCT = 20,
        CAP_SYS_ADMIN = 21,
        CAP_SYS_BOOT = 22,
        CAP_SYS_NICE = 23,
        CAP_SYS_RESOURCE = 24,
        CAP_SYS_TIME = 25,
        CAP_SYS_TTY_CONFIG = 26,
        CAP_MKNOD = 27,
        CAP_LEASE = 28,
        CAP_AUDIT_WRITE = 29,
        CAP_AUDIT_CONTROL = 30,
        CAP_SETFCAP = 31,
        CAP_MAC_OVERRIDE = 32,
        CAP_MAC_ADMIN = 33,
        CAP_SYSLOG = 34,
        CAP_WAKE_ALARM = 35,
        CAP_BLOCK_SUSPEND = 36,
        CAP_AUDIT_READ = 37,
        CAP_PERFMON = 38,
        CAP_BPF = 39,
        CAP_CHECKPOINT_RESTORE = 40,
    }
}

impl Capability {
    /// The one with the highest number.
    pub const LAST: Self = Self::CAP_CHECKPOINT_RESTORE;

    /// The capability with this number, if there is one.
    pub const fn known(raw: u32) -> Option<Self> {
        if raw <= Self::LAST.raw() { Some(Self::from_raw(raw)) } else { None }
    }

    /// The capability with this name, such as `CAP_CHOWN`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|capability| crate::Named::name(capability) == Some(name))
    }

    /// Every capability in ascending order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=Self::LAST.raw()).map(Self::from_raw)
    }
}

/// A set of capabilities, in which bit `n` stands for capability `n`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// No capability.
    pub const EMPTY: Self = Self(0);
    /// Every capability there is.
    pub const ALL: Self = Self((2 << Capability::LAST.raw()) - 1);
    /// The ones a change of the file system user id takes away or gives back.
    pub const FILE_SYSTEM: Self = Self(0x1_0800_021f);

    /// The set with these bits; bits without a capability are dropped.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// The bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether no capability is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the capability is in the set.
    pub const fn contains(self, capability: Capability) -> bool {
        capability.raw() < 64 && self.0 & 1 << capability.raw() != 0
    }

    /// Whether all of the other set is in this one.
    pub const fn is_superset(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// This set with the capability put in.
    pub const fn with(self, capability: Capability) -> Self {
        if capability.raw() < 64 { Self::from_bits(self.0 | 1 << capability.raw()) } else { self }
    }

    /// This set with the capability taken out.
    pub const fn without(self, capability: Capability) -> Self {
        if capability.raw() < 64 { Self(self.0 & !(1 << capability.raw())) } else { self }
    }

    /// What is in either.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in this set and not in the other.
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl FromIterator<Capability> for CapabilitySet {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        capabilities.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Debug for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

impl fmt::LowerHex for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

layout! {
    /// The header of `capget` and `capset`.
    pub struct CapUserHeader: 8 {
        version: u32,
        pid: i32,
    }

    /// 32 capabilities of each set; versions 2 and 3 have two of these.
    pub struct CapUserData: 12 {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }

    /// The attribute `security.capability` of a program, in its second revision.
    pub struct VfsCapData: 20 {
        magic_etc: u32,
        /// Permitted and inheritable, low word then high word of each.
        data: [u32; 4],
    }
}

consts! { u32:
    _LINUX_CAPABILITY_VERSION_1 = 0x19980330,
    _LINUX_CAPABILITY_VERSION_2 = 0x20071026,
    _LINUX_CAPABILITY_VERSION_3 = 0x20080522,
    VFS_CAP_REVISION_MASK = 0xff000000,
    VFS_CAP_REVISION_1 = 0x1000000,
    VFS_CAP_REVISION_2 = 0x2000000,
    VFS_CAP_REVISION_3 = 0x3000000,
    VFS_CAP_FLAGS_EFFECTIVE = 0x1,
}

flags! {
    /// What keeps the superuser from being special.
    pub struct SecureBits: u32 {
        SECBIT_NOROOT = 1,
        SECBIT_NOROOT_LOCKED = 2,
        SECBIT_NO_SETUID_FIXUP = 4,
        SECBIT_NO_SETUID_FIXUP_LOCKED = 8,
        SECBIT_KEEP_CAPS = 0x10,
        SECBIT_KEEP_CAPS_LOCKED = 0x20,
        SECBIT_NO_CAP_AMBIENT_RAISE = 0x40,
        SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED = 0x80,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        assert_eq!(CapabilitySet::ALL.bits(), 0x1ff_ffff_ffff);
        assert_eq!(Capability::all().collect::<CapabilitySet>(), CapabilitySet::ALL);
        assert_eq!(Capability::from_name("CAP_SYS_ADMIN").map(Capability::raw), Some(21));
        let set = CapabilitySet::EMPTY.with(Capability::CAP_KILL);
        assert!(set.contains(Capability::CAP_KILL) && set.without(Capability::CAP_KILL).is_empty());
        let file_system = CapabilitySet::FILE_SYSTEM;
        assert!(file_system.contains(Capability::CAP_FSETID) && file_system.contains(Capability::CAP_MAC_OVERRIDE));
    }
}
