//! Valid and invalid bundles.

use std::fs;

use serde_json::{Value, json};

use super::*;

/// A shortened bundle of `runc spec`.
fn config() -> Value {
    json!({
        "ociVersion": "1.0.2-dev",
        "process": {
            "terminal": false,
            "user": {"uid": 3, "gid": 4, "umask": 23, "additionalGids": [5, 6]},
            "args": ["sh", "-c", "true"],
            "env": ["PATH=/bin", "EMPTY="],
            "cwd": "/",
            "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL", "CAP_CHOWN"], "permitted": []},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 512}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["mode=1777"]},
            {"destination": "/run", "type": "tmpfs", "options": ["rw", "size=1m", "tmpcopyup", "nodev", "mode=755"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["relatime", "ro"]},
            {"destination": "data", "type": "none", "source": "shared", "options": ["rbind", "ro", "rprivate"]}
        ],
        "linux": {
            "sysctl": {"net.core.somaxconn": "256"},
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"]
        }
    })
}

fn load(config: &str) -> Result<SandboxConfig> {
    let bundle = tempfile::tempdir()?;
    fs::create_dir(bundle.path().join("rootfs"))?;
    fs::create_dir(bundle.path().join("shared"))?;
    fs::write(bundle.path().join("config.json"), config)?;
    Bundle::load(bundle.path())?.sandbox("box-1", KernelProfile::default(), None)
}

/// Loads the configuration with the value at `pointer` replaced, or removed if `value` is none.
fn load_with(pointer: &str, value: Option<Value>) -> Result<SandboxConfig> {
    let mut config = config();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let object = config.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => object.insert(key.into(), value),
        None => object.remove(key),
    };
    load(&config.to_string())
}

#[test]
fn a_whole_bundle_is_understood() {
    let spec = load(&config().to_string()).unwrap();
    assert_eq!(spec.hostname, "box");
    let process = &spec.process;
    assert_eq!(process.args, ["sh", "-c", "true"]);
    assert_eq!(process.user, UserSpec { uid: 3, gid: 4, additional_gids: vec![5, 6] });
    assert_eq!((process.umask, process.no_new_privs, process.terminal), (0o27, true, None));
    assert_eq!(process.capabilities.bounding.bits(), 1 << 5);
    assert_eq!(process.capabilities.effective.bits(), 1 << 5 | 1);
    assert_eq!(process.rlimits, [(7, 512, 1024)]);
    assert_eq!(spec.masked_paths, ["/proc/kcore"]);
    assert_eq!(spec.readonly_paths, ["/proc/sys"]);
    assert_eq!(spec.sysctls, [("net.core.somaxconn".to_string(), "256".to_string())]);

    let [root, proc, dev, pts, shm, run, mqueue, sys, cgroup, data] = &spec.mounts[..] else {
        panic!("{:?}", spec.mounts)
    };
    assert!(root.read_only && matches!(&root.source, MountSource::Host(path) if path.ends_with("rootfs")));
    assert_eq!((&proc.source, proc.target.as_str()), (&MountSource::Proc, "/proc"));
    assert!(dev.source == MountSource::Dev && dev.no_suid && !dev.no_exec);
    assert_eq!(pts.source, MountSource::DevPts("newinstance,ptmxmode=0666,mode=0620,gid=5".into()));
    assert_eq!(shm.source, MountSource::Tmpfs("mode=1777".into()));
    assert_eq!(run.source, MountSource::TmpfsCopy("size=1m,mode=755".into()));
    assert_eq!((&mqueue.source, &sys.source), (&MountSource::Mqueue, &MountSource::Sys));
    assert_eq!((&cgroup.source, cgroup.read_only), (&MountSource::Cgroup, true));
    assert_eq!(data.target, "/data");
    assert!(data.read_only && matches!(&data.source, MountSource::Host(path) if path.ends_with("shared")));
}

