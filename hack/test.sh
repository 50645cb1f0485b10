#!/bin/bash
# Runs every test there is, as root, from nothing: installs what is missing, builds, and goes through
# the stages below until one fails.
#
#   hack/test.sh                    all stages
#   hack/test.sh STAGE...           only these, in the order given, on what is built already
#   hack/test.sh --list             their names
#
# Ends with the seconds that each stage took and with how many tests passed, failed and were skipped.
# Logs: target/test-logs/. About 20 minutes on 2 cores the first time.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$REPO/hack/test/stages.sh"
cd "$REPO"

STAGES=(deps fmt clippy tidy build unit go-tools images integration fallbacks critest kubelet demo)
LOGS=$REPO/target/test-logs
export COPEPOD_TEST_REGISTRY=${COPEPOD_TEST_REGISTRY:-127.0.0.1:5055}
export COPEPOD_BIN=$REPO/target/release/copepod
export COPEPOD_SHIM=$REPO/target/release/containerd-shim-copepod-v1
export CRICTL=$COPEPOD_CACHE/bin/crictl
export CARGO_TERM_COLOR=never

table=()
passed=0 failed=0 skipped=0
registry_ran=
go_tools_pid=

finish() {
	local code=$? row
	trap - EXIT
	# The whole group: `go build` has children of its own.
	[ -z "$go_tools_pid" ] || kill -- -"$go_tools_pid" 2>/dev/null || true
	[ -n "$registry_ran" ] || hack/images.sh stop || true
	[ -z "${COPEPOD_TEST_CERTS-}" ] || rm -rf "$COPEPOD_TEST_CERTS"
	printf '\n%8s  %s\n' seconds stage
	for row in "${table[@]}"; do printf '%s\n' "$row"; done
	printf '%8d  %s\n\n%d passed, %d failed, %d skipped\n' "$SECONDS" 'in all' "$passed" "$failed" "$skipped"
	exit "$code"
}

# Adds up what a stage's log reports: cargo's result lines, and the last lines of our own scripts.
count_results() { # LOG
	local p f s
	read -r p f s < <(awk '
		/^test result: / { p += $4; f += $6; s += $8 }
		/^[a-z-]+: [0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { p += $2; f += $4; s += $6 }
		END { print p + 0, f + 0, s + 0 }' "$1")
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

run_stage() { # NAME
	local start=$SECONDS log=$LOGS/$1.log code
	echo "== $1"
	# Not `stage || code=$?`: inside a condition bash ignores `set -e`, and a stage would go on
	# after its first failing command.
	set +e
	(set -e && "stage_${1//-/_}") </dev/null 2>&1 | tee "$log"
	code=${PIPESTATUS[0]}
	set -e
	count_results "$log"
	table+=("$(printf '%8d  %s%s' $((SECONDS - start)) "$1" "$([ "$code" = 0 ] || echo '   FAILED')")")
	if [ "$code" != 0 ]; then
		[ "$failed" -gt 0 ] || failed=1
		die "stage '$1' failed" "Its output is above and in $log; repeat it alone with 'hack/test.sh $1'."
	fi
}

start_registry() {
	hack/images.sh serve
	COPEPOD_TEST_CERTS=$(mktemp -d /tmp/copepod-certs.XXXXXX)
	export COPEPOD_TEST_CERTS
	hack/images.sh certs "$COPEPOD_TEST_CERTS"
}

# The Go programs take seven minutes of two cores and nothing else waits for them before the
# conformance stages, so they are built behind Cargo's back; Cargo has the right of way, and its
# long single-threaded ends (linking, fat LTO) leave a core to them.
start_go_tools() {
	set -m
	nice -n 10 hack/go-tools.sh cri-tools kubelet >"$LOGS/go-tools-build.log" 2>&1 </dev/null &
	go_tools_pid=$!
	set +m
}

if [ "${1-}" = --list ]; then
	printf '%s\n' "${STAGES[@]}"
	exit
fi
need_root "containers are built, and networks made"
wanted=("$@")
[ $# -gt 0 ] || wanted=("${STAGES[@]}")
for stage in "${wanted[@]}"; do
	declare -F "stage_${stage//-/_}" >/dev/null ||
		die "there is no stage '$stage'" "They are: ${STAGES[*]}."
done
mkdir -p "$LOGS"
# Somebody else's registry is left running at the end.
! hack/images.sh running || registry_ran=yes
trap finish EXIT
trap 'exit 130' INT TERM
for stage in "${wanted[@]}"; do
	case $stage in
	integration | fallbacks | critest | kubelet)
		[ -n "${COPEPOD_TEST_CERTS-}" ] || start_registry
		;;
	esac
	run_stage "$stage"
	case $stage in
	deps) [[ " ${wanted[*]} " != *" go-tools "* ]] || start_go_tools ;;
	go-tools) go_tools_pid= ;;
	esac
done
