//! The options of prctl(2) for the caller's address space.

use std::sync::Arc;

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::mm::MMAP_MIN_ADDR;
use amber_abi::prctl::{MmOption, PR_MDWE_NO_INHERIT, PR_MDWE_REFUSE_EXEC_GAIN, PR_SET_VMA_ANON_NAME, PrctlMmMap};
use zerocopy::IntoBytes;

use crate::error::SysResult;
use crate::mm::{Layout, MemoryFlags};
use crate::task::TaskContext;
use crate::vfs::{FileDescription, program};

/// Number of words in the auxiliary vector of a process, as in Linux 6.12.
const AUXV_WORDS: usize = 52;
/// Maximum length of a name for memory, with its zero byte.
const NAME_MOST: usize = 80;
/// The value for no descriptor.
const NO_FILE: u32 = u32::MAX;

/// `PR_SET_VMA`: names anonymous memory.
pub(super) fn name_memory(ctx: &TaskContext, what: u64, address: u64, len: u64, name: u64) -> SysResult {
    if what != PR_SET_VMA_ANON_NAME {
        return Err(Errno::EINVAL.here().into());
    }
    let name = if name == 0 {
        None
    } else {
        let text = ctx.read_string(name, NAME_MOST).map_err(|errno| match errno {
            Errno::ENAMETOOLONG => Errno::EINVAL.here(),
            other => other,
        })?;
        // Characters that would make a line of /proc/PID/maps ambiguous.
        let plain = |&b: &u8| (b' '..=b'~').contains(&b) && !b"\\`$[]".contains(&b);
        if !text.iter().all(plain) {
            return Err(Errno::EINVAL.here().into());
        }
        Some(String::from_utf8(text).map_err(|_| Errno::EINVAL.here())?)
    };
    ctx.mm().name_range(address, len, name.as_deref())?;
    Ok(0)
}

/// `PR_SET_MDWE`, which cannot be undone.
pub(super) fn refuse_exec_gain(ctx: &TaskContext, bits: u64) -> SysResult {
    let known = PR_MDWE_REFUSE_EXEC_GAIN | PR_MDWE_NO_INHERIT;
    if bits & !known != 0 || bits == PR_MDWE_NO_INHERIT {
        return Err(Errno::EINVAL.here().into());
    }
    let now = exec_gain_rule(ctx);
    if now != 0 && now != bits {
        return Err(Errno::EPERM.here().into());
    }
    ctx.mm().set_flags(MemoryFlags::NO_INHERIT, bits & PR_MDWE_NO_INHERIT != 0);
    ctx.mm().set_flags(MemoryFlags::REFUSE_EXEC_GAIN, bits & PR_MDWE_REFUSE_EXEC_GAIN != 0);
    Ok(0)
}

/// `PR_GET_MDWE`.
pub(super) fn exec_gain_rule(ctx: &TaskContext) -> u64 {
    let flags = ctx.mm().flags();
    let bit = |flag, bit| if flags.contains(flag) { bit } else { 0 };
    bit(MemoryFlags::REFUSE_EXEC_GAIN, PR_MDWE_REFUSE_EXEC_GAIN) | bit(MemoryFlags::NO_INHERIT, PR_MDWE_NO_INHERIT)
}

/// `PR_GET_AUXV`: writes as much as fits, and returns the full length.
pub(super) fn auxiliary_vector(ctx: &TaskContext, address: u64, len: u64) -> SysResult {
    let mut words = ctx.mm().with_layout(|layout| layout.auxv.clone());
    words.resize(AUXV_WORDS, 0);
    let bytes = words.as_bytes();
    let part = bytes.get(..bytes.len().min(len as usize)).unwrap_or_default();
    ctx.write_bytes(address, part)?;
    Ok(bytes.len() as u64)
}

fn read_auxiliary_vector(ctx: &TaskContext, address: u64, len: u64) -> Result<Vec<u64>, Errno> {
    let mut words = vec![0u64; AUXV_WORDS];
    let place = words.as_mut_bytes().get_mut(..len as usize).ok_or_else(|| Errno::EINVAL.here())?;
    ctx.read_bytes(address, place)?;
    // The vector always ends with AT_NULL.
    if let Some(end) = words.get_mut(AUXV_WORDS - 2..) {
        end.fill(0);
    }
    Ok(words)
}

/// `PR_SET_MM`: the layout shown in /proc.
pub(super) fn set_memory_map(ctx: &TaskContext, option: u64, address: u64, extra: u64, rest: u64) -> SysResult {
    let option = u32::try_from(option).map_or(MmOption::from_raw(0), MmOption::from_raw);
    let takes_more = [MmOption::PR_SET_MM_AUXV, MmOption::PR_SET_MM_MAP, MmOption::PR_SET_MM_MAP_SIZE];
    if rest != 0 || (extra != 0 && !takes_more.contains(&option)) {
        return Err(Errno::EINVAL.here().into());
    }
    match option {
        MmOption::PR_SET_MM_MAP_SIZE => {
            ctx.write_object(address, &(size_of::<PrctlMmMap>() as u32))?;
            return Ok(0);
        }
        MmOption::PR_SET_MM_MAP => return set_whole_map(ctx, address, extra),
        _ => {}
    }
    if !ctx.credentials().has(Capability::CAP_SYS_RESOURCE) {
        return Err(Errno::EPERM.here().into());
    }
    match option {
        MmOption::PR_SET_MM_EXE_FILE => set_executable(ctx, address as u32)?,
        MmOption::PR_SET_MM_AUXV => {
            let words = read_auxiliary_vector(ctx, address, extra)?;
            ctx.mm().with_layout(|layout| layout.auxv = words);
        }
        _ => set_one_place(ctx, option, address)?,
    }
    Ok(0)
}

