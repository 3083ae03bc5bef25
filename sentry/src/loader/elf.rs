//! Reading the headers of an ELF file. They come from the guest: nothing in them is believed.

use amber_abi::elf::{
    EI_CLASS, ELFCLASS64, ELFMAG, EM_X86_64, ET_DYN, ET_EXEC, Ehdr, PF_R, PF_W, PF_X, PT_GNU_STACK, PT_INTERP, PT_LOAD,
    Phdr,
};
use amber_abi::errno::Errno;
use amber_platform::{PAGE_SIZE, Protection};
use zerocopy::FromBytes;

/// The longest table of program headers Linux reads.
const MOST_HEADER_BYTES: usize = 65536;
/// The longest path of an interpreter, with its zero.
const PATH_MAX: u64 = 4096;

/// A part of the file to be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Where in memory it begins, before the image is moved.
    pub address: u64,
    /// Where in the file it begins.
    pub offset: u64,
    /// Bytes that come from the file.
    pub file_len: u64,
    /// Bytes in memory; what the file does not give is zero.
    pub memory_len: u64,
    /// The alignment it asks for.
    pub align: u64,
    /// What the program may do there.
    pub protection: Protection,
}

impl Segment {
    /// The address behind the last byte.
    pub(super) fn end(&self) -> u64 {
        self.address + self.memory_len
    }
}

/// What the headers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// Whether it can stand anywhere.
    pub movable: bool,
    /// Where it starts to run, before it is moved.
    pub entry: u64,
    /// What to map, in the order of the headers.
    pub segments: Vec<Segment>,
    /// Offset and length of the interpreter's path in the file.
    pub interpreter: Option<(u64, u64)>,
    /// Whether the stack shall be executable.
    pub executable_stack: bool,
    /// Where the program headers are in memory, before it is moved; 0 if no segment holds them.
    pub header_address: u64,
    /// How many program headers there are.
    pub header_count: u16,
}

impl Image {
    /// Reads the headers through `read` (offset, buffer → bytes read).
    ///
    /// # Errors
    /// `ENOEXEC` for anything that is no 64-bit x86 program, `EINVAL` for segments that cannot be mapped; what `read`
    /// says.
    pub(super) fn parse(
        limit: u64,
        mut read: impl FnMut(u64, &mut [u8]) -> Result<usize, Errno>,
    ) -> Result<Image, Errno> {
        let mut head = [0; size_of::<Ehdr>()];
        if read_full(&mut read, 0, &mut head)? < head.len() {
            return Err(Errno::ENOEXEC.here());
        }
        let header = Ehdr::read_from_bytes(&head).map_err(|_| Errno::ENOEXEC.here())?;
        let program = header.e_type == ET_EXEC || header.e_type == ET_DYN;
        let native = header.e_machine == EM_X86_64 && header.e_ident[EI_CLASS] == ELFCLASS64;
        if header.e_ident[..4] != ELFMAG || !program || !native {
            return Err(Errno::ENOEXEC.here());
        }
        let bytes = usize::from(header.e_phnum) * size_of::<Phdr>();
        if usize::from(header.e_phentsize) != size_of::<Phdr>() || bytes == 0 || bytes > MOST_HEADER_BYTES {
            return Err(Errno::ENOEXEC.here());
        }
        let mut table = vec![0; bytes];
        if read_full(&mut read, header.e_phoff, &mut table).map_err(|_| Errno::ENOEXEC.here())? < bytes {
            return Err(Errno::ENOEXEC.here());
        }
        let mut image = Image {
            movable: header.e_type == ET_DYN,
            entry: header.e_entry,
            segments: Vec::new(),
            interpreter: None,
            executable_stack: false,
            header_address: 0,
            header_count: header.e_phnum,
        };
        for header in table.chunks_exact(size_of::<Phdr>()).filter_map(|bytes| Phdr::read_from_bytes(bytes).ok()) {
            match header.p_type {
                PT_INTERP if image.interpreter.is_none() => {
                    if header.p_filesz < 2 || header.p_filesz > PATH_MAX {
                        return Err(Errno::ENOEXEC.here());
                    }
                    image.interpreter = Some((header.p_offset, header.p_filesz));
                }
                PT_GNU_STACK => image.executable_stack = header.p_flags & PF_X != 0,
                PT_LOAD => image.segments.push(segment(&header, limit)?),
                _ => {}
            }
        }
        let home = image
            .segments
            .iter()
            .find(|segment| segment.offset <= header.e_phoff && header.e_phoff - segment.offset < segment.file_len);
        image.header_address = home.map_or(0, |segment| header.e_phoff - segment.offset + segment.address);
        Ok(image)
    }

    /// The page-aligned range of all segments, before the image is moved; none if there are no segments.
    pub(super) fn span(&self) -> Option<std::ops::Range<u64>> {
        let start = self.segments.iter().map(|segment| segment.address).min()? & !(PAGE_SIZE - 1);
        let end = self.segments.iter().map(Segment::end).max()?.next_multiple_of(PAGE_SIZE);
        Some(start..end)
    }

    /// The largest alignment any segment asks for: a power of two, a page at least.
    pub(super) fn align(&self) -> u64 {
        let asked = self.segments.iter().map(|segment| segment.align).filter(|align| align.is_power_of_two());
        asked.max().unwrap_or(0).max(PAGE_SIZE)
    }
}

