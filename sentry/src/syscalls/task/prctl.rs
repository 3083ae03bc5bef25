//! prctl(2), arch_prctl(2) and personality(2).

use amber_abi::capability::{Capability, CapabilitySet, SecureBits};
use amber_abi::errno::Errno;
use amber_abi::prctl::{
    AmbientOperation, ArchPrctl, PR_MCE_KILL_CLEAR, PR_MCE_KILL_DEFAULT, PR_MCE_KILL_EARLY, PR_MCE_KILL_LATE,
    PR_MCE_KILL_SET, PR_SPEC_INDIRECT_BRANCH, PR_SPEC_L1D_FLUSH, PR_SPEC_NOT_AFFECTED, PR_SPEC_STORE_BYPASS,
    PR_TSC_ENABLE, PrctlOption,
};
use amber_abi::task::{Personality, TASK_COMM_LEN};
use amber_abi::{Named, Signal};

use crate::credentials::Credentials;
use crate::error::SysResult;
use crate::mm::MemoryFlags;
use crate::syscalls::args::PtrOut;
use crate::syscalls::task::prctl_memory;
use crate::task::TaskContext;

/// XSAVE components without permission requests: x87, SSE, and AVX if the host has it.
const XFEATURES: u64 = 7;
/// The argument of personality(2) that only queries.
const QUERY: u32 = u32::MAX;

