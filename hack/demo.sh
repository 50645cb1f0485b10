#!/bin/bash
# Shows copepod at work, from a fresh Debian machine to a pod that survives its daemon, and leaves
# nothing behind. Run it as root:
#
#   hack/demo.sh
#
# It installs what is missing, builds copepod and crictl, starts an image registry on loopback and a
# daemon with a network, root, state and socket of its own, and runs one pod with a web server.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$REPO/tests/support/runtime.sh"

POD="" CONTAINER="" started_registry=""

need_root "a pod is namespaces, mounts and cgroups"

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
# Shows the command as a person would type it, then does it.
show() {
	local words="$*"
	words=${words//"${CRICTL[*]}"/crictl}
	printf '$ %s\n' "${words//$RUN/\$RUN}"
	"$@"
}

browse() {
	printf '$ curl %s\n' "$URL"
	curl -sS --noproxy '*' --max-time 5 "$URL"
}

cleanup() {
	local code=$?
	set +e
	[ -z "$started_registry" ] || "$REPO/hack/images.sh" stop
	(exit "$code")
	runtime_cleanup
}

prepare() {
	step "1. What this machine lacks, the build, the clients, the images"
	"$REPO/hack/deps.sh"
	# hack/test.sh has built it a minute ago.
	[ -n "${COPEPOD_DEMO_BUILT-}" ] || "$REPO/hack/build.sh"
	"$REPO/hack/go-tools.sh" cri-tools
	"$REPO/hack/images.sh" running || started_registry=yes
	"$REPO/hack/images.sh" build
}

# The labels are those that kubelet sets; crictl names a container's pod by them.
write_pod() {
	mkdir -p "$RUN/logs"
	cat >"$RUN/pod.json" <<-JSON
		{"metadata": {"name": "web", "namespace": "demo", "uid": "demo-$TAG", "attempt": 0},
		 "hostname": "web", "log_directory": "$RUN/logs",
		 "linux": {"cgroup_parent": "$CGROUP",
		           "security_context": {"namespace_options": {"network": 0, "pid": 1, "ipc": 0}}}}
	JSON
	cat >"$RUN/container.json" <<-JSON
		{"metadata": {"name": "httpd", "attempt": 0}, "image": {"image": "copepod/web:1"}, "log_path": "httpd.log",
		 "labels": {"io.kubernetes.pod.name": "web", "io.kubernetes.pod.namespace": "demo"},
		 "linux": {"security_context": {"namespace_options": {"network": 0, "pid": 1, "ipc": 0},
		           "seccomp": {"profile_type": 0}}}}
	JSON
}

run_pod() {
	step "3. A pod with a web server"
	show "${CRICTL[@]}" pull copepod/web:1
	write_pod
	POD=$("${CRICTL[@]}" runp "$RUN/pod.json")
	CONTAINER=$("${CRICTL[@]}" create "$POD" "$RUN/container.json" "$RUN/pod.json")
	show "${CRICTL[@]}" start "$CONTAINER"
	ADDRESS=$("${CRICTL[@]}" inspectp "$POD" | jq -r .status.network.ip)
	URL=http://$ADDRESS:8080/
	wait_until 10 web_answers || die "the web server does not answer on $URL" "Its log: $(cat "$RUN/logs/httpd.log")"
}

web_answers() { curl -fsS --noproxy '*' --max-time 2 "$URL"; }

look_at_it() {
	step "4. Its answer to an HTTP request, its log, a command inside, and what crictl sees"
	browse
	show "${CRICTL[@]}" logs "$CONTAINER"
	show "${CRICTL[@]}" exec -s "$CONTAINER" sh -c 'hostname; id -u; ls /srv'
	show "${CRICTL[@]}" ps
}

container_fact() { "${CRICTL[@]}" inspect "$CONTAINER" | jq -r "$1"; }

kill_the_daemon() {
	local before after lines
	step "5. The daemon is killed, the pod is not"
	before=$(container_fact '.status.state, .status.startedAt')
	lines=$(wc -l <"$RUN/logs/httpd.log")
	show kill -9 "$RUNTIME_PID"
	wait_until 5 process_gone "$RUNTIME_PID"
	echo "(no daemon now)"
	browse
	wait_until 5 log_longer_than "$lines" || die "the request made without a daemon is not in the log" "See the pod's log: $(cat "$RUN/logs/httpd.log")"
	echo "$ copepod serve --config \$RUN/config.toml &"
	runtime_launch
	show "${CRICTL[@]}" ps
	browse
	after=$(container_fact '.status.state, .status.startedAt')
	[ "$before" = "$after" ] || die "the container changed while the daemon was away: '$before' became '$after'" "The daemon's log is kept, see below."
	echo "The same container, started at ${after##*$'\n'}; the log has the request made while there was no daemon:"
	show "${CRICTL[@]}" logs --tail 3 "$CONTAINER"
}

log_longer_than() { [ "$(wc -l <"$RUN/logs/httpd.log")" -gt "$1" ]; }

clean_up() {
	step "6. Cleaning up"
	show "${CRICTL[@]}" stopp "$POD"
	show "${CRICTL[@]}" rmp "$POD"
	show "${CRICTL[@]}" rmi copepod/web:1
	runtime_stop
	if [ -n "$LEFT" ]; then
		printf '%s\n' "$LEFT" >&2
		die "the demo left something on this machine" "It is listed above; it is taken away now by force."
	fi
	echo "No process, mount, cgroup or network namespace of the demo is left; its files and its bridge go now."
}

trap cleanup EXIT
trap 'exit 130' INT TERM
prepare
step "2. A daemon with a network of its own"
runtime_start copepod builtin
show "${CRICTL[@]}" version
run_pod
look_at_it
kill_the_daemon
clean_up
step "Done. What was built stays in target/ and $COPEPOD_CACHE."
