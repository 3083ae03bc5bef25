//! membarrier(2).

use amber_abi::errno::Errno;
use amber_abi::sched::MembarrierCommand;

use crate::error::SysResult;
use crate::task::TaskContext;

/// The supported commands. Global ones are not among them, as on a kernel with full dynamic ticks, since they would
/// have to reach every process. Programs query them first (`MEMBARRIER_CMD_QUERY`).
const OFFERED: u32 = MembarrierCommand::MEMBARRIER_CMD_PRIVATE_EXPEDITED.raw()
    | MembarrierCommand::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED.raw()
    | MembarrierCommand::MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE.raw()
    | MembarrierCommand::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE.raw()
    | MembarrierCommand::MEMBARRIER_CMD_GET_REGISTRATIONS.raw();

/// membarrier(2).
pub(crate) fn membarrier(ctx: &mut TaskContext, command: MembarrierCommand, flags: u32, _cpu: i32) -> SysResult {
    use MembarrierCommand as Command;
    if flags != 0 {
        return Err(Errno::EINVAL.here().into());
    }
    let mm = ctx.mm();
    match command {
        Command::MEMBARRIER_CMD_QUERY => Ok(u64::from(OFFERED)),
        Command::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED
        | Command::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE => {
            mm.register_barrier(command.raw());
            Ok(0)
        }
        Command::MEMBARRIER_CMD_PRIVATE_EXPEDITED | Command::MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE => {
            // The bit of a registration is the one above its command.
            if mm.barrier_registrations() & (command.raw() << 1) == 0 {
                return Err(Errno::EPERM.here().into());
            }
            mm.space().synchronize();
            Ok(0)
        }
        Command::MEMBARRIER_CMD_GET_REGISTRATIONS => Ok(u64::from(mm.barrier_registrations())),
        _ => Err(Errno::EINVAL.here().into()),
    }
}
