# containerd and its stock shim, through ctr.
. "$HELPERS/check.sh"

state=/run/amber-ctr-test
mkdir -p $state root
cat >config.toml <<END
version = 2
root = "$PWD/root"
state = "$state/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "$state/containerd.sock"
END
containerd --config config.toml --log-level warn 2>containerd.log &
daemon=$!
c() { ctr --address $state/containerd.sock --namespace tests "$@"; }
cleanup=('c task kill --signal KILL long; c container rm long' 'kill $daemon; wait $daemon' "rm -rf $state")
soon c version
run=(c run --runc-binary "$RUNTIME" --env PATH=/usr/bin:/bin --rootfs)
mkdir tree upper work
mount -t overlay -o "lowerdir=$TREE,upperdir=$PWD/upper,workdir=$PWD/work" overlay tree
cleanup+=('umount tree')
is 'hello from ctr' "${run[@]}" --rm "$PWD/tree" one echo hello from ctr
status 9 "${run[@]}" --rm "$PWD/tree" two sh -c 'exit 9'
is 'SOME=thing' "${run[@]}" --rm --env SOME=thing "$PWD/tree" three sh -c 'env | grep SOME'
"${run[@]}" --detach "$PWD/tree" long sleep 1000
like 'long.*RUNNING' c task ls
is 'in the task' c task exec --exec-id e1 long echo in the task
status 4 c task exec --exec-id e2 long sh -c 'exit 4'
c task pause long
like 'long.*PAUSED' c task ls
c task resume long
like '^[0-9]+' c task ps long
c task metrics long >&2
c task kill --signal KILL long
soon bash -c "ctr --address $state/containerd.sock --namespace tests task ls | grep -q STOPPED"
c task rm long || true
c container rm long
is '' c container ls --quiet
