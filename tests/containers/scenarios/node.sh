# node serves, and is asked by another container over the bridge.
. "$HELPERS/check.sh"

cat >server.js <<'END'
const http = require('http'), fs = require('fs');
const server = http.createServer((request, response) => {
  fs.readFile(__filename, (error, text) => response.end(JSON.stringify({ path: request.url, size: text.length, pid: process.pid })));
});
process.on('SIGTERM', () => { console.log('leaving'); server.close(() => process.exit(7)); server.closeAllConnections(); });
server.listen(3000, () => console.log('listening'));
END
docker run --detach --name "$NAME" --publish 3000:3000 --volume "$PWD/server.js:/server.js:ro" "$IMAGE" node /server.js
soon curl --silent --fail http://127.0.0.1:3000/
like "\"path\":\"/x\",\"size\":$(wc -c <server.js),\"pid\":1" curl --silent --fail http://127.0.0.1:3000/x
address=$(docker inspect --format '{{.NetworkSettings.IPAddress}}' "$NAME")
like '"path":"/y"' in_it -- curl --silent --fail "http://$address:3000/y"
wrk --threads 1 --connections 10 --duration 2s http://127.0.0.1:3000/ >wrk.txt
! grep -qE 'Socket errors|Non-2xx' wrk.txt || fail "wrk saw errors: $(cat wrk.txt)"
docker stop --time 20 "$NAME"
is 7 docker inspect --format '{{.State.ExitCode}}' "$NAME"
is $'listening\nleaving' docker logs "$NAME"