/// prctl(2). Options of other architectures and of missing features return `EINVAL`.
pub(crate) fn prctl(
    ctx: &mut TaskContext,
    option: PrctlOption,
    arg2: u64,
    arg3: u64,
    arg4: u64,
    arg5: u64,
) -> SysResult {
    let none_after_2 = arg3 | arg4 | arg5 == 0;
    let none = arg2 == 0 && none_after_2;
    let invalid = Err(Errno::EINVAL.here().into());
    match option {
        PrctlOption::PR_SET_PDEATHSIG => {
            let number = i32::try_from(arg2).map_err(|_| Errno::EINVAL.here())?;
            if number != 0 && Signal::from_raw(number).is_none() {
                return invalid;
            }
            ctx.set_parent_death_signal(number);
            Ok(0)
        }
        PrctlOption::PR_GET_PDEATHSIG => write(ctx, arg2, ctx.parent_death_signal()),
        PrctlOption::PR_GET_DUMPABLE => Ok(ctx.group().dumpable() as u64),
        PrctlOption::PR_SET_DUMPABLE => {
            if arg2 > 1 {
                return invalid;
            }
            ctx.group().set_dumpable(arg2 as i32);
            Ok(0)
        }
        PrctlOption::PR_SET_NAME => {
            let name = match ctx.read_string(arg2, TASK_COMM_LEN - 1) {
                Err(Errno::ENAMETOOLONG) => {
                    let mut name = vec![0; TASK_COMM_LEN - 1];
                    ctx.read_bytes(arg2, &mut name)?;
                    name
                }
                name => name?,
            };
            ctx.set_name(&name);
            Ok(0)
        }
        PrctlOption::PR_GET_NAME => {
            let mut name = ctx.name();
            name.resize(TASK_COMM_LEN, 0);
            ctx.write_bytes(arg2, &name)?;
            Ok(0)
        }
        PrctlOption::PR_GET_KEEPCAPS => Ok(u64::from(bits(&ctx.credentials()).contains(SecureBits::SECBIT_KEEP_CAPS))),
        PrctlOption::PR_SET_KEEPCAPS => set_keep_capabilities(ctx, arg2),
        PrctlOption::PR_GET_SECUREBITS => Ok(u64::from(ctx.credentials().securebits)),
        PrctlOption::PR_SET_SECUREBITS => set_secure_bits(ctx, arg2),
        PrctlOption::PR_CAPBSET_READ => {
            let capability =
                Capability::known(arg2.min(u64::from(u32::MAX)) as u32).ok_or_else(|| Errno::EINVAL.here())?;
            Ok(u64::from(ctx.credentials().bounding.contains(capability)))
        }
        PrctlOption::PR_CAPBSET_DROP => {
            let old = ctx.credentials();
            if !old.has(Capability::CAP_SETPCAP) {
                return Err(Errno::EPERM.here().into());
            }
            let capability =
                Capability::known(arg2.min(u64::from(u32::MAX)) as u32).ok_or_else(|| Errno::EINVAL.here())?;
            let bounding = old.bounding.without(capability);
            ctx.commit_credentials(Credentials { bounding, ..Credentials::clone(&old) });
            Ok(0)
        }
        PrctlOption::PR_CAP_AMBIENT => ambient(ctx, AmbientOperation::from_raw(arg2 as u32), arg3, arg4 | arg5),
        PrctlOption::PR_GET_TSC => write(ctx, arg2, PR_TSC_ENABLE as u32),
        PrctlOption::PR_SET_TSC if arg2 == PR_TSC_ENABLE => Ok(0),
        PrctlOption::PR_SET_TIMERSLACK => {
            if !ctx.schedule().is_real_time() {
                ctx.change_settings(|settings| {
                    settings.timer_slack = if arg2 == 0 { settings.default_timer_slack } else { arg2 };
                });
            }
            Ok(0)
        }
        PrctlOption::PR_GET_SECCOMP => Ok(ctx.seccomp().mode().raw().into()),
        PrctlOption::PR_SET_SECCOMP => super::seccomp::set_mode(ctx, arg2, arg3),
        PrctlOption::PR_GET_TIMERSLACK => Ok(ctx.settings().timer_slack),
        PrctlOption::PR_GET_TIMING => Ok(0),
        PrctlOption::PR_SET_TIMING if arg2 == 0 => Ok(0),
        PrctlOption::PR_MCE_KILL => mce_kill(ctx, arg2, arg3, arg4 | arg5),
        PrctlOption::PR_MCE_KILL_GET if none => Ok(ctx.settings().memory_errors),
        PrctlOption::PR_SET_IO_FLUSHER => {
            require_resource_rights(ctx)?;
            if arg2 > 1 || !none_after_2 {
                return invalid;
            }
            // Has no effect: the sentry never waits for I/O to get memory.
            ctx.change_settings(|settings| settings.io_flusher = arg2 == 1);
            Ok(0)
        }
        PrctlOption::PR_GET_IO_FLUSHER => {
            require_resource_rights(ctx)?;
            if none { Ok(u64::from(ctx.settings().io_flusher)) } else { invalid }
        }
        PrctlOption::PR_SET_CHILD_SUBREAPER => {
            ctx.kernel().processes.lock().set_subreaper(ctx.group(), arg2 != 0);
            Ok(0)
        }
        PrctlOption::PR_GET_CHILD_SUBREAPER => write(ctx, arg2, u32::from(ctx.group().is_subreaper())),
        PrctlOption::PR_SET_NO_NEW_PRIVS if arg2 == 1 && none_after_2 => {
            let _state = ctx.group().state();
            ctx.seccomp().set_no_new_privs();
            Ok(0)
        }
        PrctlOption::PR_GET_NO_NEW_PRIVS if none => Ok(u64::from(ctx.seccomp().no_new_privs())),
        PrctlOption::PR_GET_TID_ADDRESS => {
            ctx.write_object(arg2, &ctx.thread.clear_child_tid)?;
            Ok(0)
        }
        PrctlOption::PR_SET_THP_DISABLE if none_after_2 => {
            // Has no effect: there are no huge pages.
            ctx.mm().set_flags(MemoryFlags::NO_HUGE_PAGES, arg2 != 0);
            Ok(0)
        }
        PrctlOption::PR_GET_THP_DISABLE if none => Ok(u64::from(ctx.mm().flags().contains(MemoryFlags::NO_HUGE_PAGES))),
        PrctlOption::PR_SET_MM => prctl_memory::set_memory_map(ctx, arg2, arg3, arg4, arg5),
        PrctlOption::PR_SET_VMA => prctl_memory::name_memory(ctx, arg2, arg3, arg4, arg5),
        PrctlOption::PR_GET_AUXV if arg4 | arg5 == 0 => prctl_memory::auxiliary_vector(ctx, arg2, arg3),
        PrctlOption::PR_SET_MDWE if none_after_2 => prctl_memory::refuse_exec_gain(ctx, arg2),
        PrctlOption::PR_GET_MDWE if none => Ok(prctl_memory::exec_gain_rule(ctx)),
        PrctlOption::PR_GET_SPECULATION_CTRL if arg3 | arg4 | arg5 == 0 => match arg2 {
            PR_SPEC_STORE_BYPASS | PR_SPEC_INDIRECT_BRANCH | PR_SPEC_L1D_FLUSH => Ok(PR_SPEC_NOT_AFFECTED),
            _ => Err(Errno::ENODEV.here().into()),
        },
        PrctlOption::PR_SET_SPECULATION_CTRL if arg4 | arg5 == 0 => match arg2 {
            PR_SPEC_STORE_BYPASS | PR_SPEC_INDIRECT_BRANCH | PR_SPEC_L1D_FLUSH => Err(Errno::ENXIO.here().into()),
            _ => Err(Errno::ENODEV.here().into()),
        },
        _ => {
            if option.name().is_none() {
                log::debug!("prctl option {} is unknown", option.raw());
            }
            invalid
        }
    }
}

