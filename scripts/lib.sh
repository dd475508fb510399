# Shared by the scripts: sourced, never run. Leaves the shell in the repository's root.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Where cargo puts what it builds.
TARGET_DIR=${CARGO_TARGET_DIR:-target}

say() { printf '\n==> %s\n' "$*"; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Runs a command as root: itself if that is who we are, else through sudo.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "this needs root, and there is no sudo; as root, run: $*"
    fi
}

# Whether version $1 is at least version $2.
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]; }

rustc_version() { rustc --version | cut -d ' ' -f 2; }

# Makes cargo run tests and benchmarks as root, while it builds as the user that calls it.
run_tests_as_root() {
    [ "$(id -u)" -ne 0 ] || return 0
    command -v sudo >/dev/null || die "the programs that load BPF need root, and there is no sudo"
    local host
    host=$(rustc -vV | sed -n 's/^host: //p')
    # sudo resets PATH even with -E; the programs find their tools through it.
    export "CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$host")_RUNNER=sudo -E env PATH=$PATH"
}
