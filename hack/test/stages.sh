# shellcheck shell=bash
# The stages of hack/test.sh, one function each. A stage succeeds or exits; it prints what it ran in
# a form that count_results understands.

stage_deps() { hack/deps.sh; }

stage_fmt() { cargo fmt --all --check; }

stage_clippy() { cargo clippy --workspace --all-targets --locked --quiet -- -D warnings; }

# Always with --workspace: with another set of packages Cargo resolves other features, and builds
# half of the dependencies once more.
cargo_test() { cargo test --locked --quiet --workspace "$@"; }

# The names of the test binaries of PACKAGE...
tests_of() {
	cargo metadata --no-deps --locked --format-version 1 |
		jq -r --args '.packages[] | select(.name | IN($ARGS.positional[])) | .targets[]
			| select(.kind == ["test"]) | .name' "$@"
}

stage_tidy() { cargo_test --test tidy; }

# Everything that needs no daemon: the libraries' own tests, some with the shim that
# `build` made, and all of the two small crates.
stage_unit() {
	local name others=()
	for name in $(tests_of copepod-proto copepod-shim); do others+=(--test "$name"); done
	cargo_test --lib --bins "${others[@]}"
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

# The test binaries of the daemon's package, except the one with a stage of its own.
run_integration() {
	local name ran=0
	for name in $(tests_of copepod); do
		[ "$name" != tidy ] || continue
		echo "-- $name"
		cargo_test --test "$name"
		ran=$((ran + 1))
	done
	[ "$ran" -gt 0 ] || die "there is no integration test" "Declare them as [[test]] in Cargo.toml."
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
