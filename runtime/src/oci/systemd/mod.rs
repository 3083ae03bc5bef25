//! The control group of a container as a unit of systemd, which then knows what it is: a transient scope, made, changed
//! and stopped by the manager of the system or of a user (`--systemd-cgroup`).

mod bus;
mod manager;
mod properties;
mod scope;
mod text;

pub use manager::Manager;
pub use properties::{limits, of_annotations};
pub use scope::Scope;

/// A property of a unit: name and value.
pub type Property = (String, zvariant::Value<'static>);
