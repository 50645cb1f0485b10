# shellcheck shell=bash
# What every script under hack/ and tests/ starts with: where things are, how to speak, how to stop.
# Sourced, never run.

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# What is built or downloaded for the tests lies outside the repository, so that `git clean` keeps it
# and a second checkout shares it.
export COPEPOD_CACHE=${COPEPOD_CACHE:-/var/cache/copepod}

say() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; }

# die WHAT-WENT-WRONG WHAT-TO-DO-NEXT
die() {
	printf '%s: %s.\n  %s\n' "$(basename "$0" .sh)" "$1" "${2-}" >&2
	exit 1
}

need_command() { # COMMAND REMEDY
	command -v "$1" >/dev/null || die "'$1' is not installed" "$2"
}

need_root() { # WHY
	[ "$(id -u)" = 0 ] || die "this needs root: $1" "Run it again with sudo."
}

# wait_until SECONDS COMMAND...: true as soon as COMMAND is, false when the time is over.
wait_until() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.1
	done
}

# end_process PID SECONDS: TERM, then KILL; returns when it is gone. A zombie of ours is reaped.
end_process() {
	local pid=$1
	kill "$pid" 2>/dev/null || return 0
	wait_until "$2" process_gone "$pid" || kill -KILL "$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null || wait_until 5 process_gone "$pid" || true
}

process_gone() { # PID
	local state
	state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null) || return 0
	[ -z "$state" ] || [ "$state" = Z ]
}
