#!/usr/bin/env bash
# An MLflow server on PostgreSQL. Clients hand their files to it over HTTP (proxied artifacts), so that
# only this machine needs to see where they lie.
#
#   MLFLOW_BACKEND_STORE_URI=postgresql+psycopg://mlflow:PASSWORD@DBHOST/mlflow infra/mlflow-server.sh
#
# The address of the database comes by the environment, since a command line shows to every user. Also:
#   HOST           127.0.0.1   interface to listen on; whoever reaches it can read and write everything
#   PORT           5000
#   ALLOWED_HOSTS  this machine's names that clients use, e.g. mlflow.lab:5000,10.0.0.5:5000; needed with any
#                  other HOST. A client that says another name is answered 403 "Invalid Host header".
#   ARTIFACTS      ./mlartifacts   folder, or a URI such as s3://bucket/mlflow
#   WORKERS        2
# Further arguments go to mlflow server. Then set tracking.uri to http://NAME:PORT in the configuration.
# Needs the server extra: pip install 'goodnet[server]' (in a checkout: pip install -e '.[server]').
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
die() { echo "mlflow-server.sh: $*" >&2; exit 2; }

case ${MLFLOW_BACKEND_STORE_URI:-} in
  postgresql://*|postgresql+psycopg://*) ;;
  '') die "MLFLOW_BACKEND_STORE_URI is not set; expected postgresql+psycopg://user:password@host/database" ;;
  *) die "MLFLOW_BACKEND_STORE_URI: expected postgresql+psycopg://user:password@host/database" ;;
esac
# The driver that the extra installs, whatever SQLAlchemy would take by default.
export MLFLOW_BACKEND_STORE_URI=${MLFLOW_BACKEND_STORE_URI/#postgresql:/postgresql+psycopg:}
host=${HOST:-127.0.0.1} port=${PORT:-5000}
case $host in
  127.*|localhost|::1) allowed=${ALLOWED_HOSTS:-localhost:$port,127.0.0.1:$port} ;;
  *) allowed=${ALLOWED_HOSTS:-}
     [ -n "$allowed" ] || die "HOST is $host: set ALLOWED_HOSTS to the names by which clients reach it" ;;
esac
mlflow=$here/.venv/bin/mlflow
[ -x "$mlflow" ] || mlflow=$(command -v mlflow) || die "no mlflow; run make setup"
python=$(dirname "$mlflow")/python
[ -x "$python" ] || python=python3
"$python" -c 'import psycopg' 2>/dev/null || die "no psycopg; install the server extra: pip install -e '.[server]'"

export MLFLOW_DISABLE_TELEMETRY=${MLFLOW_DISABLE_TELEMETRY:-true}
exec "$mlflow" server --host "$host" --port "$port" --allowed-hosts "$allowed" --workers "${WORKERS:-2}" \
  --serve-artifacts --artifacts-destination "${ARTIFACTS:-$PWD/mlartifacts}" "$@"
