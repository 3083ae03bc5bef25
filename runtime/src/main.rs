//! The `amber` program.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use amber_platform::CountedHeap;

/// Counts the heap that guests make the kernel use towards their memory limit.
#[global_allocator]
static HEAP: CountedHeap = CountedHeap;

fn main() -> ExitCode {
    amber_runtime::main()
}
