# `amber install` makes a running Docker and Podman know Amber; `amber uninstall` takes that back to the last byte.
. "$HELPERS/check.sh"

if [ "$RUNTIME_NAME" = runc ]; then
    echo 'SKIPPED: runc installs nothing'
    exit
fi

# A daemon beside that of the other scenarios, which has the images of its own, and a configuration somebody wrote.
# It has a network namespace of its own, for a daemon without a bridge removes the one it finds, which is the other's.
place=/run/docker-of-install
mkdir -p etc/docker "$place"
cat >etc/docker/daemon.json <<END
{
  "bridge": "none",  "iptables": false, "ip6tables": false,
  "hosts": ["unix://$place/docker.sock"], "pidfile": "$place/pid", "exec-root": "$place/exec",
  "data-root": "$PWD/data", "cgroup-parent": "$CGROUP", "exec-opts": ["native.cgroupdriver=cgroupfs"]
}
END
cp etc/docker/daemon.json before.json
up() { unshare --net dockerd --config-file "$PWD/etc/docker/daemon.json" >>log 2>&1 & daemon=$!; soon d version; }
cleanup+=('kill $daemon; wait $daemon; rm -rf $place')
d() { docker --host "unix://$place/docker.sock" "$@"; }
up
tar --create --directory "$TREE" bin lib lib64 usr/bin/dash usr/bin/sh usr/bin/uname usr/lib64 \
    usr/lib/x86_64-linux-gnu/libc.so.6 usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 | d import - small >/dev/null
run=(d run --rm --network none --runtime amber small sh -c 'exit 7')
status 125 "${run[@]}"

like '\+ .*"amber"' "$RUNTIME" install --prefix "$PWD" --dry-run docker
cmp etc/docker/daemon.json before.json
"$RUNTIME" install --prefix "$PWD" --yes docker
kill -HUP $daemon
soon bash -c "docker --host unix://$place/docker.sock info --format '{{json .Runtimes}}' | grep -q amber"
status 7 "${run[@]}"
"$RUNTIME" uninstall --prefix "$PWD" --yes docker
cmp etc/docker/daemon.json before.json
is daemon.json ls etc/docker
# A reload brings runtimes, it takes none away.
kill $daemon
wait $daemon || true
up
status 125 "${run[@]}"

# Podman looks into its directory each time.
unset DOCKER_CONFIG
unshare --mount bash -euo pipefail -c '
    cp -a /etc/containers engines && cp -a engines as-before
    mount --bind engines /etc/containers
    p() {
        podman --cgroup-manager cgroupfs --events-backend file --root "$PWD/storage" --runroot "$0/podman" \
            --storage-driver vfs "$@" run --rm --log-driver k8s-file --network none --rootfs "$TREE" sh -c "exit 7"
    }
    ! p --runtime amber 2>/dev/null || exit
    "$RUNTIME" install --yes podman
    p --runtime amber || [ $? = 7 ]
    "$RUNTIME" uninstall --yes podman
    diff -r engines as-before
' "$place"
