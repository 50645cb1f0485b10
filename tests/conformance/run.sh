#!/bin/bash
# Runs the whole of critest 1.36.0 and holds its result against must-pass.txt.
#
#   tests/conformance/run.sh [copepod|containerd] [cni|builtin] [CRITEST-FLAG...]
#
# Needs hack/go-tools.sh cri-tools and the registry (hack/images.sh build). Fails when a spec of
# must-pass.txt did not pass. Says which specs pass that the list does not have yet: the list only
# grows, and only with what passed. The report stays in $COPEPOD_CACHE/critest-RUNTIME.json.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/../../hack/lib.sh"
. "$HERE/../support/runtime.sh"
export LC_ALL=C

runtime=${1:-copepod}
network=${2:-cni}
shift $(($# < 2 ? $# : 2))
report=$COPEPOD_CACHE/critest-$runtime.json
list=$HERE/must-pass.txt

need_root "critest makes mounts and looks into namespaces"
[ -x "$TOOLS/critest" ] || die "critest is not built" "Run hack/go-tools.sh cri-tools."

# A spec that left the list would be a promise taken back. A shallow clone has no parent to ask.
only_grows() {
	local gone
	gone=$(comm -13 <(sort "$list") <(git -C "$REPO" show HEAD~:tests/conformance/must-pass.txt 2>/dev/null | sort))
	[ -z "$gone" ] || die "specs left must-pass.txt since the last commit: $gone" "Put them back and mend what broke them."
}

# Every spec with its outcome as a line "passed<TAB>NAME"; the name is what critest prints,
# containers of the spec first.
outcomes() {
	jq -r '.[].SpecReports[]? | select(.LeafNodeType == "It")
		| [.State, ((.ContainerHierarchyTexts // []) + [.LeafNodeText] | join(" "))] | @tsv' "$report"
}

trap runtime_cleanup EXIT
only_grows
runtime_start "$runtime" "$network"
rm -f "$report"
say "running critest through $runtime ($network network)"
# critest's own exit code says whether all specs passed; the list below decides instead.
"$TOOLS/critest" --config "$RUN/crictl.yaml" --runtime-endpoint "unix://$SOCKET" --image-endpoint "unix://$SOCKET" \
	--ginkgo.no-color --ginkgo.succinct --ginkgo.silence-skips --ginkgo.json-report "$report" "$@" \
	>"$RUN/critest.log" 2>&1 </dev/null || true
[ -s "$report" ] || { tail -n 30 "$RUN/critest.log" >&2; die "critest wrote no report" "The end of its output is above."; }

outcomes | sort >"$RUN/outcomes"
sed -n 's/^passed\t//p' "$RUN/outcomes" | sort -u >"$RUN/passed"
sort -u "$list" | sed '/^$/d' >"$RUN/must"
comm -13 "$RUN/must" "$RUN/passed" >"$RUN/new"
comm -23 "$RUN/must" "$RUN/passed" >"$RUN/missing"

count() { grep -c "^$1" "$RUN/outcomes" || true; }
grep -v -e '^passed' -e '^skipped' -e '^pending' "$RUN/outcomes" | sed 's/\t/: /' || true
if [ -s "$RUN/new" ]; then
	say "$(wc -l <"$RUN/new") specs pass that must-pass.txt does not list; add them:"
	cat "$RUN/new"
fi
if [ -s "$RUN/missing" ]; then
	cp "$RUN/critest.log" "$COPEPOD_CACHE/critest-$runtime.log"
	cat "$RUN/missing" >&2
	die "$(wc -l <"$RUN/missing") specs of must-pass.txt did not pass" "They are named above; critest's words are in $COPEPOD_CACHE/critest-$runtime.log."
fi
runtime_stop
if [ -n "$LEFT" ]; then
	printf '%s\n' "$LEFT" >&2
	die "critest passed but $runtime left something on the machine" "It is listed above."
fi
# A spec that is not promised yet is no failure of this run.
later=$(($(wc -l <"$RUN/outcomes") - $(count passed) - $(count skipped)))
echo "critest: of $(wc -l <"$RUN/outcomes") specs $later failed that are not required yet"
echo "critest: $(count passed) passed, 0 failed, $(($(count skipped) + later)) skipped"
