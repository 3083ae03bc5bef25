//! `/proc/sys/net` with parameters of another kernel, which come and go with its interfaces.

use std::sync::Arc;

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;

use crate::fs::proc::parameters::{self, Foreign};
use crate::fs::pseudo::{Entry, Listed, Listing, Query, Subject};
use crate::kernel::Kernel;
use crate::net::inet::{ForeignParameter, NetworkFacts, Parameters};

/// `/proc/sys/net` if another kernel has the network. The parameters of AF_UNIX are always the sentry's.
pub(super) static FOREIGN: Foreign =
    Foreign { directory: "net", own: "unix", is_present: |kernel| of(kernel).is_some(), find: find_with_own, list };

/// The first unprivileged port, which the sentry checks as well.
const FIRST_PORT: &str = "net/ipv4/ip_unprivileged_port_start";

static DIRECTORY: Entry = Entry::listing("", 0o555, &[], &Below);
static VARIABLE: Entry = Entry::writable("", 0o644, content, store);
static VARIABLE_OF_ROOT: Entry = Entry::writable("", 0o600, content, store);
static ORDER: Entry = Entry::writable("", 0o200, content, store);
static FIXED: Entry = Entry::file("", 0o444, content);
static FIXED_OF_ROOT: Entry = Entry::file("", 0o400, content);

/// The other kernel's parameters; none if the network is the sentry's own.
fn of(kernel: &Kernel) -> Option<&dyn Parameters> {
    match kernel.network.inet.network_facts() {
        NetworkFacts::Foreign(foreign) => Some(foreign.parameters()),
        NetworkFacts::Own(_) => None,
    }
}

fn entry_of(found: &ForeignParameter, can_change: bool) -> &'static Entry {
    let readable = (found.permissions & 0o400 != 0, found.permissions & 0o004 != 0);
    match (found.is_directory, can_change && found.permissions & 0o200 != 0, readable) {
        (true, ..) => &DIRECTORY,
        (_, true, (_, true)) => &VARIABLE,
        (_, true, (true, false)) => &VARIABLE_OF_ROOT,
        (_, true, (false, false)) => &ORDER,
        (_, false, (_, true)) => &FIXED,
        (_, false, _) => &FIXED_OF_ROOT,
    }
}

/// The entry at a path below `/proc/sys`.
///
/// # Errors
/// `ENOENT` if it does not exist, or the network is the sentry's own.
fn find(kernel: &Kernel, path: &str) -> Result<(&'static Entry, Subject), Errno> {
    let parameters = of(kernel).ok_or_else(|| Errno::ENOENT.here())?;
    let entry = entry_of(&parameters.find(path)?, parameters.can_change());
    Ok((entry, Subject { path: Some(path.into()), ..Subject::default() }))
}

/// Like [`find`], but with the sentry's own file for the first unprivileged port.
fn find_with_own(kernel: &Kernel, path: &str) -> Result<(&'static Entry, Subject), Errno> {
    match parameters::file_of(kernel, path).filter(|_| path == FIRST_PORT) {
        Some(own) => Ok(own),
        None => find(kernel, path),
    }
}

/// The entries of a directory at a path below `/proc/sys`, with cookies from `cookie` on.
///
/// # Errors
/// `ENOENT` if it no longer exists.
fn list(kernel: &Kernel, path: &str, cookie: u64) -> Result<Vec<Listed>, Errno> {
    let Some(parameters) = of(kernel) else { return Ok(Vec::new()) };
    let can_change = parameters.can_change();
    let all = parameters.list(path)?.into_iter().zip(cookie..);
    Ok(all
        .map(|(found, cookie)| {
            let entry = entry_of(&found, can_change);
            Listed { cookie, name: found.name, entry }
        })
        .collect())
}

fn path_of<'a>(query: &Query<'a>) -> Result<&'a str, Errno> {
    query.subject.path.as_deref().ok_or_else(|| Errno::ENOENT.here())
}

fn content(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    of(query.kernel).ok_or_else(|| Errno::ENOENT.here())?.read(path_of(query)?)
}

fn store(query: &Query<'_>, value: &[u8]) -> Result<(), Errno> {
    if !query.caller().1.has(Capability::CAP_NET_ADMIN) {
        return Err(Errno::EPERM.here());
    }
    let path = path_of(query)?;
    of(query.kernel).ok_or_else(|| Errno::ENOENT.here())?.write(path, value)?;
    follow(query.kernel, path);
    Ok(())
}

/// Copies values of the other kernel's parameters of AF_INET and AF_INET6 to the sentry's.
pub(crate) fn adopt(kernel: &Kernel) {
    let of_network = |path: &str| path.starts_with("net/") && !path.starts_with("net/unix/");
    for parameter in kernel.fs.registry.parameters().iter().filter(|parameter| of_network(parameter.path())) {
        follow(kernel, parameter.path());
    }
}

/// Copies the value of another kernel's parameter, if the sentry has the parameter as well.
fn follow(kernel: &Kernel, path: &str) {
    let parameter = parameters::find(kernel, path).filter(|parameter| !parameter.is_fixed());
    let Some((parameter, others)) = parameter.zip(of(kernel)) else { return };
    let Ok(value) = others.read(path) else { return };
    if let Err(errno) = parameter.set(kernel, &value) {
        log::info!("{path} is {} on the host: {errno}", String::from_utf8_lossy(value.trim_ascii()));
    }
}

/// The entries of a directory of the other kernel.
struct Below;

impl Listing for Below {
    fn find(&self, kernel: &Arc<Kernel>, subject: &Subject, name: &[u8]) -> Result<(&'static Entry, Subject), Errno> {
        let directory = subject.path.as_deref().ok_or_else(|| Errno::ENOENT.here())?;
        let name = std::str::from_utf8(name).map_err(|_| Errno::ENOENT.here())?;
        find_with_own(kernel, &format!("{directory}/{name}"))
    }

    fn list(&self, kernel: &Arc<Kernel>, subject: &Subject) -> Result<Vec<Listed>, Errno> {
        list(kernel, subject.path.as_deref().ok_or_else(|| Errno::ENOENT.here())?, 1)
    }
}
