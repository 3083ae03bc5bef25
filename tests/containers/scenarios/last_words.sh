# A container ends while, or because, something is executed in it: whoever waits for that hears of it.
. "$HELPERS/check.sh"

up() {
    docker run --detach --rm --name "$NAME" "$IMAGE" sh -c 'trap "exit 3" TERM; echo up; while :; do sleep 0.05; done' >/dev/null
    # A first process without a trap would not notice the signal.
    soon bash -c 'docker logs "$NAME" | grep -x up'
}
gone() { soon bash -c '! docker inspect "$NAME"'; }
for n in $(seq 6); do
    up
    # Whether its own end comes before the others' is a matter of luck.
    timeout 20 docker exec "$NAME" sh -c 'kill -TERM 1' || [ $? = 137 ] || fail "exec: $?"
    gone
    up
    timeout 20 docker exec "$NAME" sleep 1000 &
    soon docker exec "$NAME" pgrep -fx 'sleep 1000'
    docker kill "$NAME" >/dev/null
    status 137 wait $!
    gone
done
