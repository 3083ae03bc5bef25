//! The `amber` program.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use amber_platform::CountedHeap;

/// What guests make the kernel keep counts for their memory.
#[global_allocator]
static HEAP: CountedHeap = CountedHeap;

fn main() -> ExitCode {
    amber_runtime::main()
}