fn set_one_place(ctx: &TaskContext, option: MmOption, address: u64) -> Result<(), Errno> {
    let limit = ctx.mm().address_limit();
    let place: fn(&mut Layout) -> &mut u64 = match option {
        _ if !(MMAP_MIN_ADDR..limit).contains(&address) => return Err(Errno::EINVAL.here()),
        MmOption::PR_SET_MM_START_CODE => |l| &mut l.start_code,
        MmOption::PR_SET_MM_END_CODE => |l| &mut l.end_code,
        MmOption::PR_SET_MM_START_DATA => |l| &mut l.start_data,
        MmOption::PR_SET_MM_END_DATA => |l| &mut l.end_data,
        MmOption::PR_SET_MM_START_STACK => |l| &mut l.start_stack,
        MmOption::PR_SET_MM_START_BRK => |l| &mut l.start_brk,
        MmOption::PR_SET_MM_BRK => |l| &mut l.brk,
        MmOption::PR_SET_MM_ARG_START => |l| &mut l.arg_start,
        MmOption::PR_SET_MM_ARG_END => |l| &mut l.arg_end,
        MmOption::PR_SET_MM_ENV_START => |l| &mut l.env_start,
        MmOption::PR_SET_MM_ENV_END => |l| &mut l.env_end,
        _ => return Err(Errno::EINVAL.here()),
    };
    let on_a_stack = option.raw() >= MmOption::PR_SET_MM_ARG_START.raw() || option == MmOption::PR_SET_MM_START_STACK;
    let mapped = ctx.mm().is_area_from(address);
    let data_limit = ctx.mm().limits().data();
    ctx.mm().with_layout(|layout| {
        let mut new = layout.clone();
        *place(&mut new) = address;
        check_places(&new, limit, data_limit)?;
        if on_a_stack && !mapped {
            return Err(Errno::EFAULT.here());
        }
        *layout = new;
        Ok(())
    })
}

fn set_whole_map(ctx: &TaskContext, address: u64, size: u64) -> SysResult {
    if size != size_of::<PrctlMmMap>() as u64 {
        return Err(Errno::EINVAL.here().into());
    }
    let map: PrctlMmMap = ctx.read_object(address)?;
    let old = ctx.mm().with_layout(|layout| layout.clone());
    let mut new = Layout {
        start_code: map.start_code,
        end_code: map.end_code,
        start_data: map.start_data,
        end_data: map.end_data,
        start_brk: map.start_brk,
        brk: map.brk,
        start_stack: map.start_stack,
        arg_start: map.arg_start,
        arg_end: map.arg_end,
        env_start: map.env_start,
        env_end: map.env_end,
        ..old
    };
    check_places(&new, ctx.mm().address_limit(), ctx.mm().limits().data())?;
    if map.auxv_size != 0 {
        if map.auxv == 0 {
            return Err(Errno::EINVAL.here().into());
        }
        new.auxv = read_auxiliary_vector(ctx, map.auxv, u64::from(map.auxv_size))?;
    }
    if map.exe_fd != NO_FILE {
        let credentials = ctx.credentials();
        if !credentials.has(Capability::CAP_CHECKPOINT_RESTORE) && !credentials.has(Capability::CAP_SYS_ADMIN) {
            return Err(Errno::EPERM.here().into());
        }
        set_executable(ctx, map.exe_fd)?;
    }
    ctx.mm().with_layout(|layout| {
        new.executable = layout.executable.clone();
        *layout = new;
    });
    Ok(0)
}

/// Refuses addresses outside of the address space or in an invalid order.
fn check_places(layout: &Layout, limit: u64, data_limit: u64) -> Result<(), Errno> {
    let l = layout;
    let all = [
        l.start_code,
        l.end_code,
        l.start_data,
        l.end_data,
        l.start_brk,
        l.brk,
        l.start_stack,
        l.arg_start,
        l.arg_end,
        l.env_start,
        l.env_end,
    ];
    let inside = all.iter().all(|address| (MMAP_MIN_ADDR..=limit).contains(address));
    let ordered = l.start_code < l.end_code
        && l.start_data <= l.end_data
        && l.start_brk <= l.brk
        && l.arg_start <= l.arg_end
        && l.env_start <= l.env_end;
    let data = l.brk.saturating_sub(l.start_brk).saturating_add(l.end_data.saturating_sub(l.start_data));
    if inside && ordered && data <= data_limit { Ok(()) } else { Err(Errno::EINVAL.here()) }
}

/// Replaces the file of `/proc/PID/exe`, unless the old one is still mapped.
fn set_executable(ctx: &TaskContext, fd: u32) -> Result<(), Errno> {
    let given = ctx.files().get(fd as i32)?;
    let new: Arc<FileDescription> =
        program::open_inode(&ctx.kernel().vfs, &ctx.credentials(), given.file().inode(), given.path().cloned())?;
    let old = ctx.mm().with_layout(|layout| layout.executable.clone());
    if old.is_some_and(|old| ctx.mm().maps_file(&*old.file().inode())) {
        return Err(Errno::EBUSY.here());
    }
    let old = ctx.mm().with_layout(|layout| layout.executable.replace(new));
    drop(old);
    Ok(())
}
