#!/bin/bash
# A C project of many files, built by make with two jobs, and run.
set -e
mkdir -p project/src; cd project
for i in $(seq 1 20); do
    cat >"src/part$i.c" <<END
#include "parts.h"
#include <string.h>
int part$i(int x) { char text[32]; snprintf(text, sizeof text, "%d", x * $i); return (int)strlen(text) + x * $i; }
END
    echo "int part$i(int);" >>src/decls
done
{ echo '#include <stdio.h>'; cat src/decls; } >src/parts.h
{ echo '#include "parts.h"'; echo 'int main(void) { long sum = 0;'
  for i in $(seq 1 20); do echo "sum += part$i($i);"; done
  echo 'printf("sum %ld\n", sum); return sum % 100; }'; } >src/main.c
cat >Makefile <<'END'
OBJECTS := $(patsubst src/%.c,build/%.o,$(wildcard src/*.c))
program: $(OBJECTS)
	@$(CC) -o $@ $^
build/%.o: src/%.c src/parts.h | build
	@$(CC) -O2 -Wall -Werror -c -o $@ $<
build:
	@mkdir -p build
END
make -s -j2
code=0; ./program || code=$?; echo "code $code"
ls build | wc -l
make -q && echo "up to date"
touch -d '+1 minute' src/part3.c; make -n 2>&1 | grep -c part3
gcc -shared -fPIC -o libpart.so src/part1.c && gcc -o linked -x c - -L. -lpart -Wl,-rpath,'$ORIGIN' <<<'int part1(int); int main(void) { return part1(5); }'
code=0; ./linked || code=$?; echo "linked $code"
ar rc libparts.a build/part*.o && gcc -static -o static build/main.o libparts.a && code=0; ./static || echo "static $?"
echo 'int main(void) { return *(int *)0; }' | gcc -x c -o crash - 2>/dev/null
(ulimit -c 0; ./crash) 2>/dev/null || echo "crash $?"
