# A wheel of Python is made, installed with pip and used.
. "$HELPERS/check.sh"

mkdir -p project/greeter wheels
cat >project/pyproject.toml <<'END'
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "greeter"
version = "1.2"
[project.scripts]
greet = "greeter:main"
END
cat >project/greeter/__init__.py <<'END'
import sys
def main():
    print("hello,", *sys.argv[1:])
END
in_it --volume "$PWD/project:/project" --volume "$PWD/wheels:/wheels" -- \
    pip wheel --no-index --no-build-isolation --no-deps --wheel-dir /wheels /project >&2
[ -e wheels/greeter-1.2-py3-none-any.whl ] || fail "there is no wheel: $(ls wheels)"
docker run --name "$NAME" --volume "$PWD/wheels:/wheels:ro" --env PIP_ROOT_USER_ACTION=ignore "$IMAGE" sh -c '
    python3 -m venv --without-pip --system-site-packages /venv 2>/dev/null ||:
    pip install --no-index --find-links /wheels --break-system-packages greeter && greet from pip' | tee out >&2
is 'hello, from pip' tail -n 1 out
