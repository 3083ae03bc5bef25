//! Calls of the systemd manager on units.

use std::env;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::geteuid;
use zvariant::{OwnedObjectPath, OwnedValue, Value};

use super::Property;
use super::bus::{Bus, Message, MethodError, Object};

/// The timeout of an operation of systemd.
const TIMEOUT: Duration = Duration::from_secs(30);

const MANAGER: Object<'static> = Object {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};

const PROPERTIES: Object<'static> = Object { interface: "org.freedesktop.DBus.Properties", ..MANAGER };

/// Of the signals, only the end of a job is used.
const JOB_ENDS: &str = "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',\
                        interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";

/// The ID, job, unit and result.
type JobRemoved = (u32, OwnedObjectPath, String, String);

/// A connection to a manager.
pub(crate) struct Manager {
    bus: Bus,
    /// The version of systemd.
    pub version: u32,
}

impl Manager {
    /// Connects to the system manager or, for `user`, to that of the calling user.
    ///
    /// # Errors
    /// There is no systemd, or its bus does not reply.
    pub(crate) fn connect(user: bool) -> Result<Manager> {
        let found = if user { user_bus() } else { system_bus() };
        let version = |mut bus: Bus| -> Result<Manager> {
            let version = property(&mut bus, "Version")?;
            let digits = version.trim_start_matches(|c: char| !c.is_ascii_digit());
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            let number = digits.get(..end).and_then(|digits| digits.parse().ok());
            let version = number.with_context(|| format!("systemd calls its release {version:?}"))?;
            Ok(Manager { bus, version })
        };
        found.and_then(version).map_err(|error| {
            if Path::new("/run/systemd/system").is_dir() {
                error.context("connecting to systemd")
            } else {
                error.context("systemd not running on this host, cannot use systemd cgroups manager")
            }
        })
    }

    /// The control group at the root of the manager's tree.
    ///
    /// # Errors
    /// The manager does not reply.
    pub(crate) fn control_group(&mut self) -> Result<String> {
        property(&mut self.bus, "ControlGroup")
    }

    /// Starts a transient unit and waits until it is active. A failed unit of that name is reset first.
    ///
    /// # Errors
    /// The unit exists, or systemd refuses a property.
    pub(crate) fn start(&mut self, unit: &str, properties: &[Property]) -> Result<()> {
        let auxiliary: [(&str, Vec<Property>); 0] = [];
        let call = |bus: &mut Bus| {
            bus.call(MANAGER.method("StartTransientUnit"), &(unit, "replace", properties, auxiliary.as_slice()))
        };
        let answer = match call(&mut self.bus) {
            Err(error) if is(&error, "UnitExists") => {
                self.forget_failure(unit);
                call(&mut self.bus)
            }
            answer => answer,
        };
        let ended = answer.and_then(|answer| self.finish(&answer));
        let result = ended.with_context(|| format!("unable to start unit {unit:?}"))?;
        if result != "done" {
            self.forget_failure(unit);
            bail!("error creating systemd unit `{unit}`: got `{result}`");
        }
        Ok(())
    }

    /// Stops a unit and waits until it is inactive. A missing unit is not an error.
    ///
    /// # Errors
    /// The unit does not stop.
    pub(crate) fn stop(&mut self, unit: &str) -> Result<()> {
        let result = match self.bus.call(MANAGER.method("StopUnit"), &(unit, "replace")) {
            Err(error) if is(&error, "NoSuchUnit") => return Ok(()),
            answer => answer.and_then(|answer| self.finish(&answer)),
        };
        // A failed unit remains until it is reset.
        self.forget_failure(unit);
        let shown = || format!("stopping systemd unit `{unit}`");
        let result = result.with_context(shown)?;
        ensure!(matches!(result.as_str(), "done" | "canceled"), "{}: got `{result}`", shown());
        Ok(())
    }

