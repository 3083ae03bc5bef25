//! The platforms, and the choice between them.

use std::sync::{Arc, LazyLock};

use amber_host::calls::HostCall;
use amber_platform::{GuestMemory, Platform, PlatformError};
use amber_platform_kvm::KvmPlatform;
use amber_platform_ptrace::PtracePlatform;
use anyhow::{Error, Result};
use clap::ValueEnum;
use clap::builder::PossibleValue;
use serde::{Deserialize, Serialize};

/// A platform. This is the only list of platforms: flags, lists of host calls, tests and benchmarks follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum PlatformKind {
    /// In a virtual machine; needs `/dev/kvm`
    Kvm,
    /// In host processes traced with ptrace(2); works wherever ptrace is permitted
    Ptrace,
}

impl PlatformKind {
    /// Makes the platform.
    ///
    /// # Errors
    /// The host lacks what it needs.
    fn make(self, memory: &Arc<GuestMemory>) -> Result<Arc<dyn Platform>> {
        let memory = memory.clone();
        Ok(match self {
            PlatformKind::Kvm => Arc::new(KvmPlatform::new(memory).map_err(told)?),
            PlatformKind::Ptrace => Arc::new(PtracePlatform::new(memory).map_err(told)?),
        })
    }

    /// The host calls of the platform while guest code runs.
    pub(crate) fn host_calls(self) -> &'static [HostCall] {
        match self {
            PlatformKind::Kvm => amber_platform_kvm::HOST_CALLS,
            PlatformKind::Ptrace => amber_platform_ptrace::HOST_CALLS,
        }
    }

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            PlatformKind::Kvm => "kvm",
            PlatformKind::Ptrace => "ptrace",
        }
    }
}

/// The value of `--platform`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PlatformChoice {
    /// The best platform that works on this host.
    Auto,
    /// This platform only.
    Only(PlatformKind),
}

impl ValueEnum for PlatformChoice {
    fn value_variants<'a>() -> &'a [PlatformChoice] {
        static ALL: LazyLock<Vec<PlatformChoice>> = LazyLock::new(|| {
            let kinds = PlatformKind::value_variants().iter().map(|&kind| PlatformChoice::Only(kind));
            [PlatformChoice::Auto].into_iter().chain(kinds).collect()
        });
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            PlatformChoice::Auto => Some(PossibleValue::new("auto").help("The best that works on this host")),
            PlatformChoice::Only(kind) => kind.to_possible_value(),
        }
    }
}

/// Makes the chosen platform. With `auto`, the best that works here; the log has the reason.
///
/// # Errors
/// The host lacks what the platform needs.
pub(crate) fn choose(choice: PlatformChoice, memory: &Arc<GuestMemory>) -> Result<Arc<dyn Platform>> {
    match choice {
        PlatformChoice::Only(kind) => kind.make(memory),
        PlatformChoice::Auto => match KvmPlatform::new(memory.clone()) {
            Ok(kvm) if !kvm.quirks().syscall_stays_in_ring_3 => {
                log::info!("platform kvm: /dev/kvm works, on a processor with virtualization");
                Ok(Arc::new(kvm))
            }
            Ok(_) => {
                log::info!("platform ptrace: /dev/kvm works, but interprets ring 0, which is slower");
                PlatformKind::Ptrace.make(memory)
            }
            Err(fault) => {
                log::info!("platform ptrace: {fault}");
                PlatformKind::Ptrace.make(memory)
            }
        },
    }
}

/// Converts an error to its message, which already contains the host's error.
fn told(fault: PlatformError) -> Error {
    Error::msg(fault.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use amber_host::calls::{ABSENT, Part, needed};

    use super::*;

    #[test]
    fn platforms_have_the_names_that_the_flag_takes() {
        for &kind in PlatformKind::value_variants() {
            assert_eq!(kind.to_possible_value().unwrap().get_name(), kind.name());
            assert_eq!(PlatformChoice::from_str(kind.name(), false), Ok(PlatformChoice::Only(kind)));
        }
        assert_eq!(PlatformChoice::from_str("auto", false), Ok(PlatformChoice::Auto));
    }

    #[test]
    fn the_lists_of_host_calls_stay_short() {
        for kind in PlatformKind::value_variants() {
            let own = || kind.host_calls().iter();
            let count =
                |parts: &[Part]| needed(parts).chain(own()).map(|call| call.number).collect::<HashSet<_>>().len();
            assert!(count(&[]) <= 50, "{kind:?}: {}", count(&[]));
            assert!(count(&[Part::Network]) <= 60, "{kind:?}: {}", count(&[Part::Network]));
            let numbers: HashSet<i64> = own().map(|call| call.number).collect();
            assert_eq!(numbers.len(), own().count(), "{kind:?} lists a call twice");
            let absent =
                |call: &HostCall| ABSENT.iter().any(|other| other.number == call.number && other.rules.is_empty());
            assert!(own().all(|call| !call.reason.is_empty() && !absent(call)), "{kind:?}");
            let forbidden = ["execve", "fork", "socket", "mount", "open"];
            assert!(own().all(|call| !forbidden.contains(&call.name)), "{kind:?}");
        }
    }
}
