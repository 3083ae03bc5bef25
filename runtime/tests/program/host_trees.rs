//! What a guest sees of file systems that the host's kernel makes up, in trees of the host that it was given.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::sys::statfs::{PROC_SUPER_MAGIC, SYSFS_MAGIC, statfs};
use nix::unistd::Pid;

use crate::common::{Outcome, amber_do, children, run, status};
use crate::confinement::{SCRIPT, Waiting, for_user, is_root};

/// Runs a script in a mount namespace of its own, with `$T`, an empty directory, and `$AMBER`.
fn in_mounts_of_its_own(script: &str) -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", script]);
    run(command.env("T", directory.path()).env("AMBER", env!("CARGO_BIN_EXE_amber")))
}

#[test]
fn the_root_of_do_is_without_proc_and_sys() {
    if !is_root() {
        return;
    }
    let script = "mount --bind / /mnt; ls -A /mnt/proc /mnt/sys; cat /mnt/proc/self/maps; umount /proc; ls -A /proc; \
                  cat /proc/self/maps; echo mine > /proc/file; cat /proc/file";
    let outcome = run(&mut amber_do(&["sh", "-c", script]));
    assert_eq!((outcome.code, &*outcome.out), (0, "/mnt/proc:\n\n/mnt/sys:\nmine\n"), "{outcome:?}");
    assert_eq!(outcome.err.matches("No such file or directory").count(), 2, "{outcome:?}");
}

#[test]
fn a_volume_leads_into_no_file_system_that_the_kernel_makes_up() {
    if !is_root() {
        return;
    }
    let outcome = in_mounts_of_its_own(
        "cd $T; mkdir proc sys tmp; touch environ
        mount -t proc proc proc; mount --bind /sys sys; mount -t tmpfs tmpfs tmp; mount --bind /proc/self/environ environ
        exec $AMBER do -v $T:/host -- sh -c 'cd /host; ls -A proc sys; stat -c %a proc environ; \
            cat environ; touch proc/x; chown 5 proc; chmod 700 proc sys; ls -A tmp; echo text > tmp/f; cat tmp/f'",
    );
    assert_eq!((outcome.code, &*outcome.out), (0, "proc:\n\nsys:\n555\n0\ntext\n"), "{outcome:?}");
    assert_eq!(outcome.err.matches("Read-only file system").count(), 4, "{outcome:?}");
}

/// A mount that the host makes later comes into the sandbox where mounts propagate.
#[test]
fn nor_into_one_that_is_mounted_later() {
    if !is_root() {
        return;
    }
    let outcome = in_mounts_of_its_own(
        "cd $T; mount -t tmpfs tmpfs $T; mount --make-shared $T; cd $T; mkdir late
        $AMBER do -v $T:/host -- sh -c 'cd /host/late; ls -A; touch ../ready
            while ! [ -e ../go ]; do sleep 0.01; done
            ls -A . /host/late; cat /host/late/self/maps self/maps' &
        while ! [ -e ready ]; do sleep 0.01; kill -0 $!; done
        mount -t proc proc late; touch go; wait $! || true",
    );
    assert_eq!(&*outcome.out, ".:\n\n/host/late:\n", "{outcome:?}");
    assert_eq!(outcome.err.matches("No such file or directory").count(), 2, "{outcome:?}");
}

/// Whatever the guest does to its mounts, a tree that was given to be read stays so, and the sandbox goes on.
#[test]
fn a_tree_to_be_read_cannot_be_remounted() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("f"), "text").unwrap();
    let volume = format!("{}:/mnt:ro", directory.path().display());
    let script = "mount -o remount,rw,bind /mnt; mount -o remount,rw /mnt; echo > /mnt/new; rm /mnt/f; chmod 777 /mnt/f
        mkdir /tmp/other; mount --bind /mnt /tmp/other; mount -o remount,rw,bind /tmp/other; echo > /tmp/other/new
        cat /mnt/f; ls /mnt";
    let mut command = Command::new(env!("CARGO_BIN_EXE_amber"));
    command.args(["do", "-u", "0", "-v", &volume, "--", "sh", "-c", script]);
    let outcome = run(&mut command);
    assert_eq!((outcome.code, &*outcome.out), (0, "textf\n"), "{outcome:?}");
    assert_eq!(outcome.err.matches("Read-only file system").count(), 4, "{outcome:?}");
}

