#!/bin/bash
# Extended attributes through tar and cp.
set -e
mkdir tree; echo x >tree/f
setfattr -n user.note -v hello tree/f 2>/dev/null || exit 77
setfattr -n user.bytes -v 0x00ff10 tree/f
setfattr -n user.dir -v d tree
tar --xattrs -cf a.tar tree; mkdir out; tar --xattrs --xattrs-include='user.*' -xf a.tar -C out
getfattr --absolute-names -d -e hex -R out/tree
cp -a tree copy; getfattr --absolute-names -d -R copy
setfattr -x user.note copy/f; getfattr --absolute-names -n user.note copy/f 2>&1 | sed 's/.*: //'
cp copy/f plain; getfattr -d plain; echo done