fn write(ctx: &TaskContext, address: u64, value: impl Into<i64>) -> SysResult {
    ctx.write_object(address, &(value.into() as i32))?;
    Ok(0)
}

fn bits(credentials: &Credentials) -> SecureBits {
    SecureBits::from_bits_retain(credentials.securebits)
}

fn set_keep_capabilities(ctx: &TaskContext, value: u64) -> SysResult {
    let old = ctx.credentials();
    let mut new = bits(&old);
    if value > 1 {
        return Err(Errno::EINVAL.here().into());
    }
    if new.contains(SecureBits::SECBIT_KEEP_CAPS_LOCKED) {
        return Err(Errno::EPERM.here().into());
    }
    new.set(SecureBits::SECBIT_KEEP_CAPS, value == 1);
    ctx.commit_credentials(Credentials { securebits: new.bits(), ..Credentials::clone(&old) });
    Ok(0)
}

fn set_secure_bits(ctx: &TaskContext, value: u64) -> SysResult {
    let old = ctx.credentials();
    let now = bits(&old);
    let locks = |set: SecureBits| {
        let all = SecureBits::SECBIT_NOROOT_LOCKED
            | SecureBits::SECBIT_NO_SETUID_FIXUP_LOCKED
            | SecureBits::SECBIT_KEEP_CAPS_LOCKED
            | SecureBits::SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
        (set & all).bits()
    };
    // The lock of a bit is the bit above it.
    let locked = locks(now) >> 1;
    let new = value as u32;
    let refused = (locked & (now.bits() ^ new)) != 0
        || locks(now) & !new != 0
        || value & !u64::from(SecureBits::all().bits()) != 0
        || !old.has(Capability::CAP_SETPCAP);
    if refused {
        return Err(Errno::EPERM.here().into());
    }
    ctx.commit_credentials(Credentials { securebits: new, ..Credentials::clone(&old) });
    Ok(0)
}

