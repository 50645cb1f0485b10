# shellcheck shell=bash
# Layers, configs, manifests and how they are pushed. Sourced by hack/images.sh.
#
# What is passed around are OCI descriptors as one line of JSON: {mediaType, digest, size}.

declare -A MEDIA=(
	[docker.gzip]=application/vnd.docker.image.rootfs.diff.tar.gzip
	[docker.config]=application/vnd.docker.container.image.v1+json
	[docker.manifest]=application/vnd.docker.distribution.manifest.v2+json
	[docker.index]=application/vnd.docker.distribution.manifest.list.v2+json
	[oci.gzip]=application/vnd.oci.image.layer.v1.tar+gzip
	[oci.zstd]=application/vnd.oci.image.layer.v1.tar+zstd
	[oci.none]=application/vnd.oci.image.layer.v1.tar
	[oci.config]=application/vnd.oci.image.config.v1+json
	[oci.manifest]=application/vnd.oci.image.manifest.v1+json
	[oci.index]=application/vnd.oci.image.index.v1+json
)

put_blob() { # FILE MEDIATYPE -> descriptor; the file moves into the store
	local sum size
	sum=$(sha256sum "$1" | cut -d' ' -f1)
	size=$(stat -c %s "$1")
	mv -f "$1" "$BLOBS/$sum"
	jq -cn --arg m "$2" --arg d "sha256:$sum" --argjson s "$size" '{mediaType: $m, digest: $d, size: $s}'
}

blob_path() { echo "$BLOBS/${1#sha256:}"; }
digest_of() { jq -r .digest <<<"$1"; }

layer() { # gzip|zstd|none TREE -> {compression, diff_id, digest, size}
	local tar diff
	tar=$(mktemp "$WORK/layer.XXXXXX")
	# Sorted, without times and owners: the same tree gives the same digest on every machine.
	tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=gnu -C "$2" -cf "$tar" .
	diff=$(sha256sum "$tar" | cut -d' ' -f1)
	case $1 in
	gzip) gzip -n -6 "$tar" && mv "$tar.gz" "$tar" ;;
	zstd) zstd -q -10 --rm "$tar" -o "$tar.zst" && mv "$tar.zst" "$tar" ;;
	none) ;;
	esac
	put_blob "$tar" layer | jq -c --arg d "sha256:$diff" --arg c "$1" '{compression: $c, diff_id: $d, digest, size}'
}

image_config() { # [JQ-PROGRAM] -> the config that the image's processes get
	jq -cn '{Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]} | '"${1:-.}"
}

manifest() { # FAMILY ARCHITECTURE CONFIG LAYER... -> descriptor
	local family=$1 arch=$2 config=$3 config_blob layers types json
	shift 3
	layers=$(printf '%s\n' "$@" | jq -cs .)
	types=$(jq -cn --arg g "${MEDIA[$family.gzip]}" --arg z "${MEDIA[oci.zstd]}" --arg n "${MEDIA[oci.none]}" \
		'{gzip: $g, zstd: $z, none: $n}')
	json=$(mktemp "$WORK/json.XXXXXX")
	jq -cn --arg arch "$arch" --argjson c "$config" --argjson l "$layers" '{
		created: "1970-01-01T00:00:00Z", architecture: $arch, os: "linux", config: $c,
		rootfs: {type: "layers", diff_ids: [$l[].diff_id]},
		history: [$l[] | {created: "1970-01-01T00:00:00Z", created_by: "hack/images.sh"}]
	}' >"$json"
	config_blob=$(put_blob "$json" "${MEDIA[$family.config]}")
	jq -cn --arg m "${MEDIA[$family.manifest]}" --argjson t "$types" --argjson c "$config_blob" --argjson l "$layers" '{
		schemaVersion: 2, mediaType: $m, config: $c,
		layers: [$l[] | {mediaType: $t[.compression], digest, size}]
	}' >"$json"
	put_blob "$json" "${MEDIA[$family.manifest]}"
}

# ------------------------------------------------------------------------------------------ pushing

