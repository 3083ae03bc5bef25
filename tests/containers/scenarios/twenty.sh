# Twenty containers at once.
. "$HELPERS/check.sh"

for n in $(seq 20); do
    docker run --detach --name "$NAME-$n" --env "N=$n" "$IMAGE" sh -c 'echo "I am $N"; read -r line </proc/uptime; exec sleep 1000' &
done >/dev/null
wait
is 20 sh -c 'docker ps --quiet --filter "name=^$NAME-" | wc -l'
for n in $(seq 20); do
    soon bash -c 'docker logs "$NAME-$0" | grep -q "I am $0"' "$n"
    is "$n" docker exec "$NAME-$n" sh -c 'echo $N' &
done
wait
docker kill $(docker ps --quiet --filter "name=^$NAME-") >/dev/null
soon test -z "$(docker ps --quiet --filter "name=^$NAME-")"
