#!/bin/bash
# Measures copepod beside containerd 2.4.2 + runc 1.5.2 on this machine and prints tables:
#
#   hack/bench.sh [--quick] [--check] [--no-peer]
#
#   --quick      few turns, 20 pods for the memory, 10 s idle: to see that it works
#   --check      fails when a promise of tests/benches/budget.toml is not kept
#   --no-peer    copepod alone (no ratios)
#
# Kubelet-shaped pods (private PID namespace, default seccomp filter, one `sleep`), the runtimes
# taking turns within one run: the same CNI plugins for both, and copepod's built-in network besides.
# What was measured stays in target/bench/results.jsonl. A whole run takes about 12 minutes.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$REPO"

turns=10 pods=100 idle=60 check="" peer=yes
for argument in "$@"; do
	case $argument in
	--quick) turns=2 pods=20 idle=10 ;;
	--check) check=yes ;;
	--no-peer) peer="" ;;
	*) die "no option '$argument'" "Use --quick, --check or --no-peer." ;;
	esac
done

out=$REPO/target/bench
results=$out/results.jsonl
bench=$REPO/target/release/examples/podbench
export COPEPOD_TEST_REGISTRY=${COPEPOD_TEST_REGISTRY:-127.0.0.1:5055}
started_registry=""
# Per held runtime: the descriptor that keeps it alive, and its process.
holds=() holders=()

need_root "containers are built, and networks made"

cleanup() {
	local code=$?
	trap - EXIT
	set +e
	release_all
	[ -z "$started_registry" ] || hack/images.sh stop
	exit "$code"
}

prepare() {
	hack/deps.sh bench
	[ "${COPEPOD_BENCH_BUILT-}" = yes ] || hack/build.sh
	cargo build --quiet --locked --release --example podbench
	hack/go-tools.sh cri-tools ${peer:+containerd runc}
	hack/images.sh running || started_registry=yes
	hack/images.sh build
	mkdir -p "$out"
	rm -f "$results"
}

# hold NAME RUNTIME NETWORK: starts it and adds NAME=DIRECTORY to `endpoints`.
hold() {
	local fifo dir fd
	fifo=$(mktemp -u "$out/hold.XXXXXX")
	mkfifo "$fifo.in" "$fifo.out"
	tests/support/hold-runtime.sh "$2" "$3" <"$fifo.in" >"$fifo.out" 2>>"$out/runtimes.log" &
	holders+=("$!")
	exec {fd}>"$fifo.in"
	holds+=("$fd")
	read -r dir <"$fifo.out" || { tail -n 20 "$out/runtimes.log" >&2; die "$1 did not start" "Its words are above."; }
	rm -f "$fifo.in" "$fifo.out"
	endpoints+=(--endpoint "$1=$dir")
}

release_all() {
	local fd pid
	for fd in "${holds[@]}"; do exec {fd}>&-; done
	for pid in "${holders[@]}"; do wait "$pid" || say "a runtime left something, see $out/runtimes.log"; done
	holds=() holders=() endpoints=()
}

latencies() {
	endpoints=()
	[ -z "$peer" ] || hold containerd-cni containerd cni
	hold copepod-cni copepod cni
	hold copepod-builtin copepod builtin
	# The program that exec runs in the pods is this very file.
	"$bench" --results "$results" latency "${endpoints[@]}" --turns "$turns" \
		--parallel 1 --parallel 4 --busybox "$COPEPOD_CACHE/images/stage/bin/busybox"
	release_all
}

# One runtime at a time, and a fresh one: two of a kind would share pages and weigh half.
memory() { # NAME RUNTIME NETWORK
	endpoints=()
	hold "$@"
	say "$1: $pods pods, $idle s idle"
	"$bench" --results "$results" memory "${endpoints[@]}" --pods "$pods" --idle "$idle"
	release_all
}

trap cleanup EXIT
trap 'exit 130' INT TERM
prepare
: >"$out/runtimes.log"
latencies
[ -z "$peer" ] || memory containerd-cni containerd cni
memory copepod-cni copepod cni
memory copepod-builtin copepod builtin
"$bench" --results "$results" size copepod target/release/copepod
"$bench" --results "$results" size shim target/release/containerd-shim-copepod-v1
[ -z "$peer" ] || "$bench" --results "$results" size containerd "$COPEPOD_CACHE/bin/containerd"
[ -z "$peer" ] || "$bench" --results "$results" size containerd-shim-runc-v2 "$COPEPOD_CACHE/bin/containerd-shim-runc-v2"
"$bench" --results "$results" report
[ -z "$check" ] || "$bench" --results "$results" check --budget tests/benches/budget.toml
