# Capabilities, no-new-privileges, seccomp profiles, and what is hidden.
. "$HELPERS/check.sh"

bounding() { in_it "$@" -- sh -c 'while read -r key value; do [ "$key" != CapBnd: ] || echo $value; done </proc/self/status'; }
is 00000000a80425fb bounding
is 0000000000000000 bounding --cap-drop ALL
is 0000000000000400 bounding --cap-drop ALL --cap-add NET_BIND_SERVICE
is 00000000a80425fa bounding --cap-drop CHOWN
is 00000000a8a425fb bounding --cap-add SYS_ADMIN --cap-add SYS_NICE
status 1 in_it --cap-drop CHOWN -- chown 1 /tmp
status 0 in_it -- chown 1 /tmp
status 32 in_it -- mount -t tmpfs none /mnt
status 0 in_it --cap-add SYS_ADMIN --security-opt apparmor=unconfined -- mount -t tmpfs none /mnt
is 'NoNewPrivs: 1' in_it --security-opt no-new-privileges -- sh -c 'echo $(grep NoNewPrivs /proc/self/status)'
is 'NoNewPrivs: 0' in_it -- sh -c 'echo $(grep NoNewPrivs /proc/self/status)'
is 'Seccomp: 2' in_it -- sh -c 'echo $(grep Seccomp: /proc/self/status)'
is 'Seccomp: 0' in_it --security-opt seccomp=unconfined -- sh -c 'echo $(grep Seccomp: /proc/self/status)'
cat >profile.json <<'END'
{ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
  { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 },
  { "names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO", "args": [{ "index": 2, "value": 511, "op": "SCMP_CMP_EQ" }] },
  { "names": ["sethostname"], "action": "SCMP_ACT_KILL_PROCESS" } ] }
END
filtered=(in_it --security-opt "seccomp=$PWD/profile.json" --)
like 'Operation not supported' "${filtered[@]}" sh -c 'mkdir /x 2>&1; true'
status 1 "${filtered[@]}" chmod 777 /tmp
status 0 "${filtered[@]}" chmod 755 /tmp
status 159 "${filtered[@]}" sh -c 'hostname new; exit $?'
in_it -- sh -c 'for hidden in kcore keys timer_list; do ! test -s /proc/$hidden || exit 1; done; test -z "$(ls /sys/firmware)"'
like 'Read-only file system' in_it -- sh -c 'echo 1 2>&1 >/proc/sys/kernel/domainname; echo x 2>&1 >/proc/sysrq-trigger; true'
# runc must give all capabilities there are, which not every host has.
[ "$RUNTIME_NAME" = runc ] || status 0 in_it --privileged -- sh -c 'mount -t tmpfs none /mnt && mkdir /mnt/x && umount /mnt'
in_it --user 1000 -- sh -c '! cat /etc/shadow && grep -q "^CapEff:.0000000000000000" /proc/self/status'
