#!/bin/bash
# Round trips through tar, gzip, xz and zstd: links, sparse files, modes, times, owners, long names.
set -e
mkdir -p tree/a/b
for i in $(seq 1 50); do seq 1 $((i * 37)) >"tree/a/file$i"; done
ln tree/a/file1 tree/a/b/hard
ln -s ../file2 tree/a/b/soft
ln -s /nowhere tree/a/dangling
mkfifo tree/a/fifo
truncate -s 10M tree/sparse; echo end >>tree/sparse
dd if=/dev/urandom of=tree/random bs=64K count=8 status=none
chmod 4751 tree/a/file3; chmod 000 tree/a/file4; chown 12:34 tree/a/file5
touch -d '2001-02-03 04:05:06' tree/a/file6
long=tree/$(printf 'n%.0s' {1..120}); mkdir "$long"; touch "$long/$(printf 'm%.0s' {1..120})"
list() { (cd "$1" && find . ! -name . -printf '%y %m %n %U %G %l %p\n' | LC_ALL=C sort && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | grep -v random); }
list tree >before
for how in --gzip --xz --zstd; do
    tar --create --sparse $how --file archive tree
    mkdir out
    tar --extract --preserve-permissions $how --file archive --directory out
    list out/tree | cmp - before
    cmp tree/random out/tree/random
    stat -c '%Y' out/tree/a/file6
    [ "$(stat -c %b out/tree/sparse)" -lt 1000 ] && echo "$how sparse"
    rm -rf out archive
done
for tool in gzip xz zstd; do
    $tool -q -c tree/random | $tool -d -c | cmp - tree/random
    $tool -q -k -9 tree/a/file50; $tool -t -q tree/a/file50.*; rm tree/a/file50.*
    echo "$tool good"
done
zstd -q -T2 -c tree/sparse | zstd -q -d -c | cmp - tree/sparse
xz -T2 -c tree/random | xz -dc | cmp - tree/random
tar -cf - tree | tar -xf - -C "$(mkdir pipe && echo pipe)"; list pipe/tree | cmp - before
cp -a tree copy; list copy | cmp - before
sha256sum before | cut -c1-16 | wc -c
wc -l <before
