//! The `amber` program.
#![forbid(unsafe_code)]

fn main() {}
