//! Which platform is chosen where KVM is missing, forbidden or something else, and what is said about it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::common::{Outcome, run};

/// Runs `amber do` with `flags` and a program that says hello, as an unprivileged user if `lowly`, where `/dev` has the
/// usual nodes and what `prepare`, a piece of shell, does in addition in the working directory. None where tests may not
/// make such a place.
fn with_devices(prepare: &str, lowly: bool, flags: &str) -> Option<Outcome> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root can give a program other devices");
        return None;
    }
    let place = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
    // Not every user can access the directory in which the program was built.
    let amber = place.path().join("amber");
    fs::copy(Path::new(env!("CARGO_BIN_EXE_amber")), &amber).unwrap();
    fs::set_permissions(&amber, Permissions::from_mode(0o755)).unwrap();
    let user = if lowly { "setpriv --reuid 65534 --regid 65534 --clear-groups" } else { "" };
    let script = format!(
        "set -e; umask 022; mkdir dev; mount -t tmpfs -o mode=755 dev dev; cd dev
         for node in null zero full random urandom tty; do : >$node; mount --bind /dev/$node $node; done
         {prepare}
         cd /; mount --rbind {place}/dev /dev
         cd {place}; exec {user} ./amber do {flags} -- /bin/echo hello",
        place = place.path().display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).current_dir(place.path());
    Some(run(&mut command))
}

/// Ways to have no KVM: what to do to `/dev`, whether as an unprivileged user, and what must be said.
const WITHOUT: [(&str, bool, &[&str]); 3] = [
    ("", false, &["/dev/kvm", "No such file", "load kvm_amd or kvm_intel"]),
    ("mknod -m 600 kvm c 10 232", true, &["/dev/kvm", "Permission denied", "join the group"]),
    (": >kvm; mount --bind /dev/null kvm", false, &["/dev/kvm", "interface -1"]),
];

#[test]
fn a_missing_or_forbidden_kvm_is_told() {
    for (prepare, lowly, words) in WITHOUT {
        let Some(outcome) = with_devices(prepare, lowly, "--platform kvm") else { return };
        assert_eq!((outcome.code, outcome.out.as_str(), outcome.err.lines().count()), (125, "", 1), "{outcome:?}");
        assert!(words.iter().all(|word| outcome.err.contains(word)), "{words:?} in {outcome:?}");
        assert!(outcome.err.contains("--platform ptrace"), "{outcome:?}");
    }
}

#[test]
fn without_kvm_the_other_platform_serves() {
    for (prepare, lowly, words) in WITHOUT {
        let Some(outcome) = with_devices(prepare, lowly, "--log-level info") else { return };
        assert_eq!((outcome.code, outcome.out.as_str()), (0, "hello\n"), "{outcome:?}");
        let said = outcome.err.lines().find(|line| line.contains("platform ptrace"));
        assert!(said.is_some_and(|line| words.iter().all(|word| line.contains(word))), "{outcome:?}");
        // Without the flag, nothing is reported.
        let Some(outcome) = with_devices(prepare, lowly, "") else { return };
        assert_eq!((outcome.code, outcome.out.as_str(), outcome.err.as_str()), (0, "hello\n", ""), "{outcome:?}");
    }
}
