#!/bin/bash
# A real kubelet 1.37.2, standalone (no API server), runs a static pod through a runtime:
#
#   hack/kubelet/static-pod.sh [copepod|containerd] [cni|builtin]
#
# The pod becomes Ready, its log and a command's output come through kubelet, /stats/summary shows
# it, its exec liveness probe passes and, once made to fail, has it restarted, and it is gone when
# its file goes. Needs hack/go-tools.sh kubelet and the registry (hack/images.sh build).
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/../lib.sh"
. "$REPO/tests/support/runtime.sh"

runtime=${1:-copepod}
network=${2:-cni}
port=${COPEPOD_KUBELET_PORT:-21250}
node=copepod-test
pod=probe-$node
checks=0
had_kubelet=$([ ! -e /var/lib/kubelet ] || echo yes)
KUBELET_PID=

need_root "kubelet makes cgroups and mounts"
[ -x "$TOOLS/kubelet" ] || die "kubelet is not built" "Run hack/go-tools.sh kubelet."

cleanup() {
	local code=$?
	set +e
	kubelet_stop
	[ "$code" = 0 ] || [ ! -e "${RUN-}/kubelet.log" ] || {
		cp "$RUN/kubelet.log" "/tmp/copepod-failed-kubelet.log"
		say "kubelet's log is kept in /tmp/copepod-failed-kubelet.log"
	}
	(exit "$code")
	runtime_cleanup
}

# The parts of the machine that kubelet claims are given names and ports of this script's own.
kubelet_start() {
	local hierarchy
	for hierarchy in /sys/fs/cgroup/*/; do
		[ ! -e "$hierarchy/cgroup.procs" ] || make_cgroup "$hierarchy$CGROUP"
	done
	[ ! -e /sys/fs/cgroup/cgroup.controllers ] || make_cgroup "/sys/fs/cgroup$CGROUP"
	mkdir -p "$RUN/manifests" "$DATA/kubelet" "$DATA/pods"
	sed -e "s|@SOCKET@|$SOCKET|; s|@CGROUP@|$CGROUP|; s|@PORT@|$port|; s|@READ_ONLY_PORT@|$((port + 1))|" \
		-e "s|@MANIFESTS@|$RUN/manifests|; s|@LOGS@|$DATA/pods|" "$HERE/config.yaml" >"$RUN/kubelet.yaml"
	"$TOOLS/kubelet" --config "$RUN/kubelet.yaml" --root-dir "$DATA/kubelet" --cert-dir "$RUN/pki" \
		--hostname-override "$node" >"$RUN/kubelet.log" 2>&1 </dev/null &
	KUBELET_PID=$!
	wait_until 60 kubelet_healthy || { tail -n 20 "$RUN/kubelet.log" >&2; die "kubelet did not come up" "The end of its log is above."; }
}

kubelet_stop() {
	[ -z "$KUBELET_PID" ] || end_process "$KUBELET_PID" 10
	KUBELET_PID=
	[ -n "${DATA-}" ] || return 0
	# kubelet binds its root onto itself, leaves its cgroups when it ends (below the one that this
	# script made), and has two fixed places outside of its root.
	mounts_of_ours | grep -F "$DATA/kubelet" | xargs -r umount || true
	find /sys/fs/cgroup -depth -type d -path "*copepod-$TAG*" -exec rmdir {} + 2>/dev/null || true
	find /var/log/containers -lname "$DATA/*" -delete 2>/dev/null || true
	[ -n "$had_kubelet" ] || {
		rm -f /var/lib/kubelet/device-plugins/kubelet.sock
		rmdir /var/lib/kubelet/device-plugins /var/lib/kubelet /var/log/containers 2>/dev/null || true
	}
}

make_cgroup() { # DIRECTORY
	mkdir -p "$1"
	# A new cpuset is empty and takes no process until it is given what its parent has.
	[ ! -e "$1/cpuset.cpus" ] || for file in cpuset.cpus cpuset.mems; do
		[ -n "$(cat "$1/$file")" ] || cat "$(dirname "$1")/$file" >"$1/$file"
	done
}

kubelet_get() { curl -sS -k --noproxy '*' --max-time 20 "https://127.0.0.1:$port$1"; }
kubelet_run() { curl -sS -k --noproxy '*' --max-time 20 -X POST "https://127.0.0.1:$port/run/default/$pod/main?cmd=$1"; }
kubelet_healthy() { [ "$(kubelet_get /healthz 2>/dev/null)" = ok ]; }
pods() { curl -sS --noproxy '*' --max-time 20 "http://127.0.0.1:$((port + 1))/pods"; }
pod_ready() { pods | jq -e '.items[]?.status.conditions[]? | select(.type == "Ready" and .status == "True")'; }
pod_restarted() { pods | jq -e '.items[]?.status.containerStatuses[]? | select(.restartCount >= 1 and .ready)'; }
log_shown() { kubelet_get "/containerLogs/default/$pod/main" | grep -q 'the pod speaks'; }
stats_shown() {
	kubelet_get /stats/summary | jq -e --arg pod "$pod" '.pods[]? | select(.podRef.name == $pod)
		| .containers[] | select(.name == "main" and .cpu.usageCoreNanoSeconds > 0 and .memory.workingSetBytes > 0)'
}
pod_gone() {
	[ -z "$("${CRICTL[@]}" pods -q)" ] && [ -z "$("${CRICTL[@]}" ps -aq)" ] && pods | jq -e '[.items[]?] == []'
}

check() { # SECONDS WHAT COMMAND...
	local limit=$1 what=$2 start=$SECONDS
	shift 2
	if ! wait_until "$limit" "$@"; then
		"${CRICTL[@]}" pods >&2 || true
		"${CRICTL[@]}" ps -a >&2 || true
		[ -z "${COPEPOD_KUBELET_HOLD-}" ] || sleep "$COPEPOD_KUBELET_HOLD"
		die "after $limit s it is not true that $what" "Kubelet's log and the daemon's are kept, see above or below."
	fi
	checks=$((checks + 1))
	say "$what ($((SECONDS - start)) s)"
}

trap cleanup EXIT
runtime_start "$runtime" "$network"
kubelet_start
cp "$HERE/pod.yaml" "$RUN/manifests/probe.yaml"
check 90 "the static pod is Ready" pod_ready
check 20 "its log comes through kubelet" log_shown
check 20 "a command runs in it through kubelet" eval '[ "$(kubelet_run "cat%20/tmp/alive")" = alive ]'
check 60 "/stats/summary shows its cpu and memory" stats_shown
kubelet_run 'rm%20/tmp/alive' >/dev/null
check 90 "its failed liveness probe had it restarted, and it is ready again" pod_restarted
rm "$RUN/manifests/probe.yaml"
# kubelet ends a pod at once and has the remains removed when its collector comes by, once a minute.
check 130 "it is gone when its file goes" pod_gone
kubelet_stop
runtime_stop
if [ -n "$LEFT" ]; then
	printf '%s\n' "$LEFT" >&2
	die "the pod ran, but $runtime left something on the machine" "It is listed above."
fi
echo "kubelet: $checks passed, 0 failed, 0 skipped"
