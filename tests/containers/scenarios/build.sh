# docker build of a small C project: every RUN step is a container.
. "$HELPERS/check.sh"

mkdir src
cat >src/greet.c <<'END'
#include <stdio.h>
const char *greeting(void);
int main(int argc, char **argv) { printf("%s, %s\n", greeting(), argc > 1 ? argv[1] : "you"); return 0; }
END
echo 'const char *greeting(void) { return "hello"; }' >src/greeting.c
printf 'greet: greet.o greeting.o\n\t$(CC) -o $@ $^\ninstall: greet\n\tinstall -D greet $(DESTDIR)/usr/local/bin/greet\n' >src/Makefile
cat >Dockerfile <<END
FROM $IMAGE AS builder
ARG LEVEL=2
WORKDIR /src
COPY src .
RUN make -j2 CFLAGS="-O\$LEVEL -Wall" && make install DESTDIR=/out
RUN ["/out/usr/local/bin/greet", "builder"]
FROM $IMAGE
COPY --from=builder /out /
RUN groupadd -g 4000 people && useradd -u 4000 -g people -m person
USER person
WORKDIR /home/person
RUN touch made-by-person && test "\$(stat -c %U made-by-person)" = person
ENTRYPOINT ["greet"]
CMD ["nobody"]
END
cleanup=('docker rmi --force "$NAME"')
docker build --no-cache --tag "$NAME" . >&2
is 'hello, nobody' docker run --rm "$NAME"
is 'hello, reader' docker run --rm "$NAME" reader
is '/home/person/made-by-person' docker run --rm --entrypoint find "$NAME" /home/person -name 'made*'
printf 'FROM %s\nRUN exit 9\n' "$IMAGE" >Dockerfile
status 9 docker build --no-cache --force-rm .
