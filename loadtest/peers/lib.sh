# Sourced by every peer's `install`. What it installs goes into loadtest/peers/.installed/<name> and nowhere else (Debian packages excepted).
# An install is idempotent: a stamp holds what was asked for, and the same wish again is answered at once.
# Exit codes of an install: 0 and a version on stdout, or 3 and one line on stderr that says why the peer cannot be had here.
set -euo pipefail

PEERS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
NAME=$(basename "$(cd "$(dirname "$0")" && pwd)")
HERE=$PEERS/$NAME
HOME_DIR=$PEERS/.installed/$NAME
LOG=$PEERS/.installed/$NAME.log
mkdir -p "$PEERS/.installed"

# cannot REASON: the peer is listed with this reason instead of figures.
cannot() {
    printf '%s: %s\n' "$NAME" "$*" >&2
    exit 3
}

# last_words: the end of the log in one line, for a reason.
last_words() {
    grep -v '^[[:space:]]*$' "$LOG" 2>/dev/null | tail -n 1 | cut -c 1-160
}

# installed WISH: true when just this was installed here before.
installed() {
    [[ -f $HOME_DIR/.stamp && $(<"$HOME_DIR/.stamp") == "$1" ]]
}

stamp() {
    printf '%s\n' "$1" >"$HOME_DIR/.stamp"
}

# debian COMMAND PACKAGE: the command, from Debian's package when it is missing.
debian() {
    command -v "$1" >/dev/null && return
    [[ $(id -u) == 0 ]] || cannot "not installed, and installing Debian's package $2 takes root: apt-get install $2"
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "$2"; } >"$LOG" 2>&1 ||
        cannot "Debian's package $2 cannot be installed: $(last_words)"
    # A package's service must not hold ports or cores of this machine.
    if command -v systemctl >/dev/null; then systemctl disable --now "$2" >>"$LOG" 2>&1 || true; fi
}

# python_packages REQUIREMENTS: a virtual environment of its own with exactly these packages.
python_packages() {
    local wish
    wish="$(sha256sum <"$1") $(python3 --version 2>&1)"
    installed "$wish" && return
    rm -rf "$HOME_DIR"
    python3 -m venv "$HOME_DIR" >"$LOG" 2>&1 || cannot "no virtual environment: $(last_words)"
    # Wheels only: a build from source would need toolchains of its own and could run anything.
    "$HOME_DIR/bin/pip" install --disable-pip-version-check --no-compile --only-binary :all: -q -r "$1" >>"$LOG" 2>&1 ||
        cannot "pip cannot install $(basename "$1"): $(last_words)"
    stamp "$wish"
}
