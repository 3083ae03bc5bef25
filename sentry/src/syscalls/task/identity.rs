//! Who am I: the numbers of tasks, groups and users.

use crate::error::SysResult;
use crate::task::TaskContext;

/// getpid(2).
pub fn getpid(ctx: &mut TaskContext) -> SysResult {
    Ok(ctx.group().pid() as u64)
}
