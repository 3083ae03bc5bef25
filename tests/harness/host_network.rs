//! The host's network: programs about sockets in a namespace of their own, and scripts with a neighbour behind a veth
//! pair, which must give the same run by a shell inside the namespace and by `amber do --network host`.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{path::Path, process};

use anyhow::{Context, Result, bail};
use libtest_mimic::{Completion, Failed, Trial};

use crate::guest::{self, Guest};
use crate::run::{self, Outcome, TIME_LIMIT};
use crate::setup::Setup;
use crate::{compile, guest_tests};

/// The guest programs that run over the host's sockets as well.
const PROGRAMS: [&str; 4] = ["sockets::tcp", "sockets::udp", "sockets::options", "poll::epoll"];

/// A name and what a shell runs. `$RUN` runs a command inside, `$OWN` as well, but as the namespace's owner in Amber;
/// `$OUT` runs one at the neighbour's. Inside is 10.77.0.1 and
/// fd77::1, the neighbour is 10.77.0.2 and fd77::2, and the way to everything else.
const SCRIPTS: &[(&str, &str)] = &[
    (
        "addresses",
        "$RUN ip -o addr | grep -v fe80; $RUN ip -br link; $RUN ip -d link show lo
        $RUN ip addr show dev inside | grep -v -e link-netns -e fe80 -e tentative",
    ),
    (
        "routes",
        "$RUN ip route; $RUN ip -6 route | grep -v fe80; $RUN ip route show table local; $RUN ip rule
        $RUN ip route get 10.77.0.2; $RUN ip -6 route get fd77::2; $RUN ip route get 10.99.0.1
        $RUN ip link show dev nothing; echo $?",
    ),
    (
        "neighbours",
        "$OUT ping -c 1 -W 5 10.77.0.1 >/dev/null
        $RUN sh -c 'ip neigh | grep -o lladdr.*: ; grep -c inside /proc/net/arp'",
    ),
    (
        "ifconfig",
        "$RUN ifconfig -a | grep -v -e packets -e errors -e fe80; $RUN ifconfig inside | head -n 2; $RUN route -n",
    ),
    (
        "tables",
        "$RUN sort /proc/net/if_inet6 | grep -v ^fe80; $RUN cat /proc/net/route /proc/net/fib_trie
        $RUN sh -c 'cut -d: -f1 /proc/net/dev'; $RUN cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/core/somaxconn",
    ),
    (
        "in_sys",
        "$RUN sh -c 'cd /sys/class/net; ls; readlink *; ls -1 inside/statistics
        for link in lo inside; do cd $link; for file in $(ls -p | grep -v -e / -e addr_assign -e name_assign); do
        echo $file $(cat $file 2>&1); done; cd ..; done; cat lo/name_assign_type lo/subsystem/inside/mtu
        cd /sys/devices/virtual/net; ls; ls -d inside/power; stat -c %a,%s inside inside/mtu inside/speed
        cat nothing/mtu ../../../class/net/nothing/mtu; mkdir new'",
    ),
    (
        "come_and_go",
        "$RUN sh -c 'cd /sys/class/net; until test -e late; do sleep 0.1; done; cat late/address; exec 3<late/mtu
        cat <&3; while test -e late/mtu; do sleep 0.1; done; ls' >seen &
        $OUT ip link add late type veth peer name later address 02:00:00:77:00:09 netns $INSIDE
        $OUT ip -n $INSIDE link set later name late
        until grep -q 1500 seen; do sleep 0.1; done; $OUT ip link del late; wait; cat seen",
    ),
    (
        "events",
        "$RUN python3 -c \"$EVENTS\" >seen & until grep -q ready seen; do sleep 0.1; done
        $OUT ip -n $INSIDE link add late type veth peer name later; $OUT ip -n $INSIDE addr add 10.78.0.1/24 dev late
        $OUT ip -n $INSIDE link set late up; $OUT ip -n $INSIDE link set later up
        $OUT ip -n $INSIDE route add 10.79.0.0/24 via 10.78.0.9; $OUT ip -n $INSIDE link del late; wait; cat seen",
    ),
    (
        "ip_monitor",
        "$RUN timeout 20 ip -o monitor link address route >seen & monitor=$!
        until grep -q late seen; do $OUT ip -n $INSIDE link add late type veth peer name later
        $OUT ip -n $INSIDE link del late; done; $OUT ip -n $INSIDE addr add 10.78.0.1/24 dev inside
        $OUT ip -n $INSIDE addr del 10.78.0.1/24 dev inside
        until grep -q Deleted.*local.10.78.0.1 seen; do sleep 0.1; done; kill $monitor; wait
        grep 10.78 seen",
    ),
    (
        "parameters",
        "$RUN sh -c 'cd /proc/sys/net; find . -type f | sort; cat ipv4/conf/inside/forwarding ipv6/conf/inside/mtu
        cd ipv4/conf; ls; cat nothing/forwarding; cat /proc/sys/net/ipv4/conf/default/../inside/rp_filter'",
    ),
    (
        "own_parameters",
        "$OWN sh -c 'cd /proc/sys/net/ipv4; stat -c %a ip_default_ttl route/flush tcp_available_congestion_control
        sed -i s/a/b/ ip_default_ttl; echo 7 >conf/inside/rp_filter; cat conf/inside/rp_filter
        echo 2 >conf/inside/rp_filter; cat conf/inside/rp_filter; echo 77 >ip_default_ttl; cat ip_default_ttl
        echo x >ip_default_ttl; echo 1 >tcp_available_congestion_control; echo 1 >route/flush; cat ip_default_ttl
        echo 77 >/proc/sys/net/core/somaxconn; cat /proc/sys/net/core/somaxconn'
        $OUT cat /proc/sys/net/ipv4/ip_default_ttl; ip netns exec $INSIDE cat /proc/sys/net/ipv4/ip_default_ttl",
    ),
    ("packets", "$OWN python3 -c \"$PACKETS\""),
    ("arping", "$OWN arping -c 2 -I inside 10.77.0.2 | sed s/[0-9.]*ms//"),
    ("reached_from_outside", "$RUN python3 -c \"$SERVER\" >server & $OUT python3 -c \"$CLIENT\"; wait; cat server"),
    ("connects_out", "$OUT python3 -c \"$SERVER\" >server & $RUN python3 -c \"$CLIENT\"; wait; cat server"),
    (
        "datagrams",
        "$RUN python3 -c \"$ECHO\" >echo & $OUT python3 -c \"$CALLER\"; wait; cat echo
        $OUT python3 -c \"$ECHO\" >echo & $RUN python3 -c \"$CALLER\"; wait; cat echo",
    ),
    ("refused_and_unreachable", "$RUN python3 -c \"$ERRORS\""),
    ("kinds", "$RUN python3 -c \"$KINDS\""),
    (
        "listeners",
        "$RUN sh -c 'python3 -m http.server 8077 >/dev/null 2>&1 & server=$!
        until ss -Htln | grep -q 8077; do sleep 0.1; done; ss -Htln; ss -Htlnp | grep -c pid=; netstat -tln
        kill $server; wait'",
    ),
    (
        "http_server",
        "seq 99999 >file; $RUN python3 -c \"$HTTP\" 2>/dev/null &
        until $OUT curl -sf http://10.77.0.1:8078/ >/dev/null; do sleep 0.1; done
        $OUT curl -s http://10.77.0.1:8078/file | md5sum; $OUT curl -s http://10.77.0.1:8078/stop; wait",
    ),
    (
        "curl",
        "seq 99999 >file; $OUT python3 -m http.server --bind :: 8079 >/dev/null 2>&1 & server=$!
        until $OUT curl -sf http://10.77.0.2:8079/ >/dev/null; do sleep 0.1; done
        $RUN curl -s http://10.77.0.2:8079/file | md5sum; $RUN curl -s 'http://[fd77::2]:8079/file' | md5sum
        kill $server; wait",
    ),
];

