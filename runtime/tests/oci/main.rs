//! Tests of `amber` as an OCI runtime, driven as containerd's shim drives one.
#![forbid(unsafe_code)]

mod bad_input;
mod common;
mod credentials;
mod descriptors;
mod exec;
mod forms;
mod hooks;
mod isolation;
mod leftovers;
mod lifecycle;
mod memory;
mod messages;
mod proc_view;
mod systemd;
mod systemd_bus;
mod terminal;
mod user_namespace;
