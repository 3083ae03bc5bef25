# Limits of every kind; what breaks one is the guest's process, not the container.
. "$HELPERS/check.sh"

is '1234 4321' in_it --ulimit nofile=1234:4321 -- sh -c 'echo $(ulimit -Sn) $(ulimit -Hn)'
is 0 in_it --ulimit core=0 -- sh -c 'ulimit -c'
eat='import sys
try: b = bytearray(400 << 20); b[::4096] = b"x" * len(b[::4096]); print("ate it all")
except MemoryError: sys.exit(9)'
# The hungry child is killed; the shell that started it lives and tells of it.
is 'child 137' in_it --memory 128m --memory-swap 128m -- sh -c 'python3 -c "$1" 2>/dev/null; echo "child $?"' sh "$eat"
is 'ate it all' in_it --memory 600m -- python3 -c "$eat"
# The first process itself: the container ends as killed.
status 137 in_it --memory 128m --memory-swap 128m -- python3 -c "$eat"
like '^13[0-9]{7}$' in_it --memory 128m -- sh -c 'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; true'
like 'Resource temporarily|Cannot fork|retry' in_it --pids-limit 8 -- python3 -c '
import os, time
try:
    for n in range(20):
        if os.fork() == 0: time.sleep(3), os._exit(0)
except OSError as error: print(error)'
in_it --pids-limit 8 -- sh -c 'for n in 1 2 3 4; do sleep 0.1 & done; wait'
# Half a processor: a second of work takes two.
docker run --detach --name "$NAME" --cpus 0.3 "$IMAGE" sh -c 'while :; do :; done'
group=$(docker inspect --format '{{.State.Pid}}' "$NAME")
sleep 1
ticks() { for task in "/proc/$group" $(pgrep --parent "$group" | sed 's,^,/proc/,'); do awk '{ print $14 + $15 }' "$task/stat"; done | awk '{ n += $1 } END { print n }'; }
one=$(ticks); sleep 3; two=$(ticks)
[ $((two - one)) -lt 180 ] || fail "$((two - one)) hundredths of a second in three seconds are not 0.3 processors"
[ $((two - one)) -gt 20 ] || fail "it hardly runs: $((two - one))"
docker kill "$NAME" >/dev/null
is 2048 in_it --sysctl net.core.somaxconn=2048 -- cat /proc/sys/net/core/somaxconn
is 99 in_it --sysctl kernel.msgmax=99 -- cat /proc/sys/kernel/msgmax
is 321 in_it --oom-score-adj 321 -- cat /proc/self/oom_score_adj
