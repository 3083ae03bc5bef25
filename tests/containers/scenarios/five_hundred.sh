# Five hundred times create, start, delete, and nothing is left: no process, mount, control group or file.
. "$HELPERS/check.sh"

mkdir bundle rootfs && mount --bind "$TREE" rootfs && mount -o remount,bind,ro rootfs
cleanup=('umount rootfs' 'find /sys/fs/cgroup -depth -path "*$CGROUP-$NAME*" -type d -exec rmdir {} + 2>/dev/null')
cat >bundle/config.json <<END
{ "ociVersion": "1.0.2", "hostname": "one",
  "root": { "path": "$PWD/rootfs", "readonly": true },
  "process": { "cwd": "/", "args": ["true"], "env": ["PATH=/usr/bin:/bin"], "user": { "uid": 0, "gid": 0 } },
  "mounts": [ { "destination": "/proc", "type": "proc", "source": "proc" },
              { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" } ],
  "linux": { "cgroupsPath": "$CGROUP-$NAME/one",
             "namespaces": [ { "type": "pid" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" }, { "type": "network" } ] } }
END
# In process and mount namespaces of its own, everything there is is seen.
cat >inside <<'END'
set -euo pipefail
r() { "$RUNTIME" --root "$PWD/state" "$@"; }
groups() { find /sys/fs/cgroup -path "*$CGROUP-$NAME/*" -type d 2>/dev/null || true; }
snapshot() { ps -eo comm= | grep -vxE 'ps|sort|bash|grep' | sort; grep -c "$PWD" /proc/self/mountinfo; groups; find state -mindepth 1 2>/dev/null; find /dev/shm -mindepth 1 | wc -l; }
snapshot >../before || true
for n in $(seq "${COUNT:-500}"); do
    r create --bundle bundle --pid-file pid "n$n" </dev/null
    r start "n$n"
    tail --pid "$(cat pid)" --sleep-interval 0.01 -f /dev/null
    until r delete "n$n" 2>why; do grep -q 'not stopped\|is running' why || { cat why >&2; exit 1; }; done
done
sleep 0.3
snapshot >../after || true
diff ../before ../after
END
sed -i 's,\.\./,,g' inside
unshare --mount --pid --fork --mount-proc --propagation private bash -c 'bash inside; exit $?'