/// What the scripts have in variables: programs for both ends. Each names its own end's address by where it runs.
const PROGRAM_TEXTS: &[(&str, &str)] = &[
    ("EVENTS", include_str!("../network/events.py")),
    ("PACKETS", include_str!("../network/packets.py")),
    ("KINDS", include_str!("../network/kinds.py")),
    (
        "SERVER",
        "
import socket, hashlib
for family, any in ((socket.AF_INET, '0.0.0.0'), (socket.AF_INET6, '::')):
    s = socket.socket(family)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((any, 7777)); s.listen(5)
    c, peer = s.accept()
    digest, total = hashlib.md5(), 0
    while data := c.recv(100000): digest.update(data); total += len(data)
    c.sendall(b'%d %s\\n' % (total, digest.hexdigest().encode())); c.close(); s.close()
    print('from', peer[0])
",
    ),
    (
        "CLIENT",
        "
import socket, time, os
own = os.popen('ip -4 -o addr').read()
peer = '10.77.0.2' if '10.77.0.1/' in own else '10.77.0.1'
for address in (peer, peer.replace('10.77.0.', 'fd77::')):
    for attempt in range(300):
        try: c = socket.create_connection((address, 7777)); break
        except ConnectionRefusedError: time.sleep(0.05)
    c.sendall(bytes(range(256)) * 20000); c.shutdown(socket.SHUT_WR)
    answer = b''
    while data := c.recv(100): answer += data
    print(answer.decode(), end='')
",
    ),
    (
        "ECHO",
        "
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.bind(('::', 7778)); s.settimeout(30)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
while True:
    data, control, flags, peer = s.recvmsg(65536, 200)
    if data == b'end': break
    print(len(data), peer[0], len(control)); s.sendto(data[::-1], peer)
",
    ),
    (
        "CALLER",
        "
import socket, os
own = os.popen('ip -4 -o addr').read()
peer = '10.77.0.2' if '10.77.0.1/' in own else '10.77.0.1'
for family, address in ((socket.AF_INET, peer), (socket.AF_INET6, peer.replace('10.77.0.', 'fd77::'))):
    s = socket.socket(family, socket.SOCK_DGRAM); s.connect((address, 7778)); s.settimeout(5)
    for data in (b'hello', bytes(60000)):
        while True:
            try:
                s.send(data)
                while len(answer := s.recv(65536)) != len(data): pass
                break
            except (ConnectionRefusedError, TimeoutError): pass
        print(answer[:5] if data == b'hello' else len(answer))
s.send(b'end')
",
    ),
    (
        "HTTP",
        "
from http.server import *
class Handler(SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.goes_on = self.path != '/stop'
        SimpleHTTPRequestHandler.do_GET(self) if self.server.goes_on else self.send_error(204)
server = ThreadingHTTPServer(('', 8078), Handler); server.goes_on = True; server.timeout = 0.2
while server.goes_on: server.handle_request()
",
    ),
    (
        "ERRORS",
        "
import socket, errno, select
def attempt(address, family=socket.AF_INET, blocking=True):
    s = socket.socket(family); s.setblocking(blocking)
    error = s.connect_ex(address)
    first = errno.errorcode.get(error)
    if error == errno.EINPROGRESS:
        select.select([], [s], [], 10)
        first += ' ' + errno.errorcode.get(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), '0')
    print(address[0], first)
for blocking in (True, False): attempt(('10.77.0.2', 1), blocking=blocking)
attempt(('fd77::2', 1), socket.AF_INET6)
attempt(('255.255.255.255', 1))
attempt(('10.77.0.1', 1))
s = socket.socket()
for name in (('10.88.0.1', 0), ('10.77.0.1', 0)):
    try: s.bind(name); print('bound', s.getsockname()[0])
    except OSError as error: print(errno.errorcode[error.errno])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('10.77.0.2', 9)); s.send(b'x')
select.select([s], [], [], 10)
try: s.recv(1)
except OSError as error: print(errno.errorcode[error.errno])
s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'inside'); print(s.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16))
",
    ),
];

