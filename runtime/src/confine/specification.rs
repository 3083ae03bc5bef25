//! The namespaces of an OCI bundle.

use amber_host::users::IdRange;
use amber_sentry::config::NetworkKind;
use anyhow::{Result, bail};
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType};

use super::namespaces::{Kind, Namespace, Namespaces};

impl Namespaces {
    /// The namespaces of a bundle, existing ones included, and the mappings of a new user namespace. IPC, host name and
    /// control groups get new namespaces even if the bundle does not name them; the network is then the host's.
    ///
    /// # Errors
    /// A kind of namespace is named twice.
    pub(crate) fn specified(linux: Option<&Linux>) -> Result<Namespaces> {
        let mut result = Namespaces::default();
        let Some(linux) = linux else { return Ok(Namespaces::own(NetworkKind::Host)) };
        let mut own = vec![Kind::Ipc, Kind::Uts, Kind::Cgroup];
        let mut seen = Vec::new();
        for entry in linux.namespaces().iter().flatten() {
            if seen.contains(&entry.typ()) {
                bail!("`linux.namespaces` has `{}` twice", entry.typ());
            }
            seen.push(entry.typ());
            let kind = match entry.typ() {
                LinuxNamespaceType::User => Kind::User,
                LinuxNamespaceType::Ipc => Kind::Ipc,
                LinuxNamespaceType::Uts => Kind::Uts,
                LinuxNamespaceType::Cgroup => Kind::Cgroup,
                LinuxNamespaceType::Network => Kind::Network,
                // Every sandbox has its own mount namespace. Processes and clocks of the guest are those of its own
                // kernel.
                LinuxNamespaceType::Mount | LinuxNamespaceType::Pid | LinuxNamespaceType::Time => continue,
            };
            own.retain(|other| *other != kind);
            match entry.path() {
                Some(path) => {
                    result.demanded = true;
                    result.list.push(Namespace::Of(kind, path.clone()));
                }
                None => {
                    // Without its network namespace, a container would use the host's network.
                    result.demanded |= kind == Kind::Network;
                    result.list.push(Namespace::New(kind));
                }
            }
        }
        result.list.extend(own.into_iter().map(Namespace::New));
        if result.list.contains(&Namespace::New(Kind::User)) {
            result.demanded = true;
            result.uids = ranges(linux.uid_mappings().as_deref());
            result.gids = ranges(linux.gid_mappings().as_deref());
        }
        Ok(result)
    }
}

fn ranges(list: Option<&[LinuxIdMapping]>) -> Vec<IdRange> {
    let range = |entry: &LinuxIdMapping| IdRange {
        inside: entry.container_id(),
        outside: entry.host_id(),
        count: entry.size(),
    };
    list.unwrap_or_default().iter().map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Namespaces> {
        Namespaces::specified(Some(&serde_json::from_str(text).unwrap()))
    }

    #[test]
    fn what_a_bundle_names_is_joined_or_made() {
        let found =
            read(r#"{"namespaces": [{"type": "network", "path": "/n"}, {"type": "pid"}, {"type": "uts"}]}"#).unwrap();
        let expected = [
            Namespace::Of(Kind::Network, "/n".into()),
            Namespace::New(Kind::Uts),
            Namespace::New(Kind::Ipc),
            Namespace::New(Kind::Cgroup),
        ];
        assert_eq!(found.list, expected);
        assert!(found.demanded && found.uids.is_empty());
    }

    #[test]
    fn users_are_those_of_the_bundle() {
        let mapping = r#"[{"containerID": 0, "hostID": 1000, "size": 1}]"#;
        let text =
            format!(r#"{{"namespaces": [{{"type": "user"}}], "uidMappings": {mapping}, "gidMappings": {mapping}}}"#);
        let found = read(&text).unwrap();
        assert_eq!(found.uids, [IdRange { inside: 0, outside: 1000, count: 1 }]);
        assert!(found.demanded && found.gids == found.uids && !found.list.contains(&Namespace::New(Kind::Network)));
    }

    #[test]
    fn nothing_may_be_named_twice() {
        assert!(read(r#"{"namespaces": [{"type": "ipc"}, {"type": "ipc"}]}"#).is_err());
    }
}
