//! Where things lie in a stub.

use amber_platform::PAGE_SIZE;

/// First address the guest may not map.
pub const ADDRESS_LIMIT: u64 = 0x7fff_ffff_0000;
/// The page of stub code.
pub const CODE: u64 = 0x7fff_ffff_c000;
/// Where the zygote's program file is loaded before it moves to [`CODE`].
pub const LOAD_ADDRESS: u64 = 0x40_0000;
/// The commands for the stub, shared with the sentry, read-only here.
pub const COMMANDS: u64 = 0x7fff_ffff_d000;
/// Bytes of commands a stub has room for.
pub const COMMAND_BYTES: u64 = 2 * PAGE_SIZE;
/// End of what user code can map on the host.
pub const HOST_LIMIT: u64 = 0x7fff_ffff_f000;
/// The most address spaces there can be at once.
pub const MAX_SPACES: u64 = 32768;

/// The stub's descriptor of guest memory.
pub const MEMORY_FD: i32 = 0;
/// The stub's descriptor of all command pages.
pub const COMMAND_FD: i32 = 1;
/// The zygote's descriptor of its program, closed before guests run.
pub const IMAGE_FD: i32 = 2;