/// The tests of this kind.
pub fn trials(setup: &Arc<Setup>, platforms: &[&str]) -> Result<Vec<Trial>> {
    let guests: Vec<Arc<Guest>> = guest::find(&setup.sources.join("guests"))?.into_iter().map(Arc::new).collect();
    let mut trials = Vec::new();
    for platform in platforms {
        for guest in guests.iter().filter(|guest| PROGRAMS.contains(&guest.path().as_str())) {
            let name = format!("{platform}::host_network::{}", guest.name);
            let (setup, guest, platform, key) = (setup.clone(), guest.clone(), (*platform).to_owned(), name.clone());
            trials.push(Trial::ignorable_test(name, move || program(&setup, &guest, &platform, &key)));
        }
        for &(script, text) in SCRIPTS {
            let name = format!("{platform}::host_network::{script}");
            let (setup, platform, key) = (setup.clone(), (*platform).to_owned(), name.clone());
            trials.push(Trial::ignorable_test(name, move || compare(&setup, &platform, text, &key)));
        }
    }
    Ok(trials)
}

/// Why there can be no namespaces here, if so.
fn obstacle(setup: &Setup) -> Result<Option<&'static str>> {
    let has_ip = Command::new("ip").arg("-V").output().is_ok();
    Ok(setup.native()?.obstacle().or((!has_ip).then_some("the program ip is not installed")))
}

/// A guest program in a namespace of its own with nothing but a loopback.
fn program(setup: &Setup, guest: &Guest, platform: &str, key: &str) -> Result<Completion, Failed> {
    let fail = |error: anyhow::Error| Failed::from(format!("{error:#}"));
    if let Some(obstacle) = obstacle(setup).map_err(fail)? {
        return Ok(Completion::ignored_with(obstacle));
    }
    let run = || -> Result<Outcome> {
        let program = compile::guest(guest, &setup.built.join("guests"))?;
        let space = Space::new("alone")?;
        let mut command = Command::new(setup.amber()?.program());
        run::plain_environment(&mut command);
        command.args(["--platform", platform, "--network", &space.network(), "do"]);
        command.args(&guest.amber).arg("--").arg(program).args(&guest.args);
        run::run(command, tempfile::tempdir().context("a directory to run in")?.path(), TIME_LIMIT)
    };
    guest_tests::judge(guest, &run().map_err(fail)?, setup, key)
}

