//! The effect of an instruction on memory, to complete the error code of a fault that the platform could not report
//! fully.

use amber_platform::Registers;
use iced_x86::{Decoder, DecoderOptions, InstructionInfoFactory, OpAccess, Register, UsedMemory};

/// The longest instruction in bytes.
pub(super) const MOST_BYTES: usize = 15;
/// Upper bound of the bytes stored by instructions for which the decoder gives no size.
const MOST_STORED: u64 = 4096;

/// Whether the 64-bit instruction with these bytes, executed with these registers, would store at an address.
pub(super) fn stores_at(code: &[u8], registers: &Registers, address: u64) -> bool {
    let mut decoder = Decoder::with_ip(64, code, registers.rip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    if instruction.is_invalid() {
        return false;
    }
    let mut factory = InstructionInfoFactory::new();
    factory.info(&instruction).used_memory().iter().any(|memory| {
        let stores = matches!(
            memory.access(),
            OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
        );
        stores && place(memory, registers).is_some_and(|start| address.wrapping_sub(start) < size(memory))
    })
}

fn size(memory: &UsedMemory) -> u64 {
    match memory.memory_size().size() as u64 {
        0 => MOST_STORED,
        size => size,
    }
}

fn place(memory: &UsedMemory, registers: &Registers) -> Option<u64> {
    memory.virtual_address(0, |register, _, _| value(register, registers))
}

/// The value that a register adds to an address; none for vector registers, whose elements are not available.
fn value(register: Register, r: &Registers) -> Option<u64> {
    let whole = match register.full_register() {
        Register::RAX => r.rax,
        Register::RBX => r.rbx,
        Register::RCX => r.rcx,
        Register::RDX => r.rdx,
        Register::RSI => r.rsi,
        Register::RDI => r.rdi,
        Register::RBP => r.rbp,
        Register::RSP => r.rsp,
        Register::R8 => r.r8,
        Register::R9 => r.r9,
        Register::R10 => r.r10,
        Register::R11 => r.r11,
        Register::R12 => r.r12,
        Register::R13 => r.r13,
        Register::R14 => r.r14,
        Register::R15 => r.r15,
        Register::RIP => r.rip,
        Register::FS => r.fs_base,
        Register::GS => r.gs_base,
        // The other segments begin at zero.
        Register::CS | Register::DS | Register::ES | Register::SS => 0,
        _ => return None,
    };
    Some(match register.size() {
        4 => whole & 0xffff_ffff,
        _ => whole,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_and_stores_are_distinguished() {
        let r = Registers {
            rip: 0x40_0000,
            rsp: 0x7000,
            rsi: 0x5000,
            rdi: 0x6000,
            rcx: 4,
            fs_base: 0x9000,
            ..Registers::default()
        };
        let stores = |code: &[u8], address| stores_at(code, &r, address);
        // mov [rdi], eax; mov eax, [rdi]; inc dword [rdi]; cmp [rdi], ecx
        assert!(stores(&[0x89, 0x07], 0x6000) && stores(&[0x89, 0x07], 0x6003) && !stores(&[0x89, 0x07], 0x6004));
        assert!(!stores(&[0x8b, 0x07], 0x6000));
        assert!(stores(&[0xff, 0x07], 0x6000));
        assert!(!stores(&[0x39, 0x0f], 0x6000));
        // rep movsb stores to one place and loads from another; push [rdi] likewise.
        assert!(stores(&[0xf3, 0xa4], 0x6000) && !stores(&[0xf3, 0xa4], 0x5000));
        assert!(stores(&[0xff, 0x37], 0x6ff8) && !stores(&[0xff, 0x37], 0x6000));
        // mov fs:[rdi], eax
        assert!(stores(&[0x64, 0x89, 0x07], 0xf000) && !stores(&[0x64, 0x89, 0x07], 0x6000));
        // mov [rip + 0x10], eax
        assert!(stores(&[0x89, 0x05, 0x10, 0, 0, 0], 0x40_0016));
        // Truncated, and invalid instructions.
        assert!(!stores(&[0x89], 0x6000) && !stores(&[0x06], 0x6000) && !stores(&[], 0x6000));
    }
}