fn ambient(ctx: &TaskContext, operation: AmbientOperation, number: u64, rest: u64) -> SysResult {
    let old = ctx.credentials();
    let set = |ambient| {
        ctx.commit_credentials(Credentials { ambient, ..Credentials::clone(&old) });
        Ok(0)
    };
    if rest != 0 {
        return Err(Errno::EINVAL.here().into());
    }
    if operation == AmbientOperation::PR_CAP_AMBIENT_CLEAR_ALL {
        return if number == 0 { set(CapabilitySet::EMPTY) } else { Err(Errno::EINVAL.here().into()) };
    }
    let capability = Capability::known(number.min(u64::from(u32::MAX)) as u32).ok_or_else(|| Errno::EINVAL.here())?;
    match operation {
        AmbientOperation::PR_CAP_AMBIENT_IS_SET => Ok(u64::from(old.ambient.contains(capability))),
        AmbientOperation::PR_CAP_AMBIENT_LOWER => set(old.ambient.without(capability)),
        AmbientOperation::PR_CAP_AMBIENT_RAISE => {
            let allowed = old.permitted.contains(capability)
                && old.inheritable.contains(capability)
                && !bits(&old).contains(SecureBits::SECBIT_NO_CAP_AMBIENT_RAISE);
            if allowed { set(old.ambient.with(capability)) } else { Err(Errno::EPERM.here().into()) }
        }
        _ => Err(Errno::EINVAL.here().into()),
    }
}

/// `PR_MCE_KILL`. Hardware memory errors do not reach guests, so the policy has no effect.
fn mce_kill(ctx: &TaskContext, how: u64, policy: u64, rest: u64) -> SysResult {
    let new = match how {
        _ if rest != 0 => None,
        PR_MCE_KILL_CLEAR => (policy == 0).then_some(PR_MCE_KILL_DEFAULT),
        PR_MCE_KILL_SET => {
            [PR_MCE_KILL_EARLY, PR_MCE_KILL_LATE, PR_MCE_KILL_DEFAULT].into_iter().find(|&p| p == policy)
        }
        _ => None,
    };
    let new = new.ok_or_else(|| Errno::EINVAL.here())?;
    ctx.change_settings(|settings| settings.memory_errors = new);
    Ok(0)
}

fn require_resource_rights(ctx: &TaskContext) -> Result<(), Errno> {
    if ctx.credentials().has(Capability::CAP_SYS_RESOURCE) { Ok(()) } else { Err(Errno::EPERM.here()) }
}

/// arch_prctl(2).
pub(crate) fn arch_prctl(ctx: &mut TaskContext, code: ArchPrctl, address: PtrOut) -> SysResult {
    let limit = ctx.kernel().platform.address_limit();
    match code {
        ArchPrctl::ARCH_SET_FS | ArchPrctl::ARCH_SET_GS => {
            if address.0 >= limit {
                return Err(Errno::EPERM.here().into());
            }
            if code == ArchPrctl::ARCH_SET_FS {
                (ctx.registers.fs_base, ctx.registers.fs) = (address.0, 0);
            } else {
                (ctx.registers.gs_base, ctx.registers.gs) = (address.0, 0);
            }
            Ok(0)
        }
        ArchPrctl::ARCH_GET_FS => {
            ctx.write_object(address.0, &ctx.registers.fs_base)?;
            Ok(0)
        }
        ArchPrctl::ARCH_GET_GS => {
            ctx.write_object(address.0, &ctx.registers.gs_base)?;
            Ok(0)
        }
        ArchPrctl::ARCH_GET_CPUID => Ok(1),
        ArchPrctl::ARCH_SET_CPUID => Err(Errno::ENODEV.here().into()),
        ArchPrctl::ARCH_GET_XCOMP_SUPP | ArchPrctl::ARCH_GET_XCOMP_PERM => {
            ctx.write_object(address.0, &XFEATURES)?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL.here().into()),
    }
}

/// personality(2).
pub(crate) fn personality(ctx: &mut TaskContext, new: Personality) -> SysResult {
    let old = ctx.settings().personality;
    if new.bits() != QUERY {
        ctx.change_settings(|settings| settings.personality = new.bits());
    }
    Ok(u64::from(old))
}
