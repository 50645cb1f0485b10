#!/bin/bash
# Starts a runtime of its own and holds it until standard input ends, then takes all of it away:
#
#   tests/support/hold-runtime.sh copepod|containerd cni|builtin
#
# Prints one line when the runtime is ready: its directory, which has cri.sock, crictl.yaml,
# daemon.log, and as small files daemon.pid, data (where its images and layers lie) and cgroup (the
# parent that its pods shall name). By hand: `sleep inf | tests/support/hold-runtime.sh copepod cni`.
set -euo pipefail
. "$(dirname "$0")/../../hack/lib.sh"
. "$REPO/tests/support/runtime.sh"

need_root "a runtime makes namespaces, mounts and cgroups"
trap runtime_cleanup EXIT
runtime_start "${1:?copepod or containerd}" "${2:?cni or builtin}"
echo "$RUNTIME_PID" >"$RUN/daemon.pid"
echo "$DATA" >"$RUN/data"
echo "$CGROUP" >"$RUN/cgroup"
echo "$RUN"
# Whoever asked for it reads one line and may be gone by the time of the cleanup's words.
exec >/dev/null
cat
runtime_stop