push_blob() { # REPOSITORY DIGEST
	local code place
	code=$("${CURL[@]}" -o /dev/null -w '%{http_code}' -I "http://$ADDRESS/v2/$1/blobs/$2")
	[ "$code" = 200 ] && return 0
	place=$("${CURL[@]}" -D - -o /dev/null -X POST "http://$ADDRESS/v2/$1/blobs/uploads/" |
		tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
	[ -n "$place" ] || die "the registry gave no place to upload to for $1" "Read $DIR/registry.log."
	case $place in *\?*) place+="&" ;; *) place+="?" ;; esac
	code=$("${CURL[@]}" -o /dev/null -w '%{http_code}' -X PUT -H 'Content-Type: application/octet-stream' \
		--data-binary "@$(blob_path "$2")" "${place}digest=$2")
	[ "$code" = 201 ] || die "the registry refused blob $2 of $1 with HTTP $code" "Read $DIR/registry.log."
}

has_manifest() { # REPOSITORY REFERENCE DESCRIPTOR
	local have
	have=$("${CURL[@]}" -I -H "Accept: $(jq -r .mediaType <<<"$3")" "http://$ADDRESS/v2/$1/manifests/$2" |
		tr -d '\r' | sed -n 's/^[Dd]ocker-[Cc]ontent-[Dd]igest: //p')
	[ "$have" = "$(digest_of "$3")" ]
}

push_manifest() { # REPOSITORY REFERENCE DESCRIPTOR
	local code
	has_manifest "$1" "$2" "$3" && return 0
	code=$("${CURL[@]}" -o "$WORK/reply" -w '%{http_code}' -X PUT -H "Content-Type: $(jq -r .mediaType <<<"$3")" \
		--data-binary "@$(blob_path "$(digest_of "$3")")" "http://$ADDRESS/v2/$1/manifests/$2")
	[ "$code" = 201 ] || die "the registry refused manifest $1:$2 with HTTP $code" "It said: $(cat "$WORK/reply")"
}

push_image() { # REPOSITORY MANIFEST: its blobs, then the manifest under its digest
	local blob
	has_manifest "$1" "$(digest_of "$2")" "$2" && return 0
	for blob in $(jq -r '.config.digest, .layers[].digest' "$(blob_path "$(digest_of "$2")")"); do
		push_blob "$1" "$blob"
	done
	push_manifest "$1" "$(digest_of "$2")" "$2"
}

push_tags() { # REPOSITORY TAG[,TAG...] DESCRIPTOR
	local tag
	for tag in ${2//,/ }; do
		push_manifest "$1" "$tag" "$3"
		printf '%s:%s %s\n' "$1" "$tag" "$(digest_of "$3")" >>"$DIR/images.new"
	done
}

# ------------------------------------------------- images: FAMILY REPOSITORY TAG[,TAG...] CONFIG LAYER...

# An image for amd64, its manifest directly behind the tag.
build_single() {
	local family=$1 repository=$2 tags=$3 config=$4 image
	shift 4
	image=$(manifest "$family" amd64 "$config" "$@")
	push_image "$repository" "$image"
	push_tags "$repository" "$tags" "$image"
}

# An image behind an index. The index names an arm64 image first, so that choosing the platform matters.
build_index() {
	local family=$1 repository=$2 tags=$3 config=$4 image
	shift 4
	image=$(manifest "$family" amd64 "$config" "$@")
	push_image "$repository" "$image"
	push_index "$family" "$repository" "$tags" "$config" "$image"
}

# An image behind an index that has nothing for this machine: FAMILY REPOSITORY TAGS CONFIG
build_foreign() { push_index "$@" null; }

push_index() { # FAMILY REPOSITORY TAGS CONFIG AMD64-MANIFEST|null
	local other json
	other=$(manifest "$1" arm64 "$4" "$OTHER_ARCH_LAYER")
	push_image "$2" "$other"
	json=$(mktemp "$WORK/json.XXXXXX")
	jq -cn --arg m "${MEDIA[$1.index]}" --argjson a "$5" --argjson b "$other" '{
		schemaVersion: 2, mediaType: $m, manifests: [
			$b + {platform: {architecture: "arm64", os: "linux"}},
			($a // empty) + {platform: {architecture: "amd64", os: "linux"}}]
	}' >"$json"
	push_tags "$2" "$3" "$(put_blob "$json" "${MEDIA[$1.index]}")"
}
