//! Addresses and descriptors in a stub.

use amber_platform::PAGE_SIZE;

/// The guest's task size: the first address that a guest cannot map.
pub(crate) const ADDRESS_LIMIT: u64 = 0x7fff_ffff_0000;
/// The page of stub code.
pub(crate) const CODE: u64 = 0x7fff_ffff_c000;
/// Load address of the zygote's program file, whose code is then mapped at [`CODE`].
pub(crate) const LOAD_ADDRESS: u64 = 0x40_0000;
/// The command pages: shared with the sentry, read-only in the stub.
pub(crate) const COMMANDS: u64 = 0x7fff_ffff_d000;
/// Size of the command pages of one stub.
pub(crate) const COMMAND_BYTES: u64 = 2 * PAGE_SIZE;
/// The host's task size.
pub(crate) const HOST_LIMIT: u64 = 0x7fff_ffff_f000;
/// Maximum number of address spaces at a time.
pub(crate) const MAX_SPACES: u64 = 32768;

/// The stub's descriptor of guest memory.
pub(crate) const MEMORY_FD: i32 = 0;
/// The stub's descriptor of the memory of all stubs' command pages.
pub(crate) const COMMAND_FD: i32 = 1;
/// The zygote's descriptor of its program file, which is closed before any guest runs.
pub(crate) const IMAGE_FD: i32 = 2;
