#!/bin/bash
# Builds copepod and its shim, ready to run, side by side:
#
#   target/release/copepod                        the daemon and its command line
#   target/release/containerd-shim-copepod-v1     one static binary, one process per container
#
# The shim is built for musl. Where that target cannot be had (no rustup, no network) it is linked
# statically with glibc instead, which works the same and costs some memory per container.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$REPO"

need_command cargo "Install Rust 1.95 or newer (https://rustup.rs)."
need_command gcc "Run 'apt-get install gcc libc6-dev': Rust links with it."

arch=$(uname -m)
musl=$arch-unknown-linux-musl
gnu=$arch-unknown-linux-gnu
shim=containerd-shim-copepod-v1

has_musl() { [ -d "$(rustc --print sysroot)/lib/rustlib/$musl/lib" ]; }

build_shim() { # -> prints the path of the binary
	has_musl || rustup target add "$musl" >&2 || true
	if has_musl; then
		cargo build --quiet --locked -p copepod-shim --profile shim --target "$musl" >&2
		echo "target/$musl/shim/$shim"
	else
		say "the Rust target $musl cannot be had here: linking the shim with a static glibc"
		RUSTFLAGS="${RUSTFLAGS-} -Ctarget-feature=+crt-static" \
			cargo build --quiet --locked -p copepod-shim --profile shim --target "$gnu" >&2
		echo "target/$gnu/shim/$shim"
	fi
}

# A dynamic shim would be started with the libraries of whatever root it finds itself in.
check_static() { # BINARY
	if readelf --wide --program-headers "$1" | grep -q ' INTERP '; then
		die "$1 is not static" "It asks for a dynamic loader; see 'readelf -l $1'."
	fi
}

say "building the daemon (release)"
cargo build --quiet --locked --release
say "building the shim (static)"
built=$(build_shim)
check_static "$built"
# Renamed into place: a shim that runs keeps its old file.
install -m 755 "$built" "target/release/$shim.new"
mv -f "target/release/$shim.new" "target/release/$shim"

for binary in copepod "$shim"; do
	say "target/release/$binary, $(($(stat -c %s "target/release/$binary") / 1024)) KiB"
done
