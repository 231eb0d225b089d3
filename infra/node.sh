#!/usr/bin/env bash
# One machine of a Ray cluster, by hand or from a cluster YAML. Run it on the machine itself.
#
#   infra/node.sh setup              make the environment; `ray` and `goodnet` in login shells
#   infra/node.sh head [OPTIONS]     start Ray here as the head; prints the address to join
#   infra/node.sh worker HEAD:PORT   start Ray here and join
#   infra/node.sh stop               end Ray's processes, this machine's all of them
#
# OPTIONS go to `ray start` (say --num-gpus 1). Environment: NODE_IP, this machine's address when it has
# several; RAY_PORT (6379) and DASHBOARD_PORT (8265) of the head. Ray's ports run what is sent to them by
# whoever has the token in ~/.ray/auth_token, in the clear: private network only. The head makes a token;
# copy it to the workers. The dashboard, where jobs are handed in, listens on loopback alone.
set -euo pipefail
home=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin=${GOODNET_BIN:-$home/.venv/bin}
export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=${RAY_AUTH_MODE:-token}

# Ray finds a machine's address by its route to the internet; a machine without one would call itself
# 127.0.0.1, and nobody could join it.
address_towards() { ip -o route get "$1" 2>/dev/null | sed -nE 's/.* src ([^ ]+).*/\1/p'; }
only_address() { set -- $(hostname -I 2>/dev/null); if [ $# = 1 ]; then echo "$1"; fi; }
named() { if [ -n "$1" ]; then echo "--node-ip-address=$1"; fi; }

case "${1:-}" in
setup)
  make -C "$home" setup
  # `ray submit` runs "python" of a login shell on the head, and `ray down` runs "ray".
  profile=~/.profile
  for other in ~/.bash_login ~/.bash_profile; do if [ -e "$other" ]; then profile=$other; fi; done
  line="export PATH=\"$bin:\$PATH\" RAY_AUTH_MODE=token"
  grep -qxF "$line" "$profile" 2>/dev/null || echo "$line" >>"$profile"
  ;;
head)
  shift
  "$bin/ray" get-auth-token --generate >/dev/null
  exec "$bin/ray" start --head --port "${RAY_PORT:-6379}" $(named "${NODE_IP:-$(only_address)}") \
    --dashboard-host 127.0.0.1 --dashboard-port "${DASHBOARD_PORT:-8265}" "$@"
  ;;
worker)
  address=${2:?"expected the head's address, as in: infra/node.sh worker 10.0.0.1:6379"}
  shift 2
  if [ "$RAY_AUTH_MODE${RAY_AUTH_TOKEN:-}${RAY_AUTH_TOKEN_PATH:-}" = token ] && [ ! -s ~/.ray/auth_token ]; then
    echo "no token: copy ~/.ray/auth_token of the head to this machine, readable by you alone" >&2
    exit 2
  fi
  exec "$bin/ray" start --address "$address" \
    $(named "${NODE_IP:-$(address_towards "${address%:*}")}") "$@"
  ;;
stop)
  exec "$bin/ray" stop
  ;;
*)
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
  exit 2
  ;;
esac
