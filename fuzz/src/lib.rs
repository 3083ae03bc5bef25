//! What the fuzz targets share: a kernel in the process of the fuzzer, and guests that do what the input says.

pub mod arena;
pub mod calls;
pub mod guest;
pub mod root;
pub mod script;

pub use guest::{Guest, with_guest};
pub use script::{ARENA, ARENA_SIZE, Arg, Op, PATH};
