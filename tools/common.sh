# shellcheck shell=bash
# Shared by the scripts in tools/; sourced, not run.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${MIDSESSION_CACHE:-$ROOT/.cache}

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# The exit codes are Midsession's own: something is missing here, or something of ours broke.
lacks() {
  say "$*"
  exit 10
}

fail() {
  say "$*"
  exit 3
}

has() { command -v "$1" >/dev/null 2>&1; }

is_root() { [ "$(id -u)" -eq 0 ]; }

# One process at a time in this checkout does what follows, until the script ends.
take_turns() {
  mkdir -p "$CACHE"
  exec 9>"$CACHE/$1.lock"
  flock 9
}

# The first Python that is new enough and can make virtual environments.
find_python() {
  local python
  for python in ${PYTHON:-} python3.13 python3.12 python3.11 python3; do
    if has "$python" && "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$python"
      return
    fi
  done
  lacks "needs Python 3.11 or newer with its venv module (Debian: apt-get install python3-venv); PYTHON=… names another one"
}
