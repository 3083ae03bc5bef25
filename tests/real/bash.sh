#!/bin/bash
# Pipelines, process substitution, here documents, traps, job control, arithmetic, arrays, coprocesses.
seq 1 1000 | grep 7 | sort -rn | head -n 5 | tr '\n' ' '; echo
printf '%s\n' b a c | sort | tee >(wc -l >count) | paste -sd,
until [ -s count ]; do sleep 0.1; done
cat count
diff <(seq 1 5) <(seq 2 6)
echo "diff says $?"
set -o pipefail
false | true; echo "pipefail ${PIPESTATUS[*]} $?"
yes | head -n 3; echo "yes ${PIPESTATUS[*]}"
cat <<END
here $((6 * 7)) $(echo sub | tr a-z A-Z)
END
trap 'echo got USR1' USR1
kill -USR1 $$
(trap 'echo subshell leaves' EXIT; exit 3); echo "status $?"
trap 'echo int; trap - INT' INT; kill -INT $$
(kill -TERM $BASHPID); echo "term $?"
sleep 100 & job=$!
kill $job; wait $job; echo "waited $?"
(sleep 0.2; exit 7) & wait $!; echo "background $?"
set -m
sleep 100 &
jobs | sed 's/[0-9]\{2,\}/N/'
kill -STOP %1; until jobs | grep -o Stopped; do sleep 0.1; done
kill -CONT %1; until jobs | grep -o Running; do sleep 0.1; done
kill %1; wait %1 2>/dev/null; echo "job $?"
set +m
coproc cat; echo through >&"${COPROC[1]}"; read -r line <&"${COPROC[0]}"; echo "coproc $line"
eval "exec ${COPROC[1]}>&-"
exec {fd}<>"$(mktemp)"; echo text >&$fd; exec {fd}>&-
declare -A map=([one]=1 [two]=2); echo "${map[one]}${map[two]} ${#map[@]}"
mkfifo fifo; (echo over the fifo >fifo) & read -r line <fifo; echo "$line"; wait
ulimit -n 64; ulimit -n
umask 027; touch new; stat -c '%a %s' new
nosuchcommand 2>/dev/null; echo "missing $?"
touch plain; ./plain 2>/dev/null; echo "plain $?"
echo $(( $(echo 2) ** 40 )) "${0##*/}" $#
exec 3<<<"string"; cat <&3
timeout 0.2 sleep 10; echo "timeout $?"
printf 'x%.0s' {1..100000} | wc -c
