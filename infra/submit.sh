#!/usr/bin/env bash
# Run a sweep on a cluster, from the root of the checkout:
#   infra/submit.sh infra/local.yaml configs/csaw.yaml [--set KEY=VALUE]...
# Brings the cluster up, leaves it alone when it runs, copies the configuration to the head, checks every
# node and runs the sweep there. The same line again goes on where the sweep was. `ray down CLUSTER` ends
# the cluster. MLFLOW_TRACKING_URI and GOODNET_STORAGE, where set, stand for tracking.uri and storage.
set -euo pipefail
if [ $# -lt 2 ]; then sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; fi
cluster=$1 config=$2
shift 2
for file in "$cluster" "$config"; do
  if [ ! -f "$file" ]; then echo "goodnet: $file: no such file" >&2; exit 2; fi
done
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=${GOODNET_BIN:-$here/../.venv/bin}
export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token RAY_UP_enable_autoscaler_v2=1
if [ -n "${MLFLOW_TRACKING_URI:-}" ]; then set -- --set "tracking.uri=$MLFLOW_TRACKING_URI" "$@"; fi
if [ -n "${GOODNET_STORAGE:-}" ]; then set -- --set "storage=$GOODNET_STORAGE" "$@"; fi

"$bin/ray" get-auth-token --generate >/dev/null  # all nodes get it, and nobody else gets in
"$bin/ray" up -y --no-restart "$cluster"
"$bin/ray" rsync-up "$cluster" "$config" "~/$(basename "$config")"
quoted=()
for argument in "$@"; do quoted+=("$(printf %q "$argument")"); done  # a shell on the head reads them
"$bin/ray" submit "$cluster" "$here/job.py" -- "~/$(basename "$config")" "${quoted[@]}"
