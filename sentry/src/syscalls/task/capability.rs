//! Capabilities.

use amber_abi::capability::{
    _LINUX_CAPABILITY_VERSION_1, _LINUX_CAPABILITY_VERSION_2, _LINUX_CAPABILITY_VERSION_3, CapUserData, CapUserHeader,
    Capability, CapabilitySet,
};
use amber_abi::errno::Errno;

use crate::credentials::Credentials;
use crate::error::SysResult;
use crate::syscalls::args::{PtrIn, PtrOut};
use crate::task::TaskContext;

/// Reads the header, and the number of words per set in its version. For an invalid version, writes the preferred one.
fn header(ctx: &TaskContext, address: u64) -> Result<(CapUserHeader, usize), Errno> {
    let header: CapUserHeader = ctx.read_object(address)?;
    match header.version {
        _LINUX_CAPABILITY_VERSION_1 => Ok((header, 1)),
        _LINUX_CAPABILITY_VERSION_2 | _LINUX_CAPABILITY_VERSION_3 => Ok((header, 2)),
        _ => {
            ctx.write_object(address, &_LINUX_CAPABILITY_VERSION_3)?;
            Err(Errno::EINVAL.here())
        }
    }
}

/// capget(2).
pub(crate) fn capget(ctx: &mut TaskContext, header_at: PtrOut, data: PtrOut) -> SysResult {
    let (header, words) = match header(ctx, header_at.0) {
        // Querying the version alone is not an error.
        Err(Errno::EINVAL) if data.is_null() => return Ok(0),
        other => other?,
    };
    if data.is_null() {
        return Ok(0);
    }
    let credentials = match header.pid {
        0 => ctx.credentials(),
        ..0 => return Err(Errno::EINVAL.here().into()),
        pid => ctx.kernel().processes.lock().task(pid).ok_or_else(|| Errno::ESRCH.here())?.credentials(),
    };
    let word = |set: CapabilitySet, i: usize| (set.bits() >> (32 * i)) as u32;
    for i in 0..words {
        let part = CapUserData {
            effective: word(credentials.effective, i),
            permitted: word(credentials.permitted, i),
            inheritable: word(credentials.inheritable, i),
        };
        ctx.write_object(data.0.wrapping_add((i * size_of::<CapUserData>()) as u64), &part)?;
    }
    Ok(0)
}

/// capset(2).
pub(crate) fn capset(ctx: &mut TaskContext, header_at: PtrOut, data: PtrIn) -> SysResult {
    let (header, words) = header(ctx, header_at.0)?;
    if header.pid != 0 && header.pid != ctx.tid() {
        return Err(Errno::EPERM.here().into());
    }
    let parts: Vec<CapUserData> = ctx.read_array(data.0, words)?;
    let whole = |field: fn(&CapUserData) -> u32| {
        let bits = parts.iter().enumerate().fold(0, |bits, (i, part)| bits | u64::from(field(part)) << (32 * i));
        CapabilitySet::from_bits(bits)
    };
    let (effective, permitted, inheritable) =
        (whole(|p| p.effective), whole(|p| p.permitted), whole(|p| p.inheritable));
    let old = ctx.credentials();
    let may_inherit = old.has(Capability::CAP_SETPCAP) || old.inheritable.union(old.permitted).is_superset(inheritable);
    let allowed = may_inherit
        && old.inheritable.union(old.bounding).is_superset(inheritable)
        && old.permitted.is_superset(permitted)
        && permitted.is_superset(effective);
    if !allowed {
        return Err(Errno::EPERM.here().into());
    }
    let ambient = old.ambient.intersection(permitted).intersection(inheritable);
    ctx.commit_credentials(Credentials { effective, permitted, inheritable, ambient, ..Credentials::clone(&old) });
    Ok(0)
}
