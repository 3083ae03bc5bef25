//! System information: names, memory, random numbers, CPUs.

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::task::{GetrandomFlags, NEW_UTS_LEN, Personality, Sysinfo, Utsname};

use crate::error::SysResult;
use crate::kernel::HostNames;
use crate::syscalls::args::{BufIn, BufOut, Out, PtrIn, PtrOut};
use crate::task::TaskContext;

/// Number of random bytes generated at once.
const RANDOM_CHUNK: usize = 4096;
/// Maximum number of bytes per getrandom(2).
const RANDOM_MOST: usize = 0x7fff_ffff;

/// Pads a string to a field of [`Utsname`].
fn field(text: &[u8]) -> [u8; 65] {
    let mut field = [0; 65];
    field.iter_mut().zip(text.iter().take(NEW_UTS_LEN)).for_each(|(to, from)| *to = *from);
    field
}

/// uname(2).
pub(crate) fn uname(ctx: &mut TaskContext, out: Out<Utsname>) -> SysResult {
    let kernel = ctx.kernel();
    let names = kernel.names.lock().clone();
    let personality = Personality::from_bits_retain(ctx.settings().personality);
    let release = kernel.profile.release_text();
    let old_style = format!("2.6.{}", 60 + kernel.profile.release().minor);
    let release = if personality.contains(Personality::UNAME26) { &old_style } else { release };
    let uts = Utsname {
        sysname: field(b"Linux"),
        nodename: field(&names.host),
        release: field(release.as_bytes()),
        version: field(kernel.profile.version_text().as_bytes()),
        machine: field(b"x86_64"),
        domainname: field(&names.domain),
    };
    out.write(ctx, &uts)?;
    Ok(0)
}

fn set_name(ctx: &TaskContext, at: u64, len: i32, place: fn(&mut HostNames) -> &mut Vec<u8>) -> SysResult {
    if !ctx.credentials().has(Capability::CAP_SYS_ADMIN) {
        return Err(Errno::EPERM.here().into());
    }
    let len = usize::try_from(len).ok().filter(|&l| l <= NEW_UTS_LEN).ok_or_else(|| Errno::EINVAL.here())?;
    let mut name = vec![0; len];
    ctx.read_bytes(at, &mut name)?;
    *place(&mut ctx.kernel().names.lock()) = name;
    Ok(0)
}

/// sethostname(2).
pub(crate) fn sethostname(ctx: &mut TaskContext, name: BufIn, len: i32) -> SysResult {
    set_name(ctx, name.0, len, |names| &mut names.host)
}

/// setdomainname(2).
pub(crate) fn setdomainname(ctx: &mut TaskContext, name: BufIn, len: i32) -> SysResult {
    set_name(ctx, name.0, len, |names| &mut names.domain)
}

/// sysinfo(2).
pub(crate) fn sysinfo(ctx: &mut TaskContext, out: PtrOut) -> SysResult {
    let kernel = ctx.kernel();
    let total = kernel.cgroup.memory_shown(kernel);
    let info = Sysinfo {
        uptime: kernel.time.started.elapsed().as_secs() as i64,
        totalram: total,
        freeram: total.saturating_sub(kernel.mm.frames.touched_bytes()),
        procs: kernel.processes.lock().task_count().min(usize::from(u16::MAX)) as u16,
        mem_unit: 1,
        ..Sysinfo::default()
    };
    ctx.write_object(out.0, &info)?;
    Ok(0)
}

/// getrandom(2).
pub(crate) fn getrandom(ctx: &mut TaskContext, buf: BufOut, len: usize, flags: GetrandomFlags) -> SysResult {
    let both = GetrandomFlags::GRND_RANDOM | GetrandomFlags::GRND_INSECURE;
    if !GetrandomFlags::all().contains(flags) || flags.contains(both) {
        return Err(Errno::EINVAL.here().into());
    }
    let len = len.min(RANDOM_MOST);
    let mut chunk = [0; RANDOM_CHUNK];
    let mut done = 0;
    while done < len {
        let part = chunk.get_mut(..RANDOM_CHUNK.min(len - done)).unwrap_or_default();
        getrandom::fill(part).map_err(|_| Errno::EIO.here())?;
        if let Err(error) = ctx.write_bytes(buf.0.wrapping_add(done as u64), part) {
            return if done > 0 { Ok(done as u64) } else { Err(error.into()) };
        }
        done += part.len();
        if done < len && ctx.is_interrupted() {
            break;
        }
    }
    Ok(done as u64)
}

/// getcpu(2): the first CPU of the task's affinity mask, since the host schedules the task.
pub(crate) fn getcpu(ctx: &mut TaskContext, cpu: PtrOut, node: PtrOut, _cache: PtrIn) -> SysResult {
    let current = ctx.schedule().affinity.first_cpu();
    if !cpu.is_null() {
        ctx.write_object(cpu.0, &current)?;
    }
    if !node.is_null() {
        ctx.write_object(node.0, &0u32)?;
    }
    Ok(0)
}
