#!/bin/bash
find / -xdev | sort | sha256sum
find / -xdev | wc -l
find /usr/lib -xdev -type f -name '*.so*' -printf '%s %m %u %g %p\n' | LC_ALL=C sort | sha256sum
find /etc -xdev -type l -printf '%p %l\n' | LC_ALL=C sort
