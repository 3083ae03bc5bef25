//! POSIX access control lists of host files: a guest's users get what the host's own kernel gives to the same users.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use amber_abi::acl::{ACL_GROUP, ACL_GROUP_OBJ, ACL_MASK, ACL_OTHER, ACL_USER, ACL_USER_OBJ};
use rustix::fs::{XattrFlags, setxattr};

use crate::common::{amber_do, run};
use crate::confinement::{Waiting, is_root};

const NOBODY: u32 = u32::MAX;

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

fn set_list(path: &Path, bits: [u16; 4], users: &[(u32, u16)], groups: &[(u32, u16)]) {
    set(ACCESS, path, bits, users, groups);
}

/// Sets a list: the rights of the owner, of the owning group, the mask and the rights of others; then named entries.
fn set(name: &str, path: &Path, [owner, group, mask, others]: [u16; 4], users: &[(u32, u16)], groups: &[(u32, u16)]) {
    let mut entries = vec![(ACL_USER_OBJ, owner, NOBODY)];
    entries.extend(users.iter().map(|(id, bits)| (ACL_USER, *bits, *id)));
    entries.push((ACL_GROUP_OBJ, group, NOBODY));
    entries.extend(groups.iter().map(|(id, bits)| (ACL_GROUP, *bits, *id)));
    entries.extend([(ACL_MASK, mask, NOBODY), (ACL_OTHER, others, NOBODY)]);
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, bits, id) in entries {
        value.extend([tag.to_le_bytes(), bits.to_le_bytes()].concat());
        value.extend(id.to_le_bytes());
    }
    setxattr(path, name, &value, XattrFlags::empty()).unwrap();
}

