#!/bin/bash
# A web server, fetched from within.
mkdir www; cd www || exit
echo '<p>hello</p>' >index.html; head -c 3000000 /dev/zero >big; mkdir dir; touch dir/file
python3 -m http.server 8123 --bind 127.0.0.1 >../log 2>&1 &
server=$!
cat >../fetch.py <<'END'
import hashlib, http.client, sys, threading, time, urllib.error, urllib.request
for attempt in range(200):
    try:
        http.client.HTTPConnection("127.0.0.1", 8123, timeout=20).connect(); break
    except ConnectionRefusedError:
        time.sleep(0.05)
base = "http://localhost:8123/"
print(urllib.request.urlopen(base).read().decode().strip())
big = urllib.request.urlopen(base + "big").read()
print(len(big), hashlib.sha256(big).hexdigest())
print("file" in urllib.request.urlopen(base + "dir/").read().decode())
try:
    urllib.request.urlopen(base + "none")
except urllib.error.HTTPError as error:
    print(error.code)
got = []
threads = [threading.Thread(target=lambda: got.append(len(urllib.request.urlopen(base + "big").read()))) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(got)
END
python3 ../fetch.py; echo "status $?"
kill $server; wait $server; echo "server $?"
grep -c '"GET' ../log
