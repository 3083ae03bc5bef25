//! Bundles, containers and the processes behind them.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How a command ended and what it printed.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The exit status.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// A state directory and a bundle, removed with all containers at the end.
pub(crate) struct World {
    /// Where everything of it is.
    pub directory: tempfile::TempDir,
    /// What config.json says.
    pub config: Value,
    /// What the guest's code runs on.
    pub platform: &'static str,
    /// What every command finds in its environment besides.
    pub environment: Vec<(&'static str, String)>,
}

/// The guest's program, made once.
pub(crate) fn guest() -> &'static Path {
    static GUEST: OnceLock<PathBuf> = OnceLock::new();
    GUEST.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let program = directory.join(format!("guest-{}", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oci/guest.c");
        let made = Command::new("cc").args(["-static", "-O1", "-o"]).arg(&program).arg(source).status().unwrap();
        assert!(made.success());
        program
    })
}

impl World {
    /// A bundle whose container runs the guest's program with these arguments.
    pub(crate) fn new(arguments: &[&str]) -> World {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("bundle/rootfs");
        fs::create_dir_all(&root).unwrap();
        fs::copy(guest(), root.join("guest")).unwrap();
        fs::set_permissions(root.join("guest"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(root.join("plain"), "no program").unwrap();
        let mut args = vec!["/guest"];
        args.extend(arguments);
        let name = directory.path().file_name().unwrap().to_string_lossy().into_owned();
        let cgroup = format!("/amber-tests/{}", name.trim_start_matches('.'));
        let capabilities = json!(["CAP_KILL"]);
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": {"uid": 0, "gid": 0},
                "args": args,
                "env": ["PATH=/", "X=1"],
                "cwd": "/",
                "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
                "noNewPrivileges": true,
            },
            "root": {"path": "rootfs", "readonly": true},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts"},
            ],
            "linux": {"cgroupsPath": cgroup, "namespaces": [
                {"type": "pid"}, {"type": "mount"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "time"},
            ]},
        });
        World { directory, config, platform: "ptrace", environment: Vec::new() }
    }

    /// A path in the world.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes config.json.
    pub(crate) fn write(&self) {
        fs::write(self.path("bundle/config.json"), self.config.to_string()).unwrap();
    }

    /// `amber` with the world's state directory.
    pub(crate) fn amber(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_amber"));
        command.arg("--root").arg(self.path("state")).args(["--platform", self.platform]).args(args);
        command.stdin(Stdio::null()).envs(self.environment.iter().cloned());
        command
    }

    /// Runs `amber` to its end; what the container keeps open is not waited for.
    pub(crate) fn run(&self, args: &[&str]) -> Outcome {
        finish(self.amber(args), &self.directory.path().join(format!("out-{:?}", thread::current().id())))
    }

    /// Runs `amber`, which must succeed.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let outcome = self.run(args);
        assert_eq!(outcome.code, 0, "{args:?}: {outcome:?}");
        outcome.out
    }

    /// Makes a container; what it prints is in the file `out`.
    pub(crate) fn create(&self, id: &str) -> Outcome {
        let mut config = self.config.clone();
        if let Some(path) = config.pointer_mut("/linux/cgroupsPath") {
            *path = json!(format!("{}-{id}", path.as_str().unwrap()));
        }
        fs::write(self.path("bundle/config.json"), config.to_string()).unwrap();
        let bundle = self.path("bundle");
        let pid_file = self.path("pid");
        let args = ["create", "--bundle", bundle.to_str().unwrap(), "--pid-file", pid_file.to_str().unwrap(), id];
        let outcome = finish(self.amber(&args), &self.path(&format!("out-{id}")));
        Outcome { out: String::new(), ..outcome }
    }

    /// Makes and starts a container.
    pub(crate) fn start(&self, id: &str) {
        let outcome = self.create(id);
        assert_eq!(outcome.code, 0, "{outcome:?}");
        self.ok(&["start", id]);
    }

    /// What a container printed.
    pub(crate) fn printed(&self, id: &str) -> String {
        fs::read_to_string(self.path(&format!("out-{id}"))).unwrap_or_default()
    }

    /// Starts a container and waits until it is ready.
    pub(crate) fn ready(&self, id: &str) {
        self.start(id);
        eventually(|| self.printed(id).contains("ready"));
    }

    /// A container's state.
    pub(crate) fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.ok(&["state", id])).unwrap()
    }

    /// A container's status.
    pub(crate) fn status(&self, id: &str) -> String {
        self.state(id)["status"].as_str().unwrap().to_owned()
    }

    /// The number of a sandbox's process.
    pub(crate) fn pid(&self, id: &str) -> i32 {
        self.state(id)["pid"].as_i64().unwrap() as i32
    }

    /// Waits until a container has ended.
    pub(crate) fn ended(&self, id: &str) {
        eventually(|| self.status(id) == "stopped");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let Ok(containers) = fs::read_dir(self.path("state")) else { return };
        for container in containers.flatten() {
            let id = container.file_name();
            let _ = self.amber(&["delete", "--force"]).arg(id).stderr(Stdio::null()).status();
        }
    }
}

/// Runs a command to its end with its output in a file, which others may have open longer.
pub(crate) fn finish(mut command: Command, out: &Path) -> Outcome {
    let err = out.with_extension("err");
    let mut child = command.stdout(File::create(out).unwrap()).stderr(File::create(&err).unwrap()).spawn().unwrap();
    let limit = Instant::now() + Duration::from_secs(30);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > limit {
            child.kill().unwrap();
            panic!("amber did not end in time: {command:?}");
        }
        thread::sleep(Duration::from_millis(2));
    };
    let read = |path: &Path| {
        let mut text = Vec::new();
        File::open(path).unwrap().read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    };
    let code = status.code().unwrap_or_else(|| panic!("amber was killed: {status}"));
    Outcome { code, out: read(out), err: read(&err) }
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn eventually(mut so: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(15);
    while !so() {
        assert!(Instant::now() < limit, "it does not come");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process runs, and is no zombie.
pub(crate) fn runs(pid: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