fn segment(header: &Phdr, limit: u64) -> Result<Segment, Errno> {
    let end =
        header.p_vaddr.checked_add(header.p_memsz).filter(|&end| end <= limit).ok_or_else(|| Errno::EINVAL.here())?;
    let fits = header.p_filesz <= header.p_memsz && header.p_vaddr < limit;
    // File and memory must agree on where in a page a segment begins, else it cannot be mapped.
    let aligned = header.p_filesz == 0 || header.p_vaddr % PAGE_SIZE == header.p_offset % PAGE_SIZE;
    let in_file = header.p_offset.checked_add(header.p_filesz).is_some_and(|end| end <= i64::MAX as u64);
    // Ends are rounded up to pages later on.
    if !fits || !aligned || !in_file || end.checked_next_multiple_of(PAGE_SIZE).is_none() {
        return Err(Errno::EINVAL.here());
    }
    let protection = Protection {
        read: header.p_flags & PF_R != 0,
        write: header.p_flags & PF_W != 0,
        execute: header.p_flags & PF_X != 0,
    };
    Ok(Segment {
        address: header.p_vaddr,
        offset: header.p_offset,
        file_len: header.p_filesz,
        memory_len: header.p_memsz,
        align: header.p_align,
        protection,
    })
}

/// Reads until the buffer is full or the file ends.
pub(super) fn read_full(
    read: &mut impl FnMut(u64, &mut [u8]) -> Result<usize, Errno>,
    offset: u64,
    buf: &mut [u8],
) -> Result<usize, Errno> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = offset.checked_add(done as u64).ok_or_else(|| Errno::EINVAL.here())?;
        match read(at, rest)? {
            0 => break,
            n => done += n.min(rest.len()),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::{FromZeros, IntoBytes};

    use super::*;

    const LIMIT: u64 = 0x7fff_ffff_f000;

    fn parse(bytes: &[u8]) -> Result<Image, Errno> {
        Image::parse(LIMIT, |offset, buf| {
            let rest = bytes.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
            let len = rest.len().min(buf.len());
            buf[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        })
    }

    fn file(headers: &[Phdr]) -> Vec<u8> {
        let mut header = Ehdr::new_zeroed();
        header.e_ident[..5].copy_from_slice(b"\x7fELF\x02");
        header.e_type = ET_DYN;
        header.e_machine = EM_X86_64;
        header.e_phoff = 64;
        header.e_phentsize = 56;
        header.e_phnum = headers.len() as u16;
        let mut bytes = header.as_bytes().to_vec();
        headers.iter().for_each(|header| bytes.extend_from_slice(header.as_bytes()));
        bytes
    }

    fn load(address: u64, offset: u64, file_len: u64, memory_len: u64) -> Phdr {
        let mut header = Phdr::new_zeroed();
        header.p_type = PT_LOAD;
        header.p_flags = PF_R;
        (header.p_vaddr, header.p_offset, header.p_filesz, header.p_memsz) = (address, offset, file_len, memory_len);
        header
    }

    #[test]
    fn a_small_program_is_understood() {
        let image = parse(&file(&[load(0x1000, 0, 0x200, 0x3000)])).unwrap();
        assert!(image.movable);
        assert_eq!(image.span(), Some(0x1000..0x4000));
        assert_eq!(image.header_address, 0x1040);
    }

    #[test]
    fn what_cannot_be_mapped_is_refused() {
        assert_eq!(parse(b"\x7fELF"), Err(Errno::ENOEXEC));
        assert_eq!(parse(&file(&[])), Err(Errno::ENOEXEC));
        assert_eq!(parse(&file(&[load(0x1000, 1, 0x200, 0x200)])), Err(Errno::EINVAL));
        assert_eq!(parse(&file(&[load(0x1000, 0, 0x300, 0x200)])), Err(Errno::EINVAL));
        assert_eq!(parse(&file(&[load(u64::MAX - 0xfff, 0, 0x200, 0x2000)])), Err(Errno::EINVAL));
        assert_eq!(parse(&file(&[load(LIMIT - 0x1000, 0, 1, 0x2000)])), Err(Errno::EINVAL));
    }

    proptest! {
        #[test]
        fn hostile_headers_never_panic(
            raw in proptest::collection::vec(any::<[u64; 7]>(), 0..8),
            noise in proptest::collection::vec(any::<(u16, u8)>(), 0..8),
        ) {
            let headers: Vec<Phdr> = raw.iter().map(|words| {
                let mut header = Phdr::read_from_bytes(words.as_bytes()).unwrap();
                header.p_type = [PT_LOAD, PT_LOAD, PT_INTERP, PT_GNU_STACK][header.p_type as usize % 4];
                header
            }).collect();
            let mut bytes = file(&headers);
            for (at, value) in noise {
                let len = bytes.len();
                bytes[at as usize % len] = value;
            }
            if let Ok(image) = parse(&bytes) {
                for segment in &image.segments {
                    prop_assert!(segment.end() <= LIMIT);
                }
                image.span();
                prop_assert!(image.align().is_power_of_two());
            }
        }
    }
}
