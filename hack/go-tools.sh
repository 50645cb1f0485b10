#!/bin/bash
# Builds the real clients and the real peer that copepod is tested and measured against, each a Go
# program pinned to one version and to every byte of its sources by the go.mod and go.sum in hack/go/.
#
#   hack/go-tools.sh [SET]...          without a name: cri-tools
#
#   cri-tools    crictl, critest 1.36.0                               about 1 min 30 s on 2 cores
#   kubelet      kubelet 1.37.2                                       about 4 min 45 s
#   containerd   containerd, ctr, containerd-shim-runc-v2 2.4.2       about 50 s, only for the bench
#   runc         runc 1.5.2                                           about 10 s, only for the bench
#
# The programs go to $COPEPOD_CACHE/bin. A set whose go.sum has not changed since is not built again.
# runc is the only one that needs a C compiler, pkg-config and libseccomp-dev.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

bin=$COPEPOD_CACHE/bin
mkdir -p "$bin"
[ $# -gt 0 ] || set -- cri-tools

# `go install PROGRAM@VERSION` asks the module proxy for a list of versions, which not every proxy
# serves. Building inside a module of ours asks for nothing but the files that go.sum names.
go_build() { # SET GO-BUILD-ARGUMENT...
	(cd "$REPO/hack/go/$1" && shift && go build -trimpath -buildvcs=false "$@")
}

build_set() {
	case $1 in
	cri-tools)
		go_build cri-tools -o "$bin/crictl" sigs.k8s.io/cri-tools/cmd/crictl
		# critest is a Go test binary, hence `go test -c`.
		(cd "$REPO/hack/go/cri-tools" && go test -c -trimpath -o "$bin/critest" sigs.k8s.io/cri-tools/cmd/critest)
		;;
	kubelet)
		go_build kubelet -o "$bin/kubelet" k8s.io/kubernetes/cmd/kubelet
		;;
	containerd)
		go_build containerd -tags 'no_btrfs no_zfs no_devmapper netgo osusergo' -o "$bin/" \
			github.com/containerd/containerd/v2/cmd/{containerd,ctr,containerd-shim-runc-v2}
		;;
	runc)
		CGO_ENABLED=1 go_build runc -tags seccomp -o "$bin/runc" github.com/opencontainers/runc
		;;
	*) die "there is no set '$1' of Go tools" "Use one of: cri-tools kubelet containerd runc." ;;
	esac
}

need_command go "Install Go 1.26.2 or newer (https://go.dev/dl)."
export CGO_ENABLED=0
for set in "$@"; do
	sum=$(cat "$REPO/hack/go/$set"/go.{mod,sum} 2>/dev/null | sha256sum | cut -c1-16)
	stamp=$bin/.$set
	[ "$(cat "$stamp" 2>/dev/null)" = "$sum" ] && continue
	say "building the Go tools '$set' into $bin"
	build_set "$set" || die "the Go tools '$set' did not build" "Read the compiler's words above; go must reach a module proxy (go env GOPROXY)."
	echo "$sum" >"$stamp"
done