/// As agents read that watch a machine, such as node_exporter.
#[test]
fn a_bound_proc_tells_of_the_machine_and_of_nobody_in_particular() {
    if !is_root() {
        return;
    }
    let script = r#"
        cd /host/proc
        for f in stat meminfo loadavg uptime cpuinfo vmstat diskstats version net/dev mounts 1/mountinfo 1/stat 1/status \
                 1/cmdline 1/limits sys/kernel/pid_max sys/fs/file-nr filesystems softirqs interrupts
        do cat $f > /dev/null || echo missing $f; done
        for f in *; do [ -f $f ] && { cat $f > /dev/null || echo unreadable $f; }; done
        for p in 1 [2-9]*; do for f in mem maps smaps environ fd fdinfo root cwd exe ns task map_files pagemap auxv stack \
                 syscall; do [ -e $p/$f ] || [ -L $p/$f ] && echo $p/$f; done; done
        [ -e self ] || [ -L self ] || [ -e thread-self ] && echo self
        ls -A | grep -E 'self|kcore|kmsg|sysrq'
        stat -c %a tty/driver; ls tty/driver; cat 1/comm; head -1 meminfo; grep -c ' lo:\|^ *lo:' net/dev
        cat /host/sys/kernel/mm/transparent_hugepage/enabled > /dev/null; ls /host/sys/class/net | grep -x lo
        find /host/sys/kernel /host/sys/devices/system/cpu/cpu0 -type f 2>/dev/null -exec cat {} + > /dev/null 2>&1
        ls -A /host/sys/kernel/debug /host/sys/kernel/tracing
        echo 1 > sys/kernel/panic; echo never > /host/sys/kernel/mm/transparent_hugepage/enabled
        chmod 777 stat; mkdir /host/sys/new; mount -o remount,rw /host/proc; echo 1 > sys/kernel/panic"#;
    let outcome = run(&mut amber_do(&["-v", "/proc:/host/proc", "-v", "/sys:/host/sys", "--", "sh", "-c", script]));
    let of_host = |path: &str| fs::read_to_string(path).unwrap();
    let memory = of_host("/proc/meminfo").lines().next().unwrap().to_owned();
    let shown = format!("500\n{}{memory}\n1\nlo\n", of_host("/proc/1/comm"));
    assert!(outcome.out.starts_with(&shown), "{outcome:?}");
    let empty: String = outcome.out[shown.len()..].lines().filter(|line| !line.ends_with(':')).collect();
    assert_eq!(empty, "", "{outcome:?}");
    assert_eq!(outcome.err.matches("Read-only file system").count(), 5, "{outcome:?}");
    assert_eq!(outcome.err.matches("tty/driver': Permission denied").count(), 1, "{outcome:?}");
}

/// The reader has no rights, sees nothing but the tree, and ends with the sandbox.
#[test]
fn a_bound_proc_is_read_by_a_process_without_rights() {
    if !is_root() {
        return;
    }
    let flags = ["-v", "/proc:/host/proc", "-v", "/sys:/host/sys", "--", "sh", "-c", "echo ready; read line"];
    let mut waiting = Waiting::start(&mut amber_do(&flags));
    let place = |pid: u32| PathBuf::from(format!("/proc/{pid}"));
    let readers: Vec<u32> =
        children(waiting.pid).into_iter().filter(|pid| status(&place(*pid))["Name"] == "reader").collect();
    let [reader] = readers[..] else { panic!("{readers:?}") };
    let reader = place(reader);
    let told = status(&reader);
    let users: Vec<&str> = told["Uid"].split_whitespace().collect();
    assert!(users.iter().all(|user| *user == users[0] && user.parse::<u32>().unwrap() >= 0x7800_0000), "{users:?}");
    assert_ne!(users[0], status(&place(waiting.pid))["Uid"].split_whitespace().next().unwrap());
    assert_eq!(told["Gid"].split_whitespace().collect::<Vec<_>>(), users);
    assert_eq!(told["Groups"], "");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(told[set], "0000000000000000", "{set}");
    }
    assert_eq!((&*told["NoNewPrivs"], &*told["Seccomp"]), ("1", "2"));
    // Two trees and its connection; of the sandbox's descriptors none, and an empty root.
    let link = |name: &str| fs::read_link(reader.join(name)).unwrap();
    let open = fs::read_dir(reader.join("fd")).unwrap();
    let open: Vec<_> = open.map(|entry| link(&format!("fd/{}", entry.unwrap().file_name().display()))).collect();
    assert_eq!(open.len(), 3, "{open:?}");
    assert_eq!(fs::read_dir(reader.join("root")).unwrap().count(), 0);
    // It is gone once its parent, the first process of the namespace, is.
    kill(Pid::from_raw(waiting.pid as i32), Signal::SIGKILL).unwrap();
    waiting.child.wait().unwrap();
    assert!(!reader.exists());
}

