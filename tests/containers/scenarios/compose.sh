# Several containers of one compose file.
. "$HELPERS/check.sh"

cat >docker-compose.yml <<END
version: "2.4"
services:
  store:
    image: $IMAGE
    command: redis-server --protected-mode no --save ''
    healthcheck: { test: ["CMD", "redis-cli", "ping"], interval: 0.5s, retries: 20 }
  web:
    image: $IMAGE
    command: python3 -m http.server 8000 --directory /srv
    volumes: ["./srv:/srv:ro", "scratch:/scratch"]
    depends_on: { store: { condition: service_healthy } }
  asker:
    image: $IMAGE
    command: sh -c 'until curl --silent --fail http://web:8000/page && redis-cli -h store ping; do sleep 0.2; done; sleep 1000'
    depends_on: [web, store]
    mem_limit: 200m
volumes: { scratch: {} }
END
mkdir srv && echo the-page >srv/page
compose() { docker-compose --project-name "$NAME" "$@"; }
cleanup=('compose down --volumes --timeout 1')
compose up --detach >&2
soon bash -c 'docker-compose --project-name "$NAME" logs --no-color asker | grep -q PONG'
like 'the-page' compose logs --no-color asker
is 3 sh -c 'docker-compose --project-name "$NAME" ps --quiet | wc -l'
is PONG compose exec -T asker redis-cli -h store ping
compose up --detach --scale web=2 >&2
compose stop --timeout 2 >&2
