# Who and where the first process is, and how its end is told.
. "$HELPERS/check.sh"

is '0:0' in_it -- sh -c 'echo $(id -u):$(id -g)'
is '1234:567' in_it --user 1234:567 -- sh -c 'echo $(id -u):$(id -g)'
is 'www-data' in_it --user www-data -- id -un
like 'groups=.*4\(adm\)' in_it --group-add adm -- id
is /var/lib in_it --workdir /var/lib -- pwd
is /made/here in_it --workdir /made/here -- pwd
is 'a value=b' in_it --env 'SOME=a value=b' -- sh -c 'echo "$SOME"'
is 'named named' in_it --hostname named -- sh -c 'echo $(hostname) $(cat /etc/hostname)'
is 'example.org' in_it --hostname a --domainname example.org -- sh -c 'cat /proc/sys/kernel/domainname'
is 1 in_it -- sh -c 'echo $$'
like 'init|tini' in_it --init -- cat /proc/1/comm
status 0 in_it --init -- sh -c '(sleep 0.1; exit 3) & wait $!; test $? = 3'
status 42 in_it -- sh -c 'exit 42'
status 127 in_it -- /no/such/program
status 126 in_it -- /etc/passwd
status 143 in_it -- sh -c 'trap "exit 143" TERM; kill -TERM $$'
like 'starting container process caused|executable file not found|no such file' bash -c 'docker run --rm "$IMAGE" /no/such/program 2>&1; true'
is 'from standard input' sh -c 'echo "from standard input" | docker run --rm -i "$IMAGE" cat'
is '131072' sh -c 'head -c 131072 /dev/zero | docker run --rm -i "$IMAGE" wc -c'
is 'out' in_it -- sh -c 'echo err >&2; echo out'
is '10.9.8.7 added' in_it --add-host added:10.9.8.7 -- sh -c 'getent hosts added | tr -s " "'
like 'nameserver 9.9.9.9' in_it --dns 9.9.9.9 -- cat /etc/resolv.conf
