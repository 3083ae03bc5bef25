//! Linux as data: the numbers, structures and flags of its x86-64 user interface.
#![forbid(unsafe_code)]
