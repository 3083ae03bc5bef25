//! Network parameters of a bundle (`linux.sysctl`), set while this process has the right to.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Sets the parameters that belong to the host, in this process's network namespace, and leaves the others in the list.
///
/// # Errors
/// Names the parameter that cannot be set; none can unless the namespace is the sandbox's own.
pub(super) fn set(parameters: &mut Vec<(String, String)>, own: bool) -> Result<()> {
    let (network, others) = parameters.drain(..).partition(|(name, _)| is_of_network(&path_of(name)));
    *parameters = others;
    let network: Vec<(String, String)> = network;
    for (name, value) in network {
        ensure!(own, "sysctl {name:?} is not allowed in the host's network namespace");
        write(&path_of(&name), &value).with_context(|| format!("sysctl {name}={value}"))?;
    }
    Ok(())
}

/// The path below `/proc/sys`.
fn path_of(name: &str) -> String {
    name.replace('.', "/")
}

/// Whether the host has a network parameter; those of AF_UNIX belong to the sentry.
fn is_of_network(path: &str) -> bool {
    path.starts_with("net/") && !path.starts_with("net/unix/")
}

fn write(path: &str, value: &str) -> Result<()> {
    ensure!(path.split('/').all(|name| !["", ".", ".."].contains(&name)), "no such parameter");
    let mut file = OpenOptions::new().write(true).open(Path::new("/proc/sys").join(path))?;
    Ok(file.write_all(value.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<(String, String)> {
        names.iter().map(|name| (name.to_string(), "1".to_owned())).collect()
    }

    #[test]
    fn those_of_the_host_stay_as_they_are() {
        let mut parameters = list(&["kernel.msgmax", "net.unix.max_dgram_qlen"]);
        set(&mut parameters, false).unwrap();
        assert_eq!(parameters, list(&["kernel.msgmax", "net.unix.max_dgram_qlen"]));
        assert!(set(&mut list(&["net.ipv4.ip_forward"]), false).is_err());
    }

    #[test]
    fn names_lead_nowhere_else() {
        for name in ["net..ipv4", "net.ipv4/../../kernel/msgmax", "net.", "net.nothing.there"] {
            assert!(set(&mut list(&[name]), true).is_err(), "{name}");
        }
    }
}
