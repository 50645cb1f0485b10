# shellcheck shell=bash
# The stages of hack/test.sh, one function each. A stage succeeds or exits; it prints what it ran in
# a form that count_results understands.

stage_deps() { hack/deps.sh; }

stage_fmt() { cargo fmt --all --check; }

stage_clippy() { cargo clippy --workspace --all-targets --locked --quiet -- -D warnings; }

stage_tidy() { cargo test --locked --quiet --test tidy; }

# Everything that needs no daemon: the libraries' own tests of all three crates.
stage_unit() {
	cargo test --locked --quiet --lib --bins
	cargo test --locked --quiet -p copepod-proto
	cargo test --locked --quiet -p copepod-shim
}

stage_build() { hack/build.sh; }

stage_go_tools() {
	if [ -n "$go_tools_pid" ]; then
		# Not a child of this shell, so it is watched, not waited for; what it left out or failed at,
		# the call below does or says.
		tail --pid="$go_tools_pid" -f /dev/null
		tail -n 3 "$LOGS/go-tools-build.log"
	fi
	hack/go-tools.sh cri-tools kubelet
}

stage_images() { hack/images.sh build; }

# The test binaries of the daemon's package, except the ones with stages of their own.
integration_tests() {
	cargo metadata --no-deps --locked --format-version 1 |
		jq -r '.packages[] | select(.name == "copepod") | .targets[] | select(.kind == ["test"]) | .name' |
		grep -vx tidy
}

run_integration() {
	local name
	for name in $(integration_tests); do
		echo "-- $name"
		cargo test --locked --quiet --test "$name"
	done
}

stage_integration() { run_integration; }

# Once more with every newer kernel call treated as missing, so that the older ways work too.
stage_fallbacks() {
	export COPEPOD_TEST_FORCE_FALLBACKS=all
	run_integration
}

stage_critest() { tests/conformance/run.sh copepod cni; }

stage_kubelet() { hack/kubelet/static-pod.sh copepod cni; }

stage_demo() {
	COPEPOD_DEMO_BUILT=yes hack/demo.sh
	echo "demo: 1 passed, 0 failed, 0 skipped"
}
