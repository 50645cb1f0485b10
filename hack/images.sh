#!/bin/bash
# The image registry of the tests: Debian's docker-registry on loopback, filled with images that are
# built here from Debian packages, every one that critest pulls and those of our own tests.
#
#   hack/images.sh build         start the registry, build what is missing, push it   (about 1 min cold)
#   hack/images.sh serve         only start the registry
#   hack/images.sh running       exit 0 when our registry runs
#   hack/images.sh stop          stop the registry
#   hack/images.sh list          print "REPOSITORY:TAG DIGEST" of what was pushed
#   hack/images.sh certs DIR     write a certs.d tree that sends the public registries' names here
#
# Settings by environment: COPEPOD_TEST_REGISTRY, the address (default 127.0.0.1:5055; not 5000,
# where Debian's own docker-registry service listens), and COPEPOD_CACHE (default /var/cache/copepod).
# Layers, configs and manifests are deterministic: the same packages give the same digests, and a
# second build does nothing.
set -euo pipefail
HACK=$(cd "$(dirname "$0")" && pwd)
. "$HACK/lib.sh"
. "$HACK/images/registry.sh"
. "$HACK/images/store.sh"
. "$HACK/images/trees.sh"
export LC_ALL=C
umask 022

ADDRESS=${COPEPOD_TEST_REGISTRY:-127.0.0.1:5055}
DIR=$COPEPOD_CACHE/images
DEBS=$DIR/debs STAGE=$DIR/stage BLOBS=$DIR/blobs WORK=$DIR/work
mkdir -p "$DIR"

# What critest 1.36.0 names, under the repository paths of the registries that it names them at.
build_critest_images() {
	local base=$1 sh=$2 nginx nginx_cmd web80 pause version user name
	build_index docker e2e-test-images/busybox 1.29-2 "$sh" "$base"
	build_index oci docker/library/busybox 1,1-glibc,1-musl,1-uclibc,1.35.0-glibc "$sh" \
		"$base" "$(layer gzip "$(marker_tree library-busybox)")"

	nginx=$(layer gzip "$(nginx_tree)")
	web80=$(layer gzip "$(nginx_conf_tree 80)")
	nginx_cmd='.Cmd = ["nginx", "-g", "daemon off;"] | .StopSignal = "SIGQUIT"'
	build_index oci e2e-test-images/nginx 1.14-2 \
		"$(image_config "$nginx_cmd"' | .ExposedPorts = {"80/tcp": {}}')" "$base" "$nginx" "$web80"
	build_index docker e2e-test-images/httpd 2.4.39-4 \
		"$(image_config '.Cmd = ["httpd-foreground"] | .WorkingDir = "/usr/local/apache2"
			| .ExposedPorts = {"80/tcp": {}} | .StopSignal = "SIGTERM"')" \
		"$base" "$(layer gzip "$(httpd_tree)")"
	build_index docker e2e-test-images/nonewprivs 1.3 \
		"$(image_config '.Entrypoint = ["/nnp", "/^Uid:/ {print \"Effective uid: \" $3}", "/proc/self/status"]')" \
		"$base" "$(layer gzip "$(nonewprivs_tree)")"

	# The versions must differ: one is a peer's own sandbox image, another is pulled and removed.
	pause=$(layer gzip "$(pause_tree)")
	for version in 3.9 3.10 3.10.1 3.10.2; do
		build_index docker pause "$version" \
			"$(image_config '.Entrypoint = ["/pause", "-P"] | .WorkingDir = "/"
				| .User = "65535:65535" | .Labels = {version: "'"$version"'"}')" "$pause"
	done

	local staging=k8s-staging-cri-tools
	for user in uid=1002 username=www-data uid-group=1003:1004 username-group=www-data:1004; do
		build_index docker "$staging/test-image-user-${user%%=*}" latest \
			"$(image_config '.Cmd = ["sh"] | .User = "'"${user#*=}"'"')" "$base"
	done
	build_index docker "$staging/test-image-predefined-group" latest \
		"$(image_config '.Cmd = ["sh"] | .User = "1000"')" "$base" "$(layer gzip "$(groups_tree)")"
	build_single oci "$staging/hostnet-nginx-amd64" latest \
		"$(image_config "$nginx_cmd"' | .ExposedPorts = {"12003/tcp": {}}')" \
		"$base" "$nginx" "$(layer gzip "$(nginx_conf_tree 12003)")"
	for name in test-image-1 test-image-2 test-image-3 test-image-latest test-image-digest; do
		build_index docker "$staging/$name" latest "$sh" "$base" "$(layer gzip "$(marker_tree "$name")")"
	done
	build_index docker "$staging/test-image-tags" 1,2,3 "$sh" "$base" "$(layer gzip "$(marker_tree same-image)")"
	build_single oci "$staging/test-image-tag" test,all "$sh" "$base" "$(layer gzip "$(marker_tree test-image-tag)")"
}

