//! Hardware breakpoints: the debug registers (Intel SDM, volume 3, "Debug, Branch Profile, TSC").

use std::io;

/// Maximum number of breakpoints of a thread: the processor has this many address registers.
pub const MAX_BREAKPOINTS: usize = 4;

/// What triggers a breakpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Execution of the instruction that begins at the address; the guest stops before it.
    Execute,
    /// A store to any of the bytes; the guest stops after it.
    Write,
    /// A load from or a store to any of the bytes; the guest stops after it.
    ReadWrite,
}

/// A hardware breakpoint, or watchpoint, of a guest thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breakpoint {
    /// Address of the first byte, a multiple of the length.
    pub address: u64,
    /// Length in bytes: 1, 2, 4 or 8; 1 for [`Watch::Execute`].
    pub len: u64,
    /// What triggers it.
    pub watch: Watch,
}

/// A thread's breakpoints in the format of the debug registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DebugRegisters {
    /// DR0 to DR3.
    pub addresses: [u64; MAX_BREAKPOINTS],
    /// DR7, without the bits that are always set.
    pub control: u64,
}

impl DebugRegisters {
    /// The registers for these breakpoints, which are numbered from 0.
    ///
    /// # Errors
    /// `InvalidInput`: there are too many, or the processor does not support one of them below `limit`, the guest's
    /// task size.
    pub fn of(breakpoints: &[Breakpoint], limit: u64) -> io::Result<Self> {
        if breakpoints.len() > MAX_BREAKPOINTS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut registers = DebugRegisters::default();
        for (i, breakpoint) in breakpoints.iter().enumerate() {
            let Breakpoint { address, len, watch } = *breakpoint;
            let kind = match (watch, len) {
                (Watch::Execute, 1) => 0b0000,
                (Watch::Execute, _) => return Err(io::ErrorKind::InvalidInput.into()),
                (Watch::Write, _) => 0b0001,
                (Watch::ReadWrite, _) => 0b0011,
            };
            let size = match len {
                1 => 0b0000,
                2 => 0b0100,
                4 => 0b1100,
                8 => 0b1000,
                _ => return Err(io::ErrorKind::InvalidInput.into()),
            };
            if !address.is_multiple_of(len) || address.checked_add(len).is_none_or(|end| end > limit) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            registers.addresses[i] = address;
            registers.control |= (kind | size) << (16 + 4 * i) | 1 << (2 * i);
        }
        Ok(registers)
    }

    /// Whether no breakpoint is set.
    pub fn is_empty(&self) -> bool {
        self.control == 0
    }

    /// Mask of the [`Watch::Execute`] breakpoints at an address.
    pub fn instructions_at(&self, address: u64) -> u8 {
        let is_there = |i: &usize| self.addresses[*i] == address && self.control >> (16 + 4 * i) & 3 == 0;
        (0..MAX_BREAKPOINTS).filter(is_there).fold(0, |instructions, i| instructions | 1 << i)
    }

    /// Mask of the breakpoints that caused a debug exception, if `status` is DR6. DR6 may have bits of breakpoints that
    /// are not set.
    pub fn hits(&self, status: u64) -> u8 {
        (0..MAX_BREAKPOINTS).filter(|i| self.control >> (2 * i) & status >> i & 1 != 0).fold(0, |hits, i| hits | 1 << i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 0x7fff_ffff_f000;

    #[test]
    fn registers_are_those_of_the_manual() {
        let set = [
            Breakpoint { address: 0x1000, len: 1, watch: Watch::Execute },
            Breakpoint { address: 0x2002, len: 2, watch: Watch::Write },
            Breakpoint { address: 0x2004, len: 4, watch: Watch::ReadWrite },
            Breakpoint { address: 0x2008, len: 8, watch: Watch::Write },
        ];
        let registers = DebugRegisters::of(&set, LIMIT).unwrap();
        assert_eq!(registers.addresses, [0x1000, 0x2002, 0x2004, 0x2008]);
        assert_eq!(registers.control, 0x9f50_0055);
        assert_eq!(registers.hits(0xffff_4ff5), 0b0101);
        assert_eq!(DebugRegisters::of(&set[..1], LIMIT).unwrap().hits(0xf), 1);
        assert_eq!([0x1000, 0x2002].map(|address| registers.instructions_at(address)), [1, 0]);
        assert!(DebugRegisters::of(&[], LIMIT).unwrap().is_empty());
    }

    #[test]
    fn what_no_processor_watches_is_refused() {
        let good = Breakpoint { address: LIMIT - 8, len: 8, watch: Watch::Write };
        assert!(DebugRegisters::of(&[good; 4], LIMIT).is_ok());
        assert!(DebugRegisters::of(&[good; 5], LIMIT).is_err());
        for bad in [
            Breakpoint { address: LIMIT, ..good },
            Breakpoint { address: !7, ..good },
            Breakpoint { address: 0x1004, ..good },
            Breakpoint { len: 3, ..good },
            Breakpoint { len: 0, ..good },
            Breakpoint { address: 0x1000, len: 2, watch: Watch::Execute },
        ] {
            assert!(DebugRegisters::of(&[bad], LIMIT).is_err(), "{bad:?}");
        }
    }
}
