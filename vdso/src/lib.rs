//! The vDSO: a small shared object that is mapped into every guest program, so that it can read clocks without a system
//! call.
//!
//! It has two pages: a data page that the sentry keeps up to date (layout in [`data`]), followed by the page of the ELF
//! image ([`image`]). The image is generated here rather than by a linker script, because it needs five functions, one
//! page and no tool beyond the compiler.

mod code;
pub mod data;
mod elf;

pub use elf::image;

/// Size of the data page, and of the image.
pub const PAGE: usize = 4096;
