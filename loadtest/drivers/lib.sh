# Sourced by every driver: headrace alone, one shard on core 0, as it comes by default, before the light upstream; the driver's tool on core 1
# with the upstream. Sets URL, BODY (a file), CONNECTIONS and SECONDS_LONG; everything started ends with the script.
set -euo pipefail

NAME=$(basename "$0")
usage() {
    echo "usage: loadtest/drivers/$NAME [CONNECTIONS [SECONDS]]   (default 64 and 5)" >&2
    exit 2
}
CONNECTIONS=${1:-64} SECONDS_LONG=${2:-5}
[[ $# -le 2 && $CONNECTIONS =~ ^[1-9][0-9]*$ && $SECONDS_LONG =~ ^[1-9][0-9]*$ ]] || usage

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BIN=${HEADRACE_BIN_DIR:-${CARGO_TARGET_DIR:-$ROOT/target}/release}
PORT=${DRIVER_PORT:-22700}
INSTALLED=$ROOT/loadtest/peers/.installed
WORK=$(mktemp -d)
PIDS=()

cleanup() {
    for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$WORK"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# cannot REASON: the tool cannot be had here; exit code 3, as peers do.
cannot() {
    echo "$NAME: $*" >&2
    exit 3
}

# debian COMMAND PACKAGE
debian() {
    command -v "$1" >/dev/null && return
    [[ $(id -u) == 0 ]] || cannot "not installed, and installing takes root: apt-get install $2"
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "$2"; } >"$WORK/apt.log" 2>&1 ||
        cannot "Debian's package $2 cannot be installed: $(tail -n 1 "$WORK/apt.log")"
}

wait_for_port() {
    for _ in $(seq 100); do
        if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then return; fi
        sleep 0.05
    done
    cannot "nobody listens on port $1; $(tail -n 1 "$WORK"/*.log)"
}

start() {
    [[ -x $BIN/headrace && -x $BIN/headrace-loadtest ]] || cargo build --release --locked --manifest-path "$ROOT/Cargo.toml" -p headrace -p headrace-loadtest --bins
    local last
    last=$(($(nproc) - 1))
    taskset -c "$last" "$BIN/headrace-loadtest" upstream --listen "127.0.0.1:$PORT" 2>"$WORK/upstream.log" &
    PIDS+=($!)
    cat >"$WORK/headrace.toml" <<TOML
[server]
listen = ["127.0.0.1:$((PORT + 1))"]

[admin]
listen = "127.0.0.1:$((PORT + 2))"

[[upstreams]]
name = "model_server"
endpoints = ["http://127.0.0.1:$PORT"]

[[models]]
name = "*"
upstream = "model_server"

[[routes]]
path = "/forward"
upstream = "model_server"
TOML
    taskset -c 0 "$BIN/headrace" serve --config "$WORK/headrace.toml" 2>"$WORK/headrace.log" &
    PIDS+=($!)
    wait_for_port "$PORT"
    wait_for_port $((PORT + 1))
    URL=http://127.0.0.1:$((PORT + 1))/forward
    BODY=$WORK/body.json
    printf '{"model":"mock","input":"%043d"}' 0 >"$BODY"
    RUN=(taskset -c "$last")
}

# result REQUESTS_PER_S P50 P99 ERRORS
result() {
    printf '%s: %s connections, %s s: %s requests/s, p50 %s, p99 %s, errors %s\n' "$NAME" "$CONNECTIONS" "$SECONDS_LONG" "$1" "$2" "$3" "$4"
    [[ $4 == 0 ]]
}
