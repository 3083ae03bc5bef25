//! What a guest sees of a directory of the host that the host changes at the same time.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::common::{Outcome, amber_do, run};
use crate::confinement::{Waiting, is_root};

const USER: u32 = 1000;

/// A directory that every user may write.
fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), PermissionsExt::from_mode(0o777)).unwrap();
    place
}

fn put(path: &Path, text: &str, mode: u32, owner: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    chown(path, Some(owner), Some(owner)).unwrap();
}

/// A shell of an ordinary user in the directory, as a volume.
fn in_volume(place: &Path, script: &str) -> Command {
    let volume = format!("{}:/v", place.display());
    amber_do(&["-u", "1000:1000", "-v", &volume, "-w", "/v", "--", "sh", "-c", script])
}

/// Runs a guest while the host exchanges pairs of names without a pause.
fn run_while_exchanging(place: &Path, pairs: &[(&str, &str)], command: &mut Command) -> Outcome {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for (one, other) in pairs {
                    let (one, other) = (place.join(one), place.join(other));
                    renameat2(AT_FDCWD, &one, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE).unwrap();
                }
            }
        });
        let outcome = run(command);
        is_over.store(true, Ordering::Relaxed);
        outcome
    })
}

/// The host gives the number of a removed file to the next one, which has an owner and a mode of its own.
#[test]
fn a_new_file_with_the_number_of_a_removed_one_has_its_own_mode() {
    if !is_root() {
        return;
    }
    let place = place();
    put(&place.path().join("old"), "old", 0o644, USER);
    let number = fs::metadata(place.path().join("old")).unwrap().ino();
    // An open file would keep its number.
    let script = "stat old > /dev/null; echo ready; read line; ! cat new 2> /dev/null";
    let waiting = Waiting::start(&mut in_volume(place.path(), script));
    fs::remove_file(place.path().join("old")).unwrap();
    let is_reused = (0..1000).any(|count| {
        let made = place.path().join(format!("{count}"));
        put(&made, "secret", 0o600, 0);
        fs::metadata(&made).unwrap().ino() == number && fs::rename(&made, place.path().join("new")).is_ok()
    });
    if !is_reused {
        eprintln!("SKIPPED: {} does not reuse inode numbers", place.path().display());
        put(&place.path().join("new"), "secret", 0o600, 0);
    }
    waiting.end();
}

/// A working directory, a directory and a file that are open grant no more than what they grant now.
#[test]
fn rights_that_the_host_takes_away_are_gone_for_open_files() {
    if !is_root() {
        return;
    }
    let place = place();
    for name in ["cwd", "open"] {
        fs::create_dir(place.path().join(name)).unwrap();
        put(&place.path().join(name).join("in"), "text", 0o644, 0);
    }
    put(&place.path().join("file"), "text", 0o644, 0);
    let script = "cd cwd; exec 3< ../open 4< ../file; cat in /proc/self/fd/3/in /proc/self/fd/4 > /dev/null || exit 9
        echo ready; read line
        cat in && exit 1; cat /proc/self/fd/3/in && exit 2; cat /proc/self/fd/4 && exit 3; test -x . && exit 4
        test -x /proc/self/fd/3 && exit 5; test -r /proc/self/fd/4 && exit 6; (cd /proc/self/fd/3) && exit 7; true";
    let script = format!("exec 2> /dev/null; {script}");
    let waiting = Waiting::start(&mut in_volume(place.path(), &script));
    for name in ["cwd", "open", "file"] {
        fs::set_permissions(place.path().join(name), PermissionsExt::from_mode(0o700)).unwrap();
    }
    waiting.end();
}

/// link(2) names the file whose owner was checked.
#[test]
fn the_file_that_may_be_linked_is_the_one_that_is_linked() {
    if !is_root() {
        return;
    }
    let place = place();
    put(&place.path().join("mine"), "mine", 0o644, USER);
    put(&place.path().join("roots"), "secret", 0o600, 0);
    let script = "for i in $(seq 60); do link mine link.$i; done 2> /dev/null; set -- link.*; [ -e $1 ] && echo linked";
    let outcome = run_while_exchanging(place.path(), &[("mine", "roots")], &mut in_volume(place.path(), script));
    assert_eq!((outcome.code, &*outcome.out), (0, "linked\n"), "{outcome:?}");
    let files = ["mine", "roots"].map(|name| fs::metadata(place.path().join(name)).unwrap());
    let links: Vec<u64> = files.iter().filter(|file| file.uid() == 0).map(MetadataExt::nlink).collect();
    assert_eq!(links, [1]);
}

/// A name that always stands for some file is always found, in the last component and before.
#[test]
fn a_name_that_is_replaced_is_looked_up_again() {
    if !is_root() {
        return;
    }
    let place = place();
    for name in ["file", "other"] {
        put(&place.path().join(name), "text\n", 0o644, 0);
    }
    for name in ["directory", "elsewhere"] {
        fs::create_dir(place.path().join(name)).unwrap();
        put(&place.path().join(name).join("in"), "text\n", 0o644, 0);
    }
    put(&place.path().join("plain"), "text\n", 0o644, 0);
    std::os::unix::fs::symlink("file", place.path().join("link")).unwrap();
    let pairs = [("file", "other"), ("directory", "elsewhere"), ("plain", "link")];
    let script = "i=0; while [ $i -lt 400 ]; do i=$((i + 1))
        read a < file && read b < directory/in && read c < plain && [ $a$b$c = texttexttext ] || exit 1
        [ -r file ] && [ -x directory/. ] && [ -s link ] || exit 2
        done; for i in $(seq 20); do stat -c %s file directory/in plain link > /dev/null || exit 3; done; echo done";
    let outcome = run_while_exchanging(place.path(), &pairs, &mut in_volume(place.path(), script));
    assert_eq!((outcome.code, &*outcome.out), (0, "done\n"), "{outcome:?}");
}

/// Beneath an overlay, a file that took the place of another is opened only if its own mode allows it.
#[test]
fn the_lower_file_that_is_opened_is_the_one_that_was_checked() {
    if !is_root() {
        return;
    }
    let place = place();
    let (file, secret) = (place.path().join("file"), place.path().join("secret"));
    put(&file, "text", 0o644, 0);
    put(&secret, "secret", 0o600, 0);
    let script = "stat file > /dev/null; echo ready; read line; ! cat file 2> /dev/null";
    let directory = place.path().to_str().unwrap();
    let command = &mut amber_do(&["-u", "1000:1000", "-w", directory, "--", "sh", "-c", script]);
    let waiting = Waiting::start(command);
    fs::rename(&secret, &file).unwrap();
    waiting.end();
}
