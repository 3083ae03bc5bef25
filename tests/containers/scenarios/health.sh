# A health check turns from starting to healthy, and to unhealthy.
. "$HELPERS/check.sh"

docker run --detach --name "$NAME" --health-cmd 'test -f /tmp/well' --health-interval 0.5s --health-retries 2 \
    "$IMAGE" sh -c 'touch /tmp/well; exec sleep 1000'
health() { docker inspect --format '{{.State.Health.Status}}' "$NAME"; }
is_now() { [ "$(health)" = "$1" ]; }
soon is_now healthy
docker exec "$NAME" rm /tmp/well
soon is_now unhealthy
docker exec "$NAME" touch /tmp/well
soon is_now healthy
