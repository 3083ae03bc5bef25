#!/bin/bash
# git init, commit, branch, merge, clone, gc and fsck.
set -e
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@b HOME=$PWD
export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'
git init -q -b main repo; cd repo
for i in $(seq 1 30); do mkdir -p dir$((i % 3)); seq 1 $i >dir$((i % 3))/f$i; done
git add .; git commit -q -m first; git rev-parse HEAD
git checkout -q -b side; echo side >dir0/f3; git commit -q -a -m side
git checkout -q main; echo main >dir1/f1; git commit -q -a -m main
git merge -q -m merged side; git rev-parse HEAD; git log --oneline --graph | cat
git mv dir0/f3 moved; rm dir1/f4; git status --short
git stash -q; git status --short; git stash pop -q; git commit -q -a -m move; git diff --stat HEAD~1 | cat
cd ..; git clone -q repo copy; git -C copy rev-parse HEAD; git clone -q --bare "file://$PWD/repo" bare.git
git -C copy fsck --full --strict; git -C repo gc -q --prune=now; git -C repo fsck; git -C repo count-objects | cut -d, -f1
echo more >copy/more; git -C copy add more; git -C copy commit -q -m more; git -C copy push -q "$PWD/bare.git" main; git -C bare.git rev-parse main
git -C repo archive main | sha256sum
git -C repo blame -s dir1/f1 | cat
