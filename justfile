# What developers type often; `just` lists it. Each line is a command that can be typed as well.

# Lists what there is
default:
    @just --list

# Formats everything
format:
    cargo fmt --all
    cargo fmt --manifest-path fuzz/Cargo.toml

# Formatting and lints, as CI checks them
check:
    cargo fmt --all --check
    cargo fmt --manifest-path fuzz/Cargo.toml --check
    cargo clippy --workspace --all-targets -- -D warnings

# Licences, versions, sources and known faults of dependencies, by deny.toml
dependencies:
    cargo deny check
    cargo deny --manifest-path fuzz/Cargo.toml check

# All tests
test:
    cargo test --workspace

# Guest programs whose name has this in it, natively and on every platform: `just guest poll::epoll`
guest name:
    cargo test -p amber-tests --test conformance -- {{name}}

# Scenarios of containers, under one of amber, amber-kvm, runc: `just containers runc`
containers runtime="amber" *names:
    AMBER_TEST_RUNTIME={{runtime}} cargo test -p amber-tests --test containers -- {{names}}

# Runs a command in Amber: `just do kvm uname -a`
do platform +command:
    cargo run --release -- --platform {{platform}} do -- {{command}}

# The printed tables in docs/, which tests compare
tables:
    cargo run --quiet -- syscalls --format markdown > docs/syscalls.md
    cargo run --quiet -- host-calls --format markdown > docs/host-calls.md

# Each fuzz target for so long: `just fuzz 60s netlink`
fuzz time="60s" *targets:
    fuzz/run --each {{time}} {{targets}}

# What isolation costs here
bench *flags:
    cargo run --release -p amber-bench -- {{flags}}
