# shellcheck shell=bash
# The registry process and the certs.d tree that leads to it. Sourced by hack/images.sh.

# Registries whose names occur in the tests; all of them are answered here, so that no test can
# leave the machine by mistake.
MIRRORED="registry.k8s.io k8s.gcr.io gcr.io docker.io public.ecr.aws quay.io ghcr.io"

# Never through a proxy: the registry is on this machine.
CURL=(curl -sS --noproxy '*')

registry_pid() {
	local pid
	pid=$(cat "$DIR/registry.pid" 2>/dev/null) || return 1
	# The number alone may belong to somebody else by now.
	tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$DIR/registry.yml" && echo "$pid"
}

registry_answers() { "${CURL[@]}" -o /dev/null "http://$ADDRESS/v2/"; }

registry_start() {
	local pid
	if pid=$(registry_pid); then
		registry_answers 2>/dev/null && return 0
		die "our registry (process $pid) runs but does not answer on $ADDRESS" \
			"Stop it with 'hack/images.sh stop', or set COPEPOD_TEST_REGISTRY to the address it was started with."
	fi
	registry_answers 2>/dev/null &&
		die "another program already answers on $ADDRESS" "Set COPEPOD_TEST_REGISTRY to a free address."
	cat >"$DIR/registry.yml" <<-YML
		version: 0.1
		log: {level: warn, accesslog: {disabled: true}}
		storage:
		  filesystem: {rootdirectory: $DIR/registry}
		  delete: {enabled: true}
		  cache: {blobdescriptor: inmemory}
		http: {addr: "$ADDRESS"}
	YML
	# A session of its own, so that a Ctrl-C meant for a test does not end it.
	OTEL_TRACES_EXPORTER=none setsid docker-registry serve "$DIR/registry.yml" \
		>"$DIR/registry.log" 2>&1 </dev/null &
	echo $! >"$DIR/registry.pid"
	wait_until 20 registry_answers || die "the registry did not come up on $ADDRESS" "Read $DIR/registry.log."
}

registry_stop() {
	local pid
	pid=$(registry_pid) || return 0
	end_process "$pid" 10
	rm -f "$DIR/registry.pid"
}

write_certs() { # DIRECTORY
	local host
	for host in $MIRRORED "$ADDRESS"; do
		mkdir -p "$1/$host"
		# `server` is what a client falls back to; naming it here keeps it from the real one.
		cat >"$1/$host/hosts.toml" <<-TOML
			server = "http://$ADDRESS"

			[host."http://$ADDRESS"]
			capabilities = ["pull", "resolve"]
		TOML
	done
}