/// Without such a bind there is no such process.
#[test]
fn other_trees_have_no_reader() {
    let waiting = Waiting::start(amber_do(&["-v", "/usr:/host", "--"]).args(SCRIPT));
    let named = |pid: u32| status(&PathBuf::from(format!("/proc/{pid}")))["Name"].clone();
    assert!(children(waiting.pid).into_iter().all(|pid| named(pid) != "reader"));
    waiting.end();
}

/// Also for a sandbox that was taken over, which has the trees by their descriptors, there is nothing else in them.
#[test]
fn trees_are_without_what_is_no_tree_of_files() {
    let check = |command: &mut Command| {
        let waiting = Waiting::start(command);
        let open = fs::read_dir(format!("/proc/{}/fd", waiting.pid)).unwrap().map(|entry| entry.unwrap().path());
        let is_root = |path: &PathBuf| path.join("proc").is_dir() && path.join("usr").is_dir();
        let roots: Vec<PathBuf> = open.filter(is_root).collect();
        assert!(!roots.is_empty());
        for root in roots {
            for name in ["proc", "sys", "dev"] {
                let left: Vec<_> = fs::read_dir(root.join(name)).unwrap().map(|e| e.unwrap().file_name()).collect();
                let of_host = fs::read_dir(Path::new("/").join(name)).unwrap().count();
                assert!(
                    left.len() < of_host && left.iter().all(|entry| entry != "self" && entry != "null"),
                    "{left:?}"
                );
                let kind = statfs(&root.join(name)).unwrap().filesystem_type();
                assert!(![PROC_SUPER_MAGIC, SYSFS_MAGIC].contains(&kind), "{name}");
            }
        }
        waiting.end();
    };
    if !is_root() {
        return;
    }
    check(amber_do(&["--"]).args(SCRIPT));
    check(amber_do(&["-v", "/:/host", "--"]).args(SCRIPT));
    check(amber_do(&["--rootfs", "/", "--rw", "-v", "/:/host:ro", "--"]).args(SCRIPT));
    let (_directory, mut command) = for_user();
    check(command.args(["do", "--"]).args(SCRIPT));
}

/// If a directory is mounted twice and files are renamed through one of the mounts, a name known through the other
/// mount does not determine the owner and mode of its former file.
#[test]
fn a_name_that_stands_for_another_file_changes_no_owner() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let [v, w] = ["/v", "/w"].map(|at| format!("{}:{at}", directory.path().display()));
    let user = "cat in && exit 1; (cd /w/d && mv theirs other && mv mine theirs) || exit 2
        stat -c %u /v/d/theirs; cat in && exit 3; echo shut";
    let script = format!(
        "cd /v; chmod 711 .; mkdir d d/theirs d/mine; echo secret > d/theirs/in; chmod 700 d/theirs; chown 1000 d d/mine
        cd d/theirs; exec setpriv --reuid 1000 --regid 1000 --clear-groups sh -c '{user}' 2> /dev/null"
    );
    let outcome = run(&mut amber_do(&["-u", "0", "-v", &v, "-v", &w, "--", "sh", "-c", &script]));
    assert_eq!((outcome.code, &*outcome.out), (0, "1000\nshut\n"), "{outcome:?}");
}
