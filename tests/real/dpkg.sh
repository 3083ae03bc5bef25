#!/bin/bash
# A package is built, installed, its scripts run, and removed.
set -e
mkdir -p p/DEBIAN p/usr/bin p/etc
cat >p/DEBIAN/control <<END
Package: amber-sample
Version: 1.2
Architecture: all
Maintainer: Nobody <nobody@example.org>
Description: sample
END
printf '#!/bin/sh\necho "postinst $1"\n' >p/DEBIAN/postinst; printf '#!/bin/sh\necho "prerm $1"\n' >p/DEBIAN/prerm
chmod 755 p/DEBIAN/*inst p/DEBIAN/prerm
printf '#!/bin/sh\necho installed\n' >p/usr/bin/amber-sample; chmod 755 p/usr/bin/amber-sample
echo a=1 >p/etc/amber-sample.conf; echo /etc/amber-sample.conf >p/DEBIAN/conffiles
dpkg-deb --root-owner-group -b p sample.deb
dpkg -i sample.deb 2>&1 | grep -v -i 'reading database'
amber-sample
dpkg -s amber-sample | grep -E '^(Status|Version)'
dpkg -L amber-sample | LC_ALL=C sort
dpkg -V amber-sample && echo verified
dpkg -r amber-sample 2>&1 | grep -v -i 'reading database'
test -e /usr/bin/amber-sample || echo gone
test -e /etc/amber-sample.conf && echo "configuration kept"
dpkg -P amber-sample 2>&1 | grep -v -i 'reading database'
dpkg -l | tail -n +6 | wc -l
