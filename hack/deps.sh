#!/bin/bash
# Installs, from Debian's own packages, what building, testing and the demo need and this machine lacks.
#
#   hack/deps.sh             for the build, the tests and the demo
#   hack/deps.sh bench       also for the benchmark's peer (runc needs libseccomp's headers)
#
# Rust and Go are not installed: Debian's are too old. The script says so if they are missing.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# PACKAGE:PROOF, the proof a command, or a path, that only this package brings.
packages=(
	gcc:gcc libc6-dev:/usr/include/stdio.h binutils:readelf
	ca-certificates:/etc/ssl/certs/ca-certificates.crt curl:curl jq:jq
	iproute2:ip nftables:nft procps:ps util-linux:nsenter zstd:zstd
	docker-registry:docker-registry containernetworking-plugins:/usr/lib/cni/bridge
)
[ "${1-}" != bench ] || packages+=(pkg-config:pkg-config libseccomp-dev:/usr/include/seccomp.h)

present() { # PROOF
	case $1 in
	/*) [ -e "$1" ] ;;
	*) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
	esac
}

missing=()
for entry in "${packages[@]}"; do
	present "${entry#*:}" || missing+=("${entry%%:*}")
done

install_missing() {
	local policy=/usr/sbin/policy-rc.d
	need_root "it installs ${missing[*]}"
	need_command apt-get "Install these packages (named as Debian names them) by hand: ${missing[*]}."
	say "installing ${missing[*]}"
	# docker-registry's package would start a registry of its own; nothing is to run that the
	# user did not ask for. 101 is invoke-rc.d's "forbidden by policy".
	if [ ! -e "$policy" ]; then
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
	fi
	# A machine that never asked apt for its lists finds nothing, so ask when the first try fails.
	if ! apt_install && ! { apt-get -qq update >>"$log" 2>&1 && apt_install; }; then
		tail -n 5 "$log" >&2
		die "apt-get could not install ${missing[*]}" "Its last words are above and all of them in $log; or install the packages by hand."
	fi
}

apt_install() {
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
		</dev/null >"$log" 2>&1
}

if [ ${#missing[@]} -gt 0 ]; then
	log=$(mktemp)
	install_missing
	rm -f "$log"
else
	say "nothing is missing"
fi
command -v cargo >/dev/null || die "Rust is not installed" "Install Rust 1.95 or newer (https://rustup.rs), then run this again."
command -v go >/dev/null ||
	die "Go is not installed" "Install Go 1.26.2 or newer (https://go.dev/dl): crictl and the other real clients are built with it."