# What our own tests and the demo pull: each shows one thing that a registry may serve.
build_own_images() {
	local base=$1 sh=$2
	build_index oci copepod/web 1 \
		"$(image_config '.Cmd = ["sh", "-c", "echo web: listening on port 8080; exec httpd -f -v -p 8080 -h /srv"]
			| .ExposedPorts = {"8080/tcp": {}} | .WorkingDir = "/srv" | .StopSignal = "SIGTERM"')" \
		"$base" "$(layer gzip "$(web_tree)")"
	build_index oci library/busybox 1,latest "$sh" "$base"
	build_single oci copepod/zstd 1 "$sh" "$(layer zstd "$WORK/busybox")" "$(layer zstd "$(marker_tree zstd)")"
	build_single oci copepod/uncompressed 1 "$sh" "$(layer none "$WORK/busybox")"
	build_single docker copepod/docker-manifest 1 "$sh" "$base" "$(layer gzip "$(marker_tree docker)")"
	build_single oci copepod/oci-manifest 1 "$sh" "$base" "$(layer gzip "$(marker_tree oci)")"
	# Lower files deleted, a directory made opaque, a file that becomes a directory and the reverse.
	build_single oci copepod/whiteouts 1 "$sh" "$base" \
		"$(layer gzip "$(whiteout_lower_tree)")" "$(layer gzip "$(whiteout_upper_tree)")"
	build_foreign oci copepod/arm64-only 1 "$sh"
}

build() {
	local stamp base sh
	need_command docker-registry "Run hack/deps.sh."
	need_command zstd "Run hack/deps.sh."
	[ "$(dpkg --print-architecture)" = amd64 ] || die "the test images are for amd64 only" "Run on an amd64 machine."
	registry_start
	mkdir -p "$DEBS" "$STAGE" "$BLOBS"
	fetch_debs busybox catatonit mawk nginx libc6 libcrypt1 libpcre2-8-0 libssl3 zlib1g
	stamp=$(cat "$HACK"/images.sh "$HACK"/images/*.sh <(cd "$DEBS" && ls) | sha256sum | cut -d' ' -f1)
	if [ "$(cat "$DIR/stamp" 2>/dev/null)" != "$stamp" ]; then
		rm -rf "$WORK"
		mkdir "$WORK"
		: >"$DIR/images.new"
		OTHER_ARCH_LAYER=$(layer gzip "$(marker_tree not-for-amd64)")
		base=$(layer gzip "$(busybox_tree)")
		sh=$(image_config '.Cmd = ["sh"]')
		build_critest_images "$base" "$sh"
		build_own_images "$base" "$sh"
		sort "$DIR/images.new" >"$DIR/images.txt"
		rm -rf "$DIR/images.new" "$WORK"
		echo "$stamp" >"$DIR/stamp"
	fi
	say "$(wc -l <"$DIR/images.txt") references served on $ADDRESS"
}

case ${1-} in
build) build ;;
serve) registry_start ;;
running) registry_pid >/dev/null ;;
stop) registry_stop ;;
list) cat "$DIR/images.txt" ;;
certs) write_certs "${2:?certs needs a directory}" ;;
*) die "no command '${1-}'" "Use build, serve, running, stop, list or certs DIR." ;;
esac
