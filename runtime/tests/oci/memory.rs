//! A container survives when it fills its memory with kernel objects.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::World;

const LIMIT: u64 = 64 << 20;
/// What the sandbox itself may take besides.
const SLACK: u64 = 64 << 20;

/// What a guest can make without end, and how that ends; where it depends on what runs out first, the ways.
const KINDS: &[(&str, &str)] = &[
    ("links", "No space left on device"),
    ("attributes", "Cannot allocate memory"),
    ("messages", "Cannot allocate memory"),
    ("semaphores", "Cannot allocate memory"),
    ("segments", "Cannot allocate memory"),
    // Of the contents, or of one more file.
    ("memfds", "No space left on device|Cannot allocate memory"),
    ("promises", "Cannot allocate memory"),
    ("sockets", "Killed"),
    ("packets", "Killed"),
    ("pipes", "Killed"),
    ("terminals", "Killed"),
    ("netlink", "Killed"),
    ("pages", "Killed"),
    ("sparse", "Killed"),
    ("threads", "Killed"),
    ("contexts", "Resource temporarily unavailable"),
    ("timers", "Resource temporarily unavailable"),
    ("signals", "Resource temporarily unavailable"),
    // Long texts, which are not kept as a whole.
    ("watched", "Success"),
    ("locks", "Success"),
];
/// What no process holds any more once the one that made it is gone.
const CIRCLES: &[(&str, &str)] = &[("circles", "Killed"), ("copies", "Killed")];
/// Those that depend on the platform.
const PLATFORM_KINDS: &[(&str, &str)] = &[("sparse", "Killed"), ("threads", "Killed")];