#[test]
fn what_is_wrong_is_named() {
    for (pointer, value, reason) in [
        ("/ociVersion", None, "`ociVersion` is missing"),
        ("/ociVersion", Some(json!("2.0.0")), "`ociVersion` \"2.0.0\" is not supported"),
        ("/ociVersion", Some(json!("1.x")), "not supported"),
        ("/process", None, "`process` is missing"),
        ("/root", None, "`root` is missing"),
        ("/root/path", Some(json!("nowhere")), "`root.path` nowhere: No such file"),
        ("/root/path", Some(json!("config.json")), "is not a directory"),
        ("/hostname", Some(json!("h".repeat(65))), "at most 64"),
        ("/process/args", Some(json!([])), "`args` is empty"),
        ("/process/args", None, "`args` is empty"),
        ("/process/cwd", Some(json!("tmp")), "`cwd` \"tmp\" must be an absolute path"),
        ("/process/env", Some(json!(["NOVALUE"])), "\"NOVALUE\" must be NAME=VALUE"),
        ("/process/args", Some(json!(["a\u{0}b"])), "NUL"),
        ("/process/user/umask", Some(json!(777)), "decimal"),
        ("/process/user/uid", Some(json!(-1)), "config.json"),
        ("/process/rlimits", Some(json!([{"type": "RLIMIT_NOFILE", "hard": 1, "soft": 2}])), "above the hard limit"),
        ("/process/rlimits", Some(json!([{"type": "RLIMIT_BEANS", "hard": 1, "soft": 2}])), "RLIMIT_BEANS"),
        ("/process/capabilities", Some(json!({"bounding": ["CAP_FLY"]})), "FLY"),
        ("/mounts", Some(json!([{"destination": "/x", "type": "ext4"}])), "`mounts[0]` on /x: type `ext4`"),
        ("/mounts", Some(json!([{"destination": "/x", "type": "bind"}])), "`source` is missing"),
        ("/mounts", Some(json!([{"destination": "/x", "type": "bind", "source": "no"}])), "No such file"),
        ("/mounts", Some(json!([{"destination": "/x", "type": "proc", "options": ["beans"]}])), "`beans`"),
        ("/process/terminal", Some(json!(true)), "`terminal` is true"),
        ("/mounts", Some(json!([{"destination": "/x/../y", "type": "tmpfs"}])), "`..`"),
        (
            "/mounts",
            Some(json!([{"destination": "/x", "type": "bind", "source": "shared", "options": ["idmap"]}])),
            "owners are mapped",
        ),
        (
            "/linux/devices",
            Some(json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}])),
            "/dev/fuse (c 10:229)",
        ),
        (
            "/linux/devices",
            Some(json!([{"path": "/dev/sda", "type": "b", "major": 1, "minor": 3}])),
            "/dev/sda (b 1:3)",
        ),
        ("/linux/seccomp", Some(json!({"defaultAction": "SCMP_ACT_NOTIFY"})), "SCMP_ACT_NOTIFY"),
        ("/linux/seccomp", Some(json!({"defaultAction": "SCMP_ACT_BEANS"})), "SCMP_ACT_BEANS"),
        ("/domainname", Some(json!("d".repeat(65))), "at most 64"),
    ] {
        let error = format!("{:#}", load_with(pointer, value).err().unwrap());
        assert!(error.contains(reason), "{pointer}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn malformed_files_are_named() {
    for text in ["", "{", "[]", "null", "{\"ociVersion\": 1}", "\u{0}"] {
        let error = format!("{:#}", load(text).err().unwrap());
        assert!(error.contains("config.json"), "{error}");
    }
    let empty = tempfile::tempdir().unwrap();
    for (path, name) in [(empty.path().to_path_buf(), "config.json"), (empty.path().join("gone"), "gone")] {
        let error = format!("{:#}", Bundle::load(&path).err().unwrap());
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn names_are_those_runc_takes() {
    for good in ["a", "A.b_c+d-9", "..."] {
        check_id(good).unwrap();
    }
    for bad in ["", ".", "..", "a/b", "a b", "ä"] {
        assert!(check_id(bad).is_err(), "{bad}");
    }
}

proptest::proptest! {
    #[test]
    fn hostile_json_is_an_error_and_never_a_panic(cut in 0usize..2000, byte in proptest::num::u8::ANY) {
        let mut text = config().to_string().into_bytes();
        let place = cut % text.len();
        text[place] = byte;
        let _ = serde_json::from_slice::<Spec>(&text).map(|spec| from_spec(&spec, Path::new("/"), "x", KernelProfile::default(), None));
        text.truncate(place);
        assert!(serde_json::from_slice::<Spec>(&text).is_err());
    }
}

#[test]
fn what_is_new_and_harmless_is_passed_over() {
    let spaces = json!([{"type": "pid"}, {"type": "time"}, {"type": "dream", "path": "/x"}]);
    assert!(load_with("/linux/namespaces", Some(spaces)).is_ok());
    let seccomp = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_BEANS"],
        "flags": ["SECCOMP_FILTER_FLAG_BEANS"], "syscalls": [{"names": ["brew_coffee"], "action": "SCMP_ACT_ALLOW"}]
    });
    assert_eq!(load_with("/linux/seccomp", Some(seccomp)).unwrap().seccomp.unwrap().rules, []);
    assert!(load_with("/annotations", Some(json!({"a": "b"}))).is_ok());
    assert!(load_with("/process/apparmorProfile", Some(json!("docker-default"))).is_ok());
    assert!(load_with("/linux/namespaces", Some(json!([{"type": 5}]))).is_err());
}

#[test]
fn limits_are_read() {
    let resources = json!({
        "memory": {"limit": 67108864, "swap": 134217728}, "pids": {"limit": 40},
        "cpu": {"quota": 150000, "period": 100000, "shares": 1024}, "devices": [{"allow": false, "access": "rwm"}]
    });
    let cpu = Some(amber_sentry::config::CpuQuota { quota: 150_000, period: 100_000 });
    let limits = load_with("/linux/resources", Some(resources)).unwrap().limits;
    assert_eq!(limits, Limits { memory: Some(64 << 20), tasks: Some(40), cpu });
    let none = json!({"memory": {"limit": -1}, "pids": {"limit": 0}, "cpu": {"quota": -1}});
    assert_eq!(load_with("/linux/resources", Some(none)).unwrap().limits, Limits::default());
    let less = serde_json::from_value(json!({"pids": {"limit": -1}, "cpu": {"quota": 5000}})).unwrap();
    let changed = resources::limits(&less, limits).unwrap();
    let cpu = Some(amber_sentry::config::CpuQuota { quota: 5000, period: 100_000 });
    assert_eq!(changed, Limits { memory: Some(64 << 20), tasks: None, cpu });
}

#[test]
fn devices_are_read() {
    let zero = json!([{"path": "/dev/nought", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "gid": 7}]);
    let devices = load_with("/linux/devices", Some(zero)).unwrap().devices;
    let node = &devices[0];
    assert_eq!((node.path.as_str(), node.major, node.minor), ("/dev/nought", 1, 5));
    assert_eq!((node.permissions, node.uid, node.gid), (0o640, 0, 7));
    // For a privileged container, devices of the host that Amber does not have are left out.
    let privileged = json!({
        "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}],
        "resources": {"devices": [{"allow": true, "access": "rwm"}]}
    });
    assert_eq!(load_with("/linux", Some(privileged)).unwrap().devices, []);
}

#[test]
fn rules_for_system_calls_are_read() {
    use amber_sentry::config::SeccompTest::{Equal, Masked};
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
        "syscalls": [
            {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 2114060288u32, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["personality"], "action": "SCMP_ACT_LOG",
             "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
            {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13},
        ]
    });
    let profile = load_with("/linux/seccomp", Some(profile)).unwrap().seccomp.unwrap();
    assert_eq!((profile.default, profile.newer), (0x5_0026, None));
    let rules: Vec<_> = profile
        .rules
        .iter()
        .map(|rule| (rule.number, rule.conditions.first().map(|c| (c.argument, c.test)), rule.answer))
        .collect();
    let (allow, log) = (0x7fff_0000, 0x7ffc_0000);
    let expected = [
        (0, None, allow),
        (1, None, allow),
        (56, Some((0, Masked(2_114_060_288, 0))), allow),
        (135, Some((0, Equal(0))), log),
        (135, Some((0, Equal(8))), log),
        (62, None, 0x5_000d),
    ];
    assert_eq!(rules, expected);
}
