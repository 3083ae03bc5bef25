//! Tests of the program `amber`, started as a user starts it.

mod bad_input;
mod behaviour;
mod common;
mod confinement;
mod host_acls;
mod host_changes;
mod host_trees;
mod isolation;
mod lifecycle;
mod metrics;
mod platforms;
mod terminal;
