# shellcheck shell=bash
# A container runtime of one script's own: copepod, or containerd as the peer, with its own root,
# state, socket, bridge and subnet, so that several run side by side on one machine. Sourced after
# hack/lib.sh. On the way out: `trap runtime_cleanup EXIT`.
#
#   runtime_start copepod builtin|cni        or: runtime_start containerd cni
#
# sets SOCKET (the CRI endpoint's path), RUN (state, config and logs), DATA (images, layers), SUBNET,
# CGROUP (the parent that pods of the script shall name) and the array CRICTL.

TOOLS=$COPEPOD_CACHE/bin
COPEPOD_BIN=${COPEPOD_BIN:-$REPO/target/release/copepod}
COPEPOD_TEST_REGISTRY=${COPEPOD_TEST_REGISTRY:-127.0.0.1:5055}
RUNTIME_PID=

runtime_dirs() { # once, before the first start
	# /run, because a unix socket's path must fit 107 bytes and TMPDIR may be deep; the data beside,
	# because /run is memory.
	RUN=$(mktemp -d /run/cpd.XXXXXX)
	DATA=$(mktemp -d /var/tmp/cpd.XXXXXX)
	# Containers in a user namespace are nobody's user here, and the peer walks to their rootfs by path.
	chmod 711 "$RUN" "$DATA"
	TAG=${RUN##*.}
	BRIDGE=cpd${TAG,,}
	CGROUP=/copepod-$TAG
	SUBNET=$(free_subnet)
	SOCKET=$RUN/cri.sock
	CRICTL=("$TOOLS/crictl" --config "$RUN/crictl.yaml")
	printf 'runtime-endpoint: unix://%s\nimage-endpoint: unix://%s\ntimeout: 60\n' "$SOCKET" "$SOCKET" >"$RUN/crictl.yaml"
	"$REPO/hack/images.sh" certs "$RUN/certs.d"
	namespaces_of_host >"$RUN/netns.before"
}

free_subnet() { # a /24 of 10.213.0.0/16 that no interface here has
	local third=$((RANDOM % 256)) tries
	for tries in $(seq 256); do
		ip -4 -o addr | grep -qF " 10.213.$third." || { echo "10.213.$third.0/24"; return; }
		third=$(((third + tries) % 256))
	done
	die "no /24 of 10.213.0.0/16 is free" "Remove bridges that earlier runs left (ip link)."
}

runtime_start() { # copepod|containerd builtin|cni
	[ -n "${RUN-}" ] || runtime_dirs
	RUNTIME=$1 NETWORK=$2
	write_cni
	"write_config_$1"
	runtime_launch
}

runtime_launch() { # also after a kill: the same configuration again
	case $RUNTIME in
	copepod) "$COPEPOD_BIN" serve --config "$RUN/config.toml" >>"$RUN/daemon.log" 2>&1 </dev/null & ;;
	containerd) PATH=$TOOLS:$PATH "$TOOLS/containerd" --config "$RUN/config.toml" >>"$RUN/daemon.log" 2>&1 </dev/null & ;;
	esac
	RUNTIME_PID=$!
	# A daemon that this script kills on purpose is no news for bash to print.
	disown "$RUNTIME_PID"
	wait_until 30 runtime_ready_or_dead
	runtime_ready || { tail -n 20 "$RUN/daemon.log" >&2; die "$RUNTIME did not become ready" "The end of its log is above."; }
}

runtime_ready() {
	"${CRICTL[@]}" --timeout 2s info 2>/dev/null |
		jq -e '[.status.conditions[] | select(.type == "RuntimeReady" or .type == "NetworkReady") | .status] == [true, true]' >/dev/null
}
runtime_ready_or_dead() { process_gone "$RUNTIME_PID" || runtime_ready; }