fn ip(line: &str) -> Result<()> {
    let output = Command::new("ip").args(line.split_whitespace()).output().context("ip")?;
    if !output.status.success() {
        bail!("ip {line}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// A network namespace with a loopback, by name; gone when this is dropped.
struct Space(String);

impl Space {
    fn new(purpose: &str) -> Result<Space> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("amber-{}-{number}-{purpose}", process::id());
        ip(&format!("netns add {name}"))?;
        let space = Space(name);
        ip(&format!("-n {} link set lo up", space.0))?;
        Ok(space)
    }

    /// As Amber takes it for a sandbox's own.
    fn network(&self) -> String {
        format!("ns:/run/netns/{}", self.0)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = ip(&format!("netns del {}", self.0));
    }
}

/// Two namespaces joined by a veth pair.
struct Pair {
    inside: Space,
    outside: Space,
}

impl Pair {
    fn new() -> Result<Pair> {
        let pair = Pair { inside: Space::new("in")?, outside: Space::new("out")? };
        let (inside, outside) = (&pair.inside.0, &pair.outside.0);
        ip(&format!(
            "-n {inside} link add inside address 02:00:00:77:00:01 type veth peer name outside netns {outside}"
        ))?;
        ip(&format!("-n {outside} link set outside address 02:00:00:77:00:02"))?;
        for (end, device, number) in [(inside, "inside", 1), (outside, "outside", 2)] {
            ip(&format!("-n {end} addr add 10.77.0.{number}/24 dev {device}"))?;
            ip(&format!("-n {end} addr add fd77::{number}/64 dev {device} nodad"))?;
            ip(&format!("-n {end} link set {device} up"))?;
        }
        ip(&format!("-n {inside} route add default via 10.77.0.2"))?;
        Ok(pair)
    }

    /// Runs a script: natively, or in Amber, given the program with its flags.
    fn run(&self, script: &str, amber: Option<&str>) -> Result<Outcome> {
        let mut command = Command::new("bash");
        run::plain_environment(&mut command);
        command.envs(PROGRAM_TEXTS.iter().copied());
        let inside = format!("ip netns exec {}", self.inside.0);
        let (shared, own) = match amber {
            Some(amber) => (
                format!("{inside} {amber} --network host do --"),
                format!("{amber} --network {} do --", self.inside.network()),
            ),
            None => (inside.clone(), inside),
        };
        command.env("RUN", shared).env("OWN", own).env("INSIDE", &self.inside.0);
        command.env("OUT", format!("ip netns exec {}", self.outside.0));
        command.args(["-c", script]);
        let directory = tempfile::tempdir().context("a directory to run in")?;
        run::run(command, directory.path(), TIME_LIMIT)
    }
}

/// Whether all programs that a script names first on its lines are there is found by running it natively.
fn compare(setup: &Setup, platform: &str, script: &str, key: &str) -> Result<Completion, Failed> {
    let fail = |error: anyhow::Error| Failed::from(format!("{error:#}"));
    if let Some(obstacle) = obstacle(setup).map_err(fail)? {
        return Ok(Completion::ignored_with(obstacle));
    }
    let missing = ["ping", "arping", "tcpdump", "ifconfig", "netstat", "route", "curl", "ss", "python3"]
        .into_iter()
        .find(|name| script.split(|c: char| !c.is_alphanumeric()).any(|word| word == *name) && !is_installed(name));
    if missing.is_some() {
        return Ok(Completion::ignored_with("a program of the script is not installed"));
    }
    let amber = setup.amber().map_err(fail)?.program().display().to_string();
    let amber = format!("{amber} --platform {platform}");
    let native = Pair::new().and_then(|pair| pair.run(script, None)).map_err(fail)?;
    let guest = Pair::new().and_then(|pair| pair.run(script, Some(&amber))).map_err(fail)?;
    let same = native.stdout == guest.stdout && native.code() == guest.code();
    let failed = if same { BTreeSet::new() } else { BTreeSet::from([String::new()]) };
    setup.judge(key, &failed, format!("natively {}\nin Amber {}", native.describe(), guest.describe()))
}

fn is_installed(name: &str) -> bool {
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].iter().any(|directory| Path::new(directory).join(name).exists())
}
