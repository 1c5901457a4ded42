# shellcheck shell=bash
# Sourced by run_hw5.sh and run_tests.sh, which are in the repository's root.
# `set_up_environment FILE` creates or reuses .venv, and installs the pinned packages in FILE and this package.

readonly VENV_PYTHON=.venv/bin/python

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 2
}

# check_switches NAME...: fails unless each of these variables is 0, 1 or empty.
check_switches() {
  local name
  for name in "$@"; do
    [[ ${!name:-} =~ ^[01]?$ ]] || fail "$name is 0, 1 or empty, not \"${!name}\""
  done
}

new_enough() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# Prints the interpreter for .venv: $PYTHON, or the first suitable one.
find_python() {
  local candidate candidates=(python3 python3.13 python3.12 python3.11)
  [[ -z ${PYTHON:-} ]] || candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    if new_enough "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  fail "Python 3.11 or newer is needed, and ${PYTHON:-python3} is not (or does not run);" \
    "name one that is: PYTHON=/path/to/python3.11 $0"
}

make_venv() {
  local python
  python=$(find_python)
  echo "Making .venv with $("$python" --version)"
  if ! "$python" -m venv --clear .venv; then
    rm -rf .venv
    fail "$python could not make .venv (on Debian and Ubuntu: apt install python3-venv)"
  fi
}

set_up_environment() {
  local requirements=$1 stamp=.venv/installed_$1 wanted
  check_switches SKIP_INSTALL
  if [[ ${SKIP_INSTALL:-0} == 1 ]]; then
    [[ -x $VENV_PYTHON ]] || fail "SKIP_INSTALL=1 reuses .venv, which does not exist yet: run once without it"
    return
  fi
  [[ -x $VENV_PYTHON ]] || make_venv
  new_enough "$VENV_PYTHON" || fail "the Python in .venv is older than 3.11: remove .venv and run again"
  # The stamp records what was installed, and the path that the editable install points to.
  wanted=$(pwd -P && cat requirements.txt "$requirements" pyproject.toml)
  [[ -f $stamp && $wanted == "$(<"$stamp")" ]] && return
  echo "Installing $requirements into .venv (the first time takes a few minutes)"
  "$VENV_PYTHON" -m pip --version >/dev/null 2>&1 || "$VENV_PYTHON" -m ensurepip
  "$VENV_PYTHON" -m pip install --disable-pip-version-check -r "$requirements"
  "$VENV_PYTHON" -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
  printf '%s\n' "$wanted" >"$stamp"
}
