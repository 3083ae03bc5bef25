# PostgreSQL with its data on a volume, which survives the server being killed.
. "$HELPERS/check.sh"

bin=/usr/lib/postgresql/15/bin
docker volume create "$NAME"
cleanup=('docker rm --force "$NAME"' 'docker volume rm "$NAME"')
volume=(--volume "$NAME:/data")
in_it "${volume[@]}" -- sh -c 'chown postgres: /data && chmod 700 /data'
in_it "${volume[@]}" --user postgres -- $bin/initdb --pgdata /data --auth trust >&2
docker run --detach --name "$NAME" "${volume[@]}" --user postgres --shm-size 128m "$IMAGE" \
    $bin/postgres -D /data -k /tmp -c listen_addresses=
sql() { docker exec --user postgres "$NAME" psql --host /tmp --no-psqlrc --tuples-only --no-align --command "$1" postgres; }
soon sql 'select 1'
sql 'create table kept (n int, t text); insert into kept select n, n::text from generate_series(1, 5000) n' >&2
docker exec --user postgres "$NAME" $bin/pgbench --host /tmp --initialize --scale 1 --quiet postgres >&2
docker exec --user postgres "$NAME" $bin/pgbench --host /tmp --client 4 --jobs 2 --time 4 postgres | tee bench.txt >&2
grep -q 'number of failed transactions: 0 ' bench.txt || fail "transactions failed"
before=$(sql 'select count(*) from pgbench_history')
[ "$before" -gt 0 ] || fail "no transaction was made"
docker kill "$NAME"
is 137 docker wait "$NAME"
docker start "$NAME"
soon sql 'select 1'
is 12502500 sql 'select sum(n) from kept'
is "$before" sql 'select count(*) from pgbench_history'
is t sql 'select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)'
docker stop --time 30 "$NAME"
is 0 docker inspect --format '{{.State.ExitCode}}' "$NAME"
like 'database system was not properly shut down' docker logs "$NAME"
