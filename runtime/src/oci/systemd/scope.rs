//! The unit of a container: its name and place.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use zvariant::Value;

use super::Property;

/// The maximum length of a unit's name.
const LONGEST: usize = 255;

/// A scope: a unit of processes that systemd did not start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scope {
    /// The name.
    pub name: String,
    /// Its slice.
    pub slice: String,
    /// Whether it belongs to the user manager instead of the system manager.
    pub user: bool,
}

impl Scope {
    /// The scope in `cgroupsPath` (`SLICE:PREFIX:NAME`) or, if that is empty, the default one of the container.
    ///
    /// # Errors
    /// The name is malformed.
    pub(crate) fn named(path: Option<&str>, id: &str, user: bool) -> Result<Scope> {
        let malformed = |name: &str| {
            format!(
                "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {name:?} instead"
            )
        };
        let parts: Vec<&str> = path.map_or_else(|| vec!["", "amber", id], |path| path.split(':').collect());
        let &[slice, prefix, name] = parts.as_slice() else {
            anyhow::bail!(malformed(path.unwrap_or_default()));
        };
        let default = if user { "user.slice" } else { "system.slice" };
        let slice = if slice.is_empty() { default } else { slice };
        let name = format!("{prefix}-{name}.scope");
        for unit in [slice, &name] {
            let good = |c: char| c.is_ascii_alphanumeric() || "_.-\\@:".contains(c);
            ensure!(unit.len() <= LONGEST && unit.chars().all(good), "{unit:?} is no name of a systemd unit");
        }
        let stem = slice.strip_suffix(".slice").with_context(|| format!("invalid slice name: {slice}"))?;
        ensure!(stem == "-" || !stem.split('-').any(str::is_empty), "invalid slice name: {slice}");
        Ok(Scope { name, slice: slice.to_owned(), user })
    }

    /// The path of its control group in the manager's tree. A slice is below those that are prefixes of its name.
    pub(crate) fn path(&self) -> PathBuf {
        let stem = self.slice.strip_suffix(".slice").unwrap_or(&self.slice);
        let mut path = PathBuf::new();
        if stem != "-" {
            for (end, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
                path.push(format!("{}.slice", stem.get(..end).unwrap_or_default()));
            }
        }
        path.join(&self.name)
    }

    /// The properties of the unit: its process, accounting, and delegation of its groups.
    pub(crate) fn properties(&self, id: &str, pid: u32, io_accounting: &str) -> Vec<Property> {
        let mut all: Vec<Property> = vec![
            ("Description".into(), format!("Amber container {id}").into()),
            ("Slice".into(), self.slice.clone().into()),
            ("Delegate".into(), true.into()),
            ("PIDs".into(), Value::from(vec![pid])),
            ("DefaultDependencies".into(), false.into()),
        ];
        let counted = ["MemoryAccounting", "CPUAccounting", io_accounting, "TasksAccounting"];
        all.extend(counted.map(|name| (name.to_owned(), true.into())));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_lie_in_slices() {
        let path = |name: &str| Scope::named(Some(name), "id", false).unwrap().path().display().to_string();
        assert_eq!(path("system.slice:docker:1"), "system.slice/docker-1.scope");
        assert_eq!(path("a-b.slice:x:1"), "a.slice/a-b.slice/x-1.scope");
        assert_eq!(path("::1"), "system.slice/-1.scope");
        assert_eq!(path("-.slice:x:1"), "x-1.scope");
    }

    #[test]
    fn who_names_nothing_has_a_scope_all_the_same() {
        let scope = |user| Scope::named(None, "box", user).unwrap();
        assert_eq!(scope(false).path().to_str(), Some("system.slice/amber-box.scope"));
        assert_eq!(scope(true).path().to_str(), Some("user.slice/amber-box.scope"));
    }

    #[test]
    fn names_that_are_none_are_refused() {
        let long = format!("a.slice:x:{}", "y".repeat(300));
        for bad in [
            "",
            "/docker/1",
            "a:b:c",
            "a.slice:b",
            "a.slice:b:c:d",
            "../x.slice:b:c",
            "a.slice:b:../c",
            "-a.slice:b:c",
            "a--b.slice:b:c",
            ".slice:b:c",
            "a.slice:b c:d",
            &long,
        ] {
            assert!(Scope::named(Some(bad), "id", false).is_err(), "{bad}");
        }
    }
}
