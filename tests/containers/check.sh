# What the scenarios say of what they see. Sourced by each.
set -euo pipefail

# The trace goes where nobody looks for the output of a command.
exec 9>&2
BASH_XTRACEFD=9
# Each line with the second of the scenario.
PS4='+$SECONDS '

# Everything a scenario starts, it removes at its end: containers of its name, and what `cleanup` is told.
cleanup=()
at_end() {
    set +e
    local command
    for command in "${cleanup[@]}"; do eval "$command"; done
    # shellcheck disable=SC2046
    docker rm --force --volumes $(docker ps --all --quiet --filter "name=^$NAME(-|$)") 2>/dev/null
} >/dev/null
trap at_end EXIT

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# is WANT COMMAND…: it succeeds and prints just that.
is() {
    local want=$1 got
    shift
    got=$("$@") || fail "$*: status $?, printing '$got'"
    [ "$got" = "$want" ] || fail "$*: '$got' is not '$want'"
}

# like PATTERN COMMAND…: it succeeds and prints something with this extended regular expression.
like() {
    local pattern=$1 got
    shift
    got=$("$@" 2>&1) || fail "$*: status $?, printing '$got'"
    grep -qE -- "$pattern" <<<"$got" || fail "$*: '$got' is not like '$pattern'"
}

# status CODE COMMAND…: it ends with the status.
status() {
    local want=$1 got=0
    shift
    "$@" || got=$?
    [ "$got" = "$want" ] || fail "$*: status $got, not $want"
}

# soon COMMAND…: within half a minute it succeeds.
soon() {
    local end=$((SECONDS + 30))
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "$*: does not succeed in time"
        sleep 0.1
    done
}

# in_it FLAGS… -- COMMAND…: runs it in a container that goes afterwards.
in_it() {
    local flags=()
    while [ "$1" != -- ]; do flags+=("$1"); shift; done
    shift
    docker run --rm "${flags[@]}" "$IMAGE" "$@"
}