    /// Changes properties of a unit until the next boot.
    ///
    /// # Errors
    /// systemd refuses a property.
    pub(crate) fn set(&mut self, unit: &str, properties: &[Property]) -> Result<()> {
        self.bus
            .call(MANAGER.method("SetUnitProperties"), &(unit, true, properties))
            .map(drop)
            .with_context(|| format!("changing systemd unit `{unit}`"))
    }

    fn forget_failure(&mut self, unit: &str) {
        if let Err(error) = self.bus.call(MANAGER.method("ResetFailedUnit"), &(unit,))
            && !is(&error, "NoSuchUnit")
        {
            log::warn!("resetting systemd unit `{unit}`: {error:#}");
        }
    }

    /// Waits for the end of the job in the reply, and returns the job's result.
    fn finish(&mut self, answer: &Message) -> Result<String> {
        let (job,) = answer.arguments::<(OwnedObjectPath,)>()?;
        let end = Instant::now() + TIMEOUT;
        loop {
            let signal = self.bus.signal(end).context("waiting for systemd's job")?;
            // Any process could send a signal with that name.
            if signal.sender != answer.sender || !signal.is_signal(MANAGER.interface, "JobRemoved") {
                continue;
            }
            let (_, removed, _, result) = signal.arguments::<JobRemoved>()?;
            if removed == job {
                return Ok(result);
            }
        }
    }
}

fn property(bus: &mut Bus, name: &str) -> Result<String> {
    let answer = bus.call(PROPERTIES.method("Get"), &(MANAGER.interface, name))?;
    let (value,) = answer.arguments::<(OwnedValue,)>()?;
    match &*value {
        Value::Str(text) => Ok(text.to_string()),
        other => bail!("systemd's {name} is {other:?}"),
    }
}

fn is(error: &anyhow::Error, name: &str) -> bool {
    let full = |error: &MethodError| error.name.strip_prefix("org.freedesktop.systemd1.") == Some(name);
    error.downcast_ref::<MethodError>().is_some_and(full)
}

fn ready(mut bus: Bus) -> Result<Bus> {
    bus.hello()?;
    bus.watch(JOB_ENDS)?;
    Ok(bus)
}

/// The system bus or, without one, systemd's private socket, which only root can use.
fn system_bus() -> Result<Bus> {
    let address =
        env::var("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_else(|_| "unix:path=/run/dbus/system_bus_socket".into());
    Bus::connect(&address, TIMEOUT).and_then(ready).or_else(|error| {
        if !geteuid().is_root() {
            return Err(error);
        }
        // A private socket needs neither registration nor subscriptions.
        Bus::connect("unix:path=/run/systemd/private", TIMEOUT).map_err(|_| error)
    })
}

/// The bus of the user's session. In a user namespace, the user may appear as root.
fn user_bus() -> Result<Bus> {
    let mut addresses: Vec<String> = env::var("DBUS_SESSION_BUS_ADDRESS").into_iter().collect();
    let directory = env::var("XDG_RUNTIME_DIR").ok().or_else(|| {
        let map = fs::read_to_string("/proc/self/uid_map").ok()?;
        Some(format!("/run/user/{}", outside(&map, geteuid().as_raw())?))
    });
    addresses.extend(directory.map(|directory| format!("unix:path={directory}/bus")));
    Bus::connect(&addresses.join(";"), TIMEOUT).and_then(ready).context(
        "no bus of a user's session; is DBUS_SESSION_BUS_ADDRESS set, and does `systemctl --user start dbus` succeed?",
    )
}

/// The ID of a user outside of a user namespace.
fn outside(map: &str, user: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut words = line.split_whitespace().map_while(|word| word.parse::<u32>().ok());
        let (inside, outside, count) = (words.next()?, words.next()?, words.next()?);
        let distance = user.checked_sub(inside).filter(|&distance| distance < count)?;
        outside.checked_add(distance)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_another_number_outside() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(outside(map, 0), Some(1000));
        assert_eq!(outside(map, 5), Some(100_004));
        assert_eq!(outside(map, 70_000), None);
        assert_eq!(outside("0 0 4294967295\n", 1000), Some(1000));
    }
}