/// A directory with files of root and group 2000 that have lists; none where that cannot be tested.
fn files() -> Option<tempfile::TempDir> {
    if !is_root() {
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let value =
        [&2u32.to_le_bytes()[..], &[1, 0, 7, 0], &[0xff; 4], &[4, 0, 5, 0], &[0xff; 4], &[32, 0, 5, 0], &[0xff; 4]];
    if let Err(errno) = setxattr(directory.path(), ACCESS, &value.concat(), XattrFlags::empty()) {
        eprintln!("SKIPPED: {} keeps no access control lists: {errno}", directory.path().display());
        return None;
    }
    for name in ["deny1000", "groupobj", "allow1000", "groups", "masked", "program", "closed", "open"] {
        match name {
            "closed" | "open" => {
                fs::create_dir(path(name)).unwrap();
                fs::write(path(name).join("inner"), "text").unwrap();
            }
            "program" => drop(fs::copy("/bin/true", path(name)).unwrap()),
            _ => fs::write(path(name), "text").unwrap(),
        }
        chown(path(name), Some(0), Some(2000)).unwrap();
    }
    set_list(&path("deny1000"), [6, 4, 4, 4], &[(1000, 0)], &[]);
    set_list(&path("groupobj"), [6, 0, 6, 0], &[(1001, 6)], &[]);
    set_list(&path("allow1000"), [6, 0, 6, 0], &[(1000, 6)], &[]);
    set_list(&path("groups"), [6, 6, 7, 4], &[], &[(3000, 4), (3001, 2), (3002, 0)]);
    set_list(&path("masked"), [6, 6, 4, 2], &[(1000, 6)], &[(3000, 6)]);
    set_list(&path("program"), [7, 5, 5, 5], &[(1000, 4)], &[(3002, 0)]);
    set_list(&path("closed"), [7, 5, 5, 5], &[(1000, 0), (1001, 4)], &[]);
    set_list(&path("open"), [7, 0, 7, 0], &[(1000, 5)], &[(3000, 1)]);
    Some(directory)
}

/// What each of some users can do with the files in the working directory.
const SCRIPT: &str = r#"
    try='
        for f in deny1000 groupobj allow1000 groups masked program closed open
        do
            for right in r w x; do test -$right $f && echo $1 test -$right $f; done
            [ -d $f ] && continue
            cat $f > /dev/null && echo $1 reads $f
            true >> $f && echo $1 writes $f
        done
        ./program && echo $1 executes
        for d in closed open; do ls $d > /dev/null && echo $1 lists $d; cat $d/inner > /dev/null && echo $1 searches $d; done'
    for user in 1000:1000:2000 1001:1001:3002 1002:2000:4000 1003:4000:2000 1004:3000:3001 1005:3002:4000 1006:3001:3002 \
                1007:4000:4001
    do
        group=${user#*:}
        setpriv --reuid ${user%%:*} --regid ${group%:*} --groups ${group#*:} sh -c "$try" sh $user
    done 2> /dev/null"#;

/// What the host's kernel gives them.
fn expected(directory: &Path) -> String {
    let outcome = run(Command::new("sh").args(["-c", SCRIPT]).current_dir(directory));
    for (line, holds) in [
        ("1000:1000:2000 reads deny1000\n", false),
        ("1001:1001:3002 reads deny1000\n", true),
        ("1003:4000:2000 reads groupobj\n", false),
        ("1001:1001:3002 writes groupobj\n", true),
        ("1003:4000:2000 writes allow1000\n", false),
        ("1000:1000:2000 writes allow1000\n", true),
        ("1000:1000:2000 searches closed\n", false),
        ("1000:1000:2000 lists open\n", true),
    ] {
        assert_eq!(outcome.out.contains(line), holds, "{line}{outcome:?}");
    }
    outcome.out
}

#[test]
fn lists_count_in_a_volume() {
    let Some(files) = files() else { return };
    let volume = format!("{}:/mnt", files.path().display());
    let outcome = run(&mut amber_do(&["-u", "0", "-v", &volume, "-w", "/mnt", "--", "sh", "-c", SCRIPT]));
    assert_eq!(outcome.out, expected(files.path()), "{outcome:?}");
}

/// The copy of a file that was changed keeps its list.
#[test]
fn lists_count_beneath_and_in_the_layer_in_memory() {
    let Some(files) = files() else { return };
    let root = files.path().display().to_string();
    for before in ["", "for f in *; do [ -d $f ] && chmod u-s $f; [ -d $f ] || true >> $f; done; chmod o-r masked;"] {
        let script = format!("{before}{SCRIPT}");
        let outcome = run(&mut amber_do(&["-u", "0", "-w", &root, "--", "sh", "-c", &script]));
        assert_eq!(outcome.out, expected(files.path()), "{before}: {outcome:?}");
    }
}

/// The mask follows the mode, and new lists of the host count at once.
#[test]
fn changes_of_a_list_count() {
    let Some(files) = files() else { return };
    let volume = format!("{}:/mnt", files.path().display());
    let script = "user='setpriv --reuid 1000 --regid 1000 --clear-groups'; cd /mnt
        exec 3>&1 > /dev/null
        $user sh -c 'cat masked allow1000 open/inner' || exit 1
        chmod 620 allow1000; $user cat allow1000 && exit 2
        chmod 660 allow1000; $user cat allow1000 || exit 3
        echo ready >&3; read line
        $user cat masked && exit 4
        $user cat open/inner && exit 5
        $user cat deny1000 || exit 6";
    let command = &mut amber_do(&["-u", "0", "-v", &volume, "--", "sh", "-c", script]);
    let waiting = Waiting::start(command);
    set_list(&files.path().join("masked"), [6, 6, 6, 6], &[(1000, 0)], &[]);
    set_list(&files.path().join("open"), [7, 0, 7, 7], &[(1000, 4)], &[]);
    set_list(&files.path().join("deny1000"), [6, 0, 4, 0], &[(1000, 4)], &[]);
    waiting.end();
}

/// A default list takes the place of the umask, and what is made gets the list and the mode that the host's own kernel gives.
#[test]
fn default_lists_are_inherited_in_a_volume() {
    let Some(files) = files() else { return };
    const MAKE: &str = "for mask in 022 077 000
        do
            umask $mask
            echo text > $mask.file; mkdir $mask.directory; mkdir -m 2770 $mask.shared; mkfifo $mask.fifo; ln -s file $mask.link
            touch $mask.program; chmod 4751 $mask.program; echo text > $mask.directory/inner; touch $mask.none/file
        done";
    let made = |directory: &Path| {
        let shown =
            run(Command::new("sh").args(["-c", "find . -printf '%y %m %u %g %p\n' | sort"]).current_dir(directory));
        let entries = shown.out.lines().map(|line| {
            let entry = directory.join(line.rsplit(' ').next().unwrap());
            let lists = [ACCESS, DEFAULT].map(|name| {
                let mut value = [0; 1024];
                let len = rustix::fs::lgetxattr(&entry, name, &mut value[..]).unwrap_or(0);
                value[..len].to_vec()
            });
            format!("{line} {lists:?}")
        });
        entries.collect::<Vec<_>>()
    };
    let directories = ["native", "volume"].map(|name| files.path().join(name));
    for directory in &directories {
        fs::create_dir(directory).unwrap();
        set(DEFAULT, directory, [7, 0, 7, 0], &[(1000, 7)], &[(3000, 5)]);
        for mask in ["022", "077", "000"] {
            let none = directory.join(format!("{mask}.none"));
            fs::create_dir(&none).unwrap();
            rustix::fs::removexattr(&none, DEFAULT).unwrap();
        }
    }
    let native = run(Command::new("sh").args(["-c", MAKE]).current_dir(&directories[0]));
    assert_eq!(native.code, 0, "{native:?}");
    let volume = format!("{}:/mnt", directories[1].display());
    let outcome = run(&mut amber_do(&["-u", "0", "-v", &volume, "-w", "/mnt", "--", "sh", "-c", MAKE]));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let expected = made(&directories[0]);
    assert!(expected.iter().any(|entry| entry.starts_with("f 660 root root ./022.directory/inner")), "{expected:#?}");
    let made = made(&directories[1]);
    assert_eq!(made.len(), expected.len(), "{made:#?}");
    for (made, expected) in made.iter().zip(&expected) {
        assert_eq!(made, expected);
    }
}
