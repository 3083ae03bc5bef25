# nginx with a published port, to curl and wrk on the host.
. "$HELPERS/check.sh"

mkdir www && echo '<h1>served</h1>' >www/index.html && head -c 300000 /dev/urandom >www/blob
docker run --detach --name "$NAME" --publish 127.0.0.1:8085:80 --volume "$PWD/www:/var/www/html:ro" "$IMAGE" \
    nginx -g 'daemon off;'
soon curl --silent --fail http://127.0.0.1:8085/
is '<h1>served</h1>' curl --silent --fail http://127.0.0.1:8085/
curl --silent --fail http://127.0.0.1:8085/blob | cmp - www/blob
is 404 curl --silent --output /dev/null --write-out '%{http_code}' http://127.0.0.1:8085/absent
address=$(docker inspect --format '{{.NetworkSettings.IPAddress}}' "$NAME")
is '<h1>served</h1>' curl --silent --fail "http://$address/"
wrk --threads 2 --connections 20 --duration 3s http://127.0.0.1:8085/ >wrk.txt
cat wrk.txt >&2
! grep -qE 'Socket errors|Non-2xx' wrk.txt || fail "wrk saw errors"
[ "$(awk '/requests in/ { print $1 }' wrk.txt)" -gt 100 ] || fail "wrk was hardly served"
docker exec "$NAME" nginx -s reload
soon curl --silent --fail http://127.0.0.1:8085/
like 'GET /blob' docker exec "$NAME" cat /var/log/nginx/access.log
docker exec "$NAME" nginx -s quit
is 0 timeout 20 docker wait "$NAME"
