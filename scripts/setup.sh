#!/bin/sh
# Make .venv and install the locked packages and this project into it. Called by the Makefile: scripts/setup.sh run|dev
# Needs nothing but Python 3.11 or newer; PYTHON=... names another interpreter, VENV=... another directory.
set -eu
cd "$(dirname "$0")/.."

kind=${1:-run}
venv=${VENV:-.venv}
case $kind in
  run) lock=requirements.lock ;;
  dev) lock=requirements-dev.lock ;;
  *) echo "setup.sh: say run or dev, not '$kind'" >&2; exit 2 ;;
esac

say() { printf '==> %s\n' "$*"; }

suits() { # a Python that is new enough and can make an environment with pip in it
  "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
  for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3.14 python3 /usr/bin/python3 python}; do
    if suits "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  cat >&2 <<'END'
No Python 3.11 or newer with its venv module was found.
  Debian, Ubuntu:  apt-get install python3 python3-venv
  Fedora:          dnf install python3
  macOS:           brew install python
Another interpreter: make PYTHON=/path/to/python3.12 run
END
  exit 1
}

# uv reads no pip.conf: where pip is told to use another index or a proxy, pip does the work.
pip_has_own_index() {
  "$venv/bin/python" -m pip config list 2>/dev/null | grep -Eq '\.(index-url|no-index|proxy)='
}

install() { # install LOCK
  count=$(grep -c '==' "$1")
  if [ -x "$venv/bin/uv" ] && ! pip_has_own_index; then
    say "installing $count packages from $1 (uv, hashes checked)"
    if "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --require-hashes -r "$1"; then
      return
    fi
    say "uv could not; trying pip"
  fi
  say "installing $count packages from $1 (pip, hashes checked; takes a minute)"
  "$venv/bin/python" -m pip install --quiet --quiet --require-hashes -r "$1"
}

if ! "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
  python=$(find_python)
  say "making $venv with $python ($("$python" --version 2>&1))"
  "$python" -m venv --clear "$venv"
fi
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip >/dev/null

PIP_DISABLE_PIP_VERSION_CHECK=1
export PIP_DISABLE_PIP_VERSION_CHECK
say "installing the installer and the build tool from requirements-build.lock (pip, hashes checked)"
"$venv/bin/python" -m pip install --quiet --quiet --require-hashes -r requirements-build.lock
install "$lock"
say "installing llmgateway itself, as a link to src/"
"$venv/bin/python" -m pip install --quiet --no-index --no-deps --no-build-isolation --editable .

touch "$venv/.ready-run"
[ "$kind" = run ] || touch "$venv/.ready-dev"
say "ready: $venv"
