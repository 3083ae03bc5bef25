#!/bin/bash
# A database written by two processes at once, with a rollback journal and with a write-ahead log.
for mode in delete wal; do
    rm -f db*
    sqlite3 db "pragma journal_mode=$mode; create table t(id integer primary key, who text, n int);"
    write() {
        for batch in 1 2 3 4 5; do
            { echo ".timeout 30000"; echo "begin immediate;"; for n in $(seq 1 40); do echo "insert into t(who, n) values('$1', $batch * 100 + $n);"; done; echo "commit;"; } | sqlite3 db || echo "failed $1"
        done
    }
    write a & write b & wait
    sqlite3 db "select who, count(*), sum(n) from t group by who; pragma integrity_check; select count(*) from t where id % 7 = 0; pragma journal_mode;"
done
python3 - <<'END'
import sqlite3, threading
def work(name):
    connection = sqlite3.connect("py.db", timeout=60)
    for n in range(20):
        with connection:
            connection.execute("insert into t values(?, ?)", (name, n))
sqlite3.connect("py.db").execute("create table t(who, n)")
threads = [threading.Thread(target=work, args=(name,)) for name in "xy"]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sqlite3.connect("py.db").execute("select who, count(*) from t group by who").fetchall())
END
sqlite3 db "vacuum into 'small'; attach 'small' as s; select count(*) from s.t"
