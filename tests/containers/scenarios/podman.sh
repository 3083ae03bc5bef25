# Podman as root.
. "$HELPERS/check.sh"

unset DOCKER_CONFIG
export CONTAINERS_CONF=$PWD/containers.conf STORAGE_DRIVER=overlay
printf '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n[containers]\nlog_driver = "k8s-file"\n' >containers.conf
p() { podman --root "$PWD/storage" --runroot /run/podman-of-test --runtime "$RUNTIME" "$@"; }
cleanup=('p rm --force --all --time 0' 'umount "$PWD/storage/overlay"' 'rm -rf /run/podman-of-test')
run=(p run --network none --rootfs)
is 'hello from podman' "${run[@]}" --rm "$TREE:O" echo hello from podman
status 11 "${run[@]}" --rm "$TREE" sh -c 'exit 11'
is '1000 /tmp' "${run[@]}" --rm --user 1000 --workdir /tmp "$TREE" sh -c 'echo $(id -u) $PWD'
is 'x=y' "${run[@]}" --rm --env x=y "$TREE" sh -c 'echo x=$x'
is page "${run[@]}" --rm --volume "$PWD:/here:ro" "$TREE" sh -c 'echo page'
# Over a directory, a tmpfs of Podman's starts with a copy of it.
listing='cd /etc/default && ls -ln --time-style=+ | tail -n +2; touch written'
is "$(cd "$TREE/etc/default" && ls -ln --time-style=+ | tail -n +2)" "${run[@]}" --rm --tmpfs /etc/default "$TREE" sh -c "$listing"
[ ! -e "$TREE/etc/default/written" ] || fail 'written beneath'
"${run[@]}" --detach --name one "$TREE" sh -c 'trap "exit 3" TERM; echo up; while :; do sleep 0.1; done'
soon bash -c 'podman --root "$PWD/storage" --runroot /run/podman-of-test logs one | grep -q up'
is executed p exec one echo executed
status 5 p exec one sh -c 'exit 5'
is 33 p exec --user www-data one id -u
p pause one
is paused p inspect --format '{{.State.Status}}' one
p unpause one
like '^PID +COMMAND' p top one pid args
like ' 1 +0 .* sh -c trap' p top one
like 'sh -c trap' p top one -eo pid,args
p stop --time 20 one
is 3 p inspect --format '{{.State.ExitCode}}' one
p start one
soon p exec one true
p kill one
soon bash -c 'test "$(podman --root "$PWD/storage" --runroot /run/podman-of-test inspect --format "{{.State.Status}}" one)" = exited'
p rm one
is '' p ps --all --quiet