write_cni() {
	mkdir -p "$RUN/net.d"
	[ "$NETWORK" = cni ] || return 0
	cat >"$RUN/net.d/10-test.conflist" <<-JSON
		{"cniVersion": "1.0.0", "name": "$BRIDGE", "plugins": [
		  {"type": "bridge", "bridge": "$BRIDGE", "isGateway": true, "ipMasq": true,
		   "ipam": {"type": "host-local", "dataDir": "$RUN/ipam", "ranges": [[{"subnet": "$SUBNET"}]],
		            "routes": [{"dst": "0.0.0.0/0"}]}},
		  {"type": "portmap", "capabilities": {"portMappings": true}}]}
	JSON
}

write_config_copepod() {
	cat >"$RUN/config.toml" <<-TOML
		root = "$DATA/root"
		state = "$RUN/s"

		[cri]
		socket = "$SOCKET"

		[registry]
		config_dir = "$RUN/certs.d"

		[network]
		mode = "$NETWORK"

		[network.builtin]
		subnet = "$SUBNET"
		bridge = "$BRIDGE"

		[network.cni]
		conf_dir = "$RUN/net.d"
		bin_dirs = ["/usr/lib/cni"]
	TOML
	# A debug build's own neighbour is linked dynamically and runs in no container; its musl twin does.
	[ -z "${COPEPOD_SHIM-}" ] || printf '\n[runtime]\nshim = "%s"\n' "$COPEPOD_SHIM" >>"$RUN/config.toml"
}

write_config_containerd() {
	cat >"$RUN/config.toml" <<-TOML
		version = 3
		root = "$DATA/root"
		state = "$RUN/s"
		imports = []

		[grpc]
		address = "$SOCKET"

		[plugins.'io.containerd.cri.v1.images'.registry]
		config_path = "$RUN/certs.d"

		# Root without CAP_SYS_RESOURCE may not go below its own score.
		[plugins.'io.containerd.cri.v1.runtime']
		restrict_oom_score_adj = true

		[plugins.'io.containerd.cri.v1.runtime'.cni]
		conf_dir = "$RUN/net.d"
		bin_dirs = ["/usr/lib/cni"]

		[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
		runtime_type = "io.containerd.runc.v2"
		runtime_path = "$TOOLS/containerd-shim-runc-v2"

		[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
		BinaryName = "$TOOLS/runc"

		[plugins.'io.containerd.nri.v1.nri']
		disable = true

		[plugins.'io.containerd.internal.v1.opt']
		path = "$DATA/opt"
	TOML
}

# ------------------------------------------------------------------------------------------ the end

namespaces_of_host() { { find /run/netns -mindepth 1 -printf '%f\n' 2>/dev/null || true; } | sort; }

# Processes whose command line names our directories; containers' processes are found by cgroup.
processes_of_ours() {
	local entry
	for entry in /proc/[0-9]*; do
		[ "${entry#/proc/}" = "$$" ] && continue
		tr '\0' ' ' 2>/dev/null <"$entry/cmdline" | grep -qF -e "$RUN/" -e "$DATA/" && echo "${entry#/proc/}"
	done
	return 0
}

cgroups_of_ours() { find /sys/fs/cgroup -mindepth 1 -type d -path "*copepod-$TAG*" 2>/dev/null; }
mounts_of_ours() { awk -v a="$RUN/" -v b="$DATA/" 'index($5, a) == 1 || index($5, b) == 1 {print $5}' /proc/self/mountinfo | sort -r; }
# New since the start and with an address of our subnet: another run's are none of our business.
namespaces_of_ours() {
	local name
	for name in $(namespaces_of_host | comm -13 "$RUN/netns.before" -); do
		nsenter --net="/run/netns/$name" ip -4 -o addr 2>/dev/null | grep -qF " ${SUBNET%.0/24}." && echo "$name"
	done
	return 0
}

# Tables of packet rules that speak of our bridge or subnet ("ip copepod-x"); `nat` and its like are
# iptables', where a CNI plugin keeps its rules.
tables_of_ours() {
	local family name
	command -v nft >/dev/null || return 0
	nft list tables 2>/dev/null | while read -r _ family name; do
		case $name in nat | filter | mangle | raw | security) continue ;; esac
		nft list table "$family" "$name" 2>/dev/null | grep -qF -e "$BRIDGE" -e "$SUBNET" && echo "$family $name"
	done
	return 0
}

# What of ours is on the machine, one line each. The bridge and its rules are not in it: like any
# runtime's network they stay when the daemon ends, and runtime_cleanup takes them away.
leftovers() {
	local pid
	for pid in $(processes_of_ours); do
		echo "process $pid: $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline")"
	done
	mounts_of_ours | sed 's/^/mount /'
	# On cgroup v1 the same path lies in a dozen hierarchies.
	cgroups_of_ours | sed -E 's#^/sys/fs/cgroup(/[a-z0-9_,]+)?/copepod-#cgroup /copepod-#' | sort -u
	namespaces_of_ours | sed 's/^/network namespace /'
}

