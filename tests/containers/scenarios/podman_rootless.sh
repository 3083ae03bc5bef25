# Podman of an ordinary user.
. "$HELPERS/check.sh"

# The user is known in this scenario only: the files that name it are laid over those of the host.
cat >inside <<'END'
set -e
for file in passwd group subuid subgid; do cp /etc/$file $file 2>/dev/null || : >$file; done
echo 'ordinary:x:23456:23456::/home-of-ordinary:/bin/sh' >>passwd
echo 'ordinary:x:23456:' >>group
echo 'ordinary:200000:65536' >>subuid
echo 'ordinary:200000:65536' >>subgid
for file in passwd group subuid subgid; do [ -e /etc/$file ] || continue; mount --bind $file /etc/$file; done
mkdir -p /run/user-of-ordinary/home && chown -R 23456:23456 /run/user-of-ordinary && chmod 755 /run/user-of-ordinary
cp "$RUNTIME" /run/user-of-ordinary/runtime-under-test
# The device is root's, so that the runtime has to do without; unless it is told to use it.
if [ "$RUNTIME_NAME" = amber-kvm ]; then
    cp "${RUNTIME%/*}/amber-itself" /run/user-of-ordinary/
    mknod --mode 666 /run/user-of-ordinary/kvm c 10 232
    mount --bind /run/user-of-ordinary/kvm /dev/kvm
fi
exec setpriv --reuid 23456 --regid 23456 --clear-groups --reset-env env HOME=/run/user-of-ordinary/home \
    XDG_RUNTIME_DIR=/run/user-of-ordinary NAME="$NAME" HELPERS=/run/user-of-ordinary TREE="$TREE" PATH="$PATH" bash -x /run/user-of-ordinary/script
END
cat >script <<'END'
set -euo pipefail
cd $HOME
printf '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n[containers]\nlog_driver = "k8s-file"\n' >containers.conf
export CONTAINERS_CONF=$HOME/containers.conf
p() { podman --storage-driver vfs --runtime $XDG_RUNTIME_DIR/runtime-under-test "$@"; }
trap 'p rm --force --all --time 0 >/dev/null; kill $(cat $XDG_RUNTIME_DIR/libpod/tmp/pause.pid)' EXIT
is() { local want=$1 got; shift; got=$("$@"); [ "$got" = "$want" ] || { echo "FAILED: $*: '$got' is not '$want'" >&2; exit 1; }; }
mkdir -p tree/{bin,dev,proc,sys,tmp,etc,run}
cp /run/user-of-ordinary/tree.tar . && tar -C tree -xf tree.tar
run=(p run --network none --rootfs)
is 'hello from an ordinary user' "${run[@]}" --rm $PWD/tree echo hello from an ordinary user
is 0 "${run[@]}" --rm $PWD/tree id -u
is 1000 "${run[@]}" --rm --user 1000 $PWD/tree id -u
code=0; "${run[@]}" --rm $PWD/tree sh -c 'exit 12' || code=$?
[ $code = 12 ]
"${run[@]}" --detach --name one $PWD/tree sleep 1000
is executed p exec one echo executed
p stop --time 1 one
is 137 p inspect --format '{{.State.ExitCode}}' one
p rm one
END
mkdir -p /run/user-of-ordinary
cp script /run/user-of-ordinary/script
tar --create --file /run/user-of-ordinary/tree.tar --directory "$TREE" --exclude './dev/*' \
    ./bin ./lib ./lib64 ./etc/passwd ./etc/group ./usr/bin/{bash,dash,sh,cat,id,echo,sleep,ls,env} ./usr/lib64 ./usr/lib/x86_64-linux-gnu/{libc.so.6,libselinux.so.1,libpcre2-8.so.0,libpcre2-8.so.0.11.2,ld-linux-x86-64.so.2,libtinfo.so.6,libtinfo.so.6.4} 
cleanup=('rm -rf /run/user-of-ordinary')
unshare --mount --propagation private bash -x inside
