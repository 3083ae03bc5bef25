//! The ELF image around the code, with what C libraries need to find a versioned function.

use amber_abi::elf::{Dyn, EM_X86_64, ET_DYN, Ehdr, PF_R, PF_X, PT_DYNAMIC, PT_LOAD, Phdr, Sym, Verdaux, Verdef};
use zerocopy::{FromZeros, Immutable, IntoBytes};

use crate::{PAGE, code};

const DT_HASH: i64 = 4;
const DT_STRTAB: i64 = 5;
const DT_SYMTAB: i64 = 6;
const DT_STRSZ: i64 = 10;
const DT_SYMENT: i64 = 11;
const DT_SONAME: i64 = 14;
const DT_VERSYM: i64 = 0x6fff_fff0;
const DT_VERDEF: i64 = 0x6fff_fffc;
const DT_VERDEFNUM: i64 = 0x6fff_fffd;
/// `st_info` of a global function.
const GLOBAL_FUNCTION: u8 = 1 << 4 | 2;
/// Marks the version definition of the file itself.
const VER_FLG_BASE: u16 = 1;

/// The object's name and the version of its functions, as on Linux for x86-64.
const NAME: &str = "linux-vdso.so.1";
const VERSION: &str = "LINUX_2.6";

/// The ELF hash function.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0, |hash: u32, byte| {
        let hash = (hash << 4).wrapping_add(u32::from(byte));
        let high = hash & 0xf000_0000;
        (hash ^ (high >> 24)) & !high
    })
}

/// Appends values to bytes.
struct Layout(Vec<u8>);

impl Layout {
    fn put(&mut self, part: &(impl IntoBytes + Immutable + ?Sized)) -> u64 {
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        let at = self.0.len() as u64;
        self.0.extend_from_slice(part.as_bytes());
        at
    }
}

/// A string table.
struct Names(Vec<u8>);

impl Names {
    fn add(&mut self, name: &str) -> u32 {
        let at = self.0.len() as u32;
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(0);
        at
    }
}

fn definition(flags: u16, index: u16, name: &str, name_at: u32, last: bool) -> Vec<u8> {
    let mut definition = Verdef::new_zeroed();
    definition.vd_version = 1;
    definition.vd_flags = flags;
    definition.vd_ndx = index;
    definition.vd_cnt = 1;
    definition.vd_hash = hash(name);
    definition.vd_aux = size_of::<Verdef>() as u32;
    definition.vd_next = if last { 0 } else { (size_of::<Verdef>() + size_of::<Verdaux>()) as u32 };
    let mut auxiliary = Verdaux::new_zeroed();
    auxiliary.vda_name = name_at;
    [definition.as_bytes(), auxiliary.as_bytes()].concat()
}

/// The image: one page, to be mapped readable and executable right after the data page.
pub fn image() -> Vec<u8> {
    let functions = code::functions();
    let mut names = Names(vec![0]);
    let own_name = names.add(NAME);
    let version_name = names.add(VERSION);
    let mut symbols = vec![Sym::new_zeroed()];
    for (name, start, end) in functions {
        let mut symbol = Sym::new_zeroed();
        symbol.st_name = names.add(name);
        symbol.st_info = GLOBAL_FUNCTION;
        // There are no sections. Any index except "undefined" is correct.
        symbol.st_shndx = 1;
        symbol.st_value = (code::OFFSET + start) as u64;
        symbol.st_size = (end - start) as u64;
        symbols.push(symbol);
    }
    let count = symbols.len() as u32;
    // One bucket, whose chain contains all symbols.
    let mut table = vec![1, count, 1, 0];
    table.extend((1..count).map(|index| if index + 1 < count { index + 1 } else { 0 }));
    let versions: Vec<u16> = (0..count).map(|index| if index == 0 { 0 } else { 2 }).collect();
    let definitions =
        [definition(VER_FLG_BASE, 1, NAME, own_name, false), definition(0, 2, VERSION, version_name, true)].concat();

    let headers = size_of::<Ehdr>() + 2 * size_of::<Phdr>();
    let mut layout = Layout(vec![0; headers]);
    let symbols_at = layout.put(&symbols[..]);
    let names_at = layout.put(&names.0[..]);
    let table_at = layout.put(&table[..]);
    let versions_at = layout.put(&versions[..]);
    let definitions_at = layout.put(&definitions[..]);
    let entries = [
        (DT_SONAME, u64::from(own_name)),
        (DT_HASH, table_at),
        (DT_STRTAB, names_at),
        (DT_SYMTAB, symbols_at),
        (DT_STRSZ, names.0.len() as u64),
        (DT_SYMENT, size_of::<Sym>() as u64),
        (DT_VERSYM, versions_at),
        (DT_VERDEF, definitions_at),
        (DT_VERDEFNUM, 2),
        (0, 0),
    ];
    let dynamic: Vec<Dyn> = entries.into_iter().map(|(d_tag, d_val)| Dyn { d_tag, d_val }).collect();
    let dynamic_at = layout.put(&dynamic[..]);
    let mut bytes = layout.0;
    assert!(bytes.len() <= code::OFFSET, "the tables lie in front of the code");
    bytes.resize(code::OFFSET, 0);
    bytes.extend_from_slice(code::bytes());
    assert!(bytes.len() <= PAGE, "the image is one page");
    let len = bytes.len() as u64;
    bytes.resize(PAGE, 0);

    let mut header = Ehdr::new_zeroed();
    header.e_ident[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    header.e_type = ET_DYN;
    header.e_machine = EM_X86_64;
    header.e_version = 1;
    header.e_phoff = size_of::<Ehdr>() as u64;
    header.e_ehsize = size_of::<Ehdr>() as u16;
    header.e_phentsize = size_of::<Phdr>() as u16;
    header.e_phnum = 2;
    header.e_shentsize = 64;
    let segment = |kind, flags, at, len, align| {
        let mut segment = Phdr::new_zeroed();
        (segment.p_type, segment.p_flags, segment.p_align) = (kind, flags, align);
        (segment.p_offset, segment.p_vaddr, segment.p_paddr) = (at, at, at);
        (segment.p_filesz, segment.p_memsz) = (len, len);
        segment
    };
    let load = segment(PT_LOAD, PF_R | PF_X, 0, len, PAGE as u64);
    let tables = segment(PT_DYNAMIC, PF_R, dynamic_at, (dynamic.len() * size_of::<Dyn>()) as u64, 8);
    let front = [header.as_bytes(), load.as_bytes(), tables.as_bytes()].concat();
    bytes[..front.len()].copy_from_slice(&front);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_a_page_with_named_functions() {
        let image = image();
        assert_eq!(image.len(), PAGE);
        let text = String::from_utf8_lossy(&image);
        assert!(text.contains("__vdso_clock_gettime") && text.contains(VERSION));
        assert_eq!(hash(VERSION), 0x03ae_75f6);
    }
}