/// A number of `/proc/PID/status`, in bytes.
fn status(pid: i32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// The same with sockets of the host.
const NETWORK_KINDS: &[(&str, &str)] = &[
    ("filters", "Killed"),
    ("memberships", "Killed"),
    ("connections", "Killed"),
    ("datagrams", "Killed"),
    ("unaccepted", "Killed"),
    ("programs", "Killed"),
    ("moves", "Killed"),
    ("watches", "Killed"),
    // Of these the oldest are reset.
    ("unsent", "full"),
    ("closed", "Success"),
    ("ends", "full"),
];
/// So many descriptors would take several times the limit.
const DESCRIPTORS: u64 = 8192;

/// A network namespace with an interface for itself, for as long as this lives.
struct Namespace(Child);

impl Namespace {
    fn new() -> Namespace {
        let script = "ip link set lo up && echo up && exec sleep 600";
        let mut command = Command::new("unshare");
        let mut holder = command.args(["--net", "sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        Namespace(holder)
    }

    /// Has the container of a world be in it.
    fn hold(&self, world: &mut World) {
        let path = format!("/proc/{}/ns/net", self.0.id());
        let namespaces = world.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|entry| entry["type"] != "network");
        namespaces.push(json!({"type": "network", "path": path}));
    }

    /// Bytes that connections have to send, the end of each included.
    fn unsent(&self) -> u64 {
        let table = fs::read_to_string(format!("/proc/{}/net/tcp", self.0.id())).unwrap();
        let queues = table.lines().skip(1).map(|line| line.split_whitespace().nth(4).unwrap());
        queues.map(|queues| u64::from_str_radix(queues.split(':').next().unwrap(), 16).unwrap()).sum()
    }

    /// Connections that were closed and whose end has not arrived.
    fn ending(&self) -> usize {
        const FIN_WAIT1: &str = "04";
        let table = fs::read_to_string(format!("/proc/{}/net/tcp", self.0.id())).unwrap();
        table.lines().skip(1).filter(|line| line.split_whitespace().nth(3) == Some(FIN_WAIT1)).count()
    }

    /// Changes addresses often, which notifies each netlink socket in the group.
    fn change_addresses(&self) {
        let script =
            "for i in $(seq 100); do ip address add 10.0.0.$i dev lo && ip address del 10.0.0.$i/32 dev lo; done";
        let target = self.0.id().to_string();
        let done = Command::new("nsenter").args(["--net", "-t", &target, "sh", "-c", script]).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_container_lives_on_when_any_kind_of_object_fills_its_memory() {
    lives_on("ptrace", KINDS, None);
}

#[test]
fn a_container_lives_on_when_sockets_in_each_others_queues_fill_its_memory() {
    lives_on("ptrace", CIRCLES, None);
}

#[test]
fn a_container_in_a_virtual_machine_lives_on_when_any_kind_of_object_fills_its_memory() {
    if has_kvm() {
        lives_on("kvm", PLATFORM_KINDS, None);
    }
}

#[test]
fn a_container_lives_on_when_what_the_hosts_sockets_keep_fills_its_memory() {
    lives_on("ptrace", NETWORK_KINDS, Some(&Namespace::new()));
}

/// What waits to be accepted is taken over by the sandbox, and a connection that is closed is kept while it sends: neither
/// shows.
#[test]
fn a_container_with_a_limit_accepts_and_closes_connections_as_without() {
    ends_well(&[("accepts", "accepted"), ("closes", "closed")]);
}

#[test]
fn a_container_is_charged_for_connections_in_a_handshake() {
    ends_well(&[("begins", "counted")]);
}

#[test]
fn a_container_is_charged_for_what_the_host_keeps_of_a_long_poll() {
    ends_well(&[("polls", "counted")]);
}

/// Changed pages of a file are written back and reclaimed, also those that processes have mapped that sleep.
#[test]
fn a_container_stores_to_a_file_that_is_larger_than_its_memory() {
    for platform in ["ptrace", "kvm"] {
        if platform == "kvm" && !has_kvm() {
            continue;
        }
        let mut world = World::new(&["stores"]);
        world.platform = platform;
        world.config["linux"]["resources"] = json!({"memory": {"limit": LIMIT}});
        let volume = world.path("volume");
        fs::create_dir(&volume).unwrap();
        let mount = json!({"destination": "/volume", "type": "bind", "source": volume, "options": ["rbind", "rw"]});
        world.config["mounts"].as_array_mut().unwrap().push(mount);
        world.start("stores");
        await_end(&world, "stores");
        assert_eq!(world.printed("stores"), "ready: stored\n", "{platform}");
    }
}

/// Waits longer than [`World::ended`] until a container has ended.
fn await_end(world: &World, id: &str) {
    let limit = Instant::now() + Duration::from_secs(120);
    while world.status(id) != "stopped" {
        assert!(Instant::now() < limit, "{id}: {}", world.printed(id));
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn has_kvm() -> bool {
    File::options().read(true).write(true).open("/dev/kvm").is_ok()
}

/// Runs programs in a container with a limit and a network namespace, to their ends.
fn ends_well(programs: &[(&str, &str)]) {
    let namespace = Namespace::new();
    for (what, end) in programs {
        let mut world = World::new(&[what]);
        for set in ["bounding", "effective", "permitted"] {
            world.config["process"]["capabilities"][set] = json!(["CAP_NET_RAW"]);
        }
        world.config["linux"]["resources"] = json!({"memory": {"limit": LIMIT}});
        world.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 65536, "hard": 65536}]);
        namespace.hold(&mut world);
        let groups = json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"});
        world.config["mounts"].as_array_mut().unwrap().push(groups);
        world.start(what);
        await_end(&world, what);
        assert_eq!(world.printed(what), format!("ready: {end}\n"));
    }
}

/// Packets queued for unresolved neighbours are charged to no socket, so the host's queues are shortened.
#[test]
fn a_container_with_a_limit_has_short_queues_for_neighbours() {
    let namespace = Namespace::new();
    let limit = json!({"memory": {"limit": LIMIT}});
    for (resources, bytes) in [(json!({}), "212992"), (limit, "8192")] {
        let mut world = World::new(&["neighbours"]);
        world.config["linux"]["resources"] = resources;
        namespace.hold(&mut world);
        world.start("asks");
        world.ended("asks");
        assert_eq!(world.printed("asks"), format!("neighbours: {bytes}\n"));
    }
}

/// Fills a container with each kind in turn, in a network namespace if one is given.
fn lives_on(platform: &'static str, kinds: &[(&str, &str)], namespace: Option<&Namespace>) {
    for (kind, end) in kinds {
        let mut world = World::new(&["fill", kind]);
        world.platform = platform;
        world.config["linux"]["resources"] = json!({"memory": {"limit": LIMIT}});
        let files = if namespace.is_some() { DESCRIPTORS } else { 65536 };
        world.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": files, "hard": files}]);
        if let Some(namespace) = namespace {
            namespace.hold(&mut world);
        }
        let capabilities = match (namespace, *kind) {
            (Some(_), _) => json!(["CAP_KILL", "CAP_NET_RAW"]),
            // As many descriptors may be in messages as memory allows.
            (None, "copies") => json!(["CAP_SYS_RESOURCE"]),
            (None, _) => world.config["process"]["capabilities"]["bounding"].clone(),
        };
        for set in ["bounding", "effective", "permitted"] {
            world.config["process"]["capabilities"][set] = capabilities.clone();
        }
        world.config["mounts"][2]["options"] = json!(["ptmxmode=0666"]);
        let tmpfs = json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"});
        world.config["mounts"].as_array_mut().unwrap().push(tmpfs);
        world.start("full");
        let limit = Instant::now() + Duration::from_secs(120);
        let mut changed = false;
        while !world.printed("full").contains("ready") {
            assert!(Instant::now() < limit, "{kind}: {}", world.printed("full"));
            if let Some(namespace) = namespace
                && world.printed("full").contains("filled")
                && !std::mem::replace(&mut changed, true)
            {
                namespace.change_addresses();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let printed = world.printed("full");
        let ends = end.split('|').any(|end| printed.contains(&format!("ready: {end}")));
        assert!(ends, "{kind} on {platform}: {printed}");
        let unsent = namespace.map_or(0, Namespace::unsent);
        assert!(unsent < LIMIT, "{kind}: {unsent} bytes are on their way");
        let ending = namespace.map_or(0, Namespace::ending);
        assert!(ending < 10_000, "{kind}: {ending} connections are about to end");
        let heap = status(world.pid("full"), "RssAnon");
        assert!(heap < LIMIT + SLACK, "{kind}: the sandbox has {heap} bytes");
        assert!(world.ok(&["exec", "full", "/guest", "show"]).contains("uid 0"), "{kind}");
        world.ok(&["delete", "--force", "full"]);
    }
}
