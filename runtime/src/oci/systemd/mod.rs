//! The control group of a container as a systemd unit, so that systemd can manage it: a transient scope, which the
//! system or user manager makes, changes and stops (`--systemd-cgroup`).

mod bus;
mod manager;
mod properties;
mod scope;
mod text;

pub(crate) use manager::Manager;
pub(crate) use properties::{limits, of_annotations};
pub(crate) use scope::Scope;

/// A property of a unit: name and value.
pub(crate) type Property = (String, zvariant::Value<'static>);
