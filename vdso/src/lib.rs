//! The vDSO: a small shared object that every guest program finds mapped, by which it reads clocks without a system call.
//!
//! It is two pages: one of data, which the sentry fills and keeps true ([`data`] says what is where), and behind it one
//! with the ELF image ([`image`]).

mod code;
pub mod data;
mod elf;

pub use elf::image;

/// Bytes in the page of data, and in that of the image.
pub const PAGE: usize = 4096;