nothing_left() { [ -z "$(leftovers)" ]; }

# Asks the runtime to remove its pods, ends it, and says in LEFT what it should not have left.
runtime_stop() {
	LEFT=
	[ -n "${RUN-}" ] || return 0
	if [ -n "$RUNTIME_PID" ] && ! process_gone "$RUNTIME_PID"; then
		"${CRICTL[@]}" rmp --all --force >/dev/null 2>&1 || true
		end_process "$RUNTIME_PID" 15
	fi
	# The cgroup that the script itself chose as the parent of its pods is nobody's to remove.
	remove_cgroup_parent
	wait_until 5 nothing_left || LEFT=$(leftovers)
}

remove_cgroup_parent() {
	find /sys/fs/cgroup -maxdepth 2 -type d -name "copepod-$TAG" -exec rmdir {} + 2>/dev/null || true
}

# Whatever happened before, nothing of ours stays.
runtime_cleanup() {
	local code=$? family name
	trap - EXIT
	set +e
	[ -n "${RUN-}" ] || exit "$code"
	runtime_stop
	if [ -n "$LEFT" ]; then
		say "cleaning up by force what was left:"
		printf '%s\n' "$LEFT" >&2
		force_cleanup
	fi
	ip link del "$BRIDGE" 2>/dev/null
	tables_of_ours | while read -r family name; do nft delete table "$family" "$name"; done
	if [ "$code" != 0 ] && [ -s "$RUN/daemon.log" ]; then
		cp "$RUN/daemon.log" "/tmp/copepod-failed-$TAG.log" && say "the daemon's log is kept in /tmp/copepod-failed-$TAG.log"
	fi
	rm -rf --one-file-system "$RUN" "$DATA"
	exit "$code"
}

force_cleanup() {
	local pid dir name
	for dir in $(cgroups_of_ours); do
		xargs -r kill -KILL <"$dir/cgroup.procs" 2>/dev/null
	done
	for pid in $(processes_of_ours); do kill -KILL "$pid" 2>/dev/null; done
	sleep 0.3
	mounts_of_ours | while read -r dir; do umount -l "$dir"; done
	for name in $(namespaces_of_ours); do
		umount -l "/run/netns/$name" 2>/dev/null
		rm -f "/run/netns/$name"
	done
	cgroups_of_ours | sort -r | xargs -r rmdir 2>/dev/null
	masquerading_of_ours
}

# The bridge plugin gives each address a chain "CNI-<hash>", and takes it away at DEL, which a pod
# that was removed by force never had.
masquerading_of_ours() {
	local number chain
	command -v iptables >/dev/null || return 0
	# From the last rule to the first, so that the numbers hold while rules go.
	iptables -t nat -L POSTROUTING -n --line-numbers 2>/dev/null | grep -F " ${SUBNET%.0/24}." | sort -rn |
		while read -r number chain _; do
			iptables -t nat -D POSTROUTING "$number" && iptables -t nat -F "$chain" && iptables -t nat -X "$chain"
		done
}
