#!/usr/bin/env bash
# Checks format, lint and types and runs the tests; fails when any of the four does. Arguments go to pytest:
#   ./run_tests.sh -k planner
# PYTHON=... and SKIP_INSTALL=1 mean what they mean to ./run_hw5.sh.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
source tools/setup_env.sh
set_up_environment requirements-dev.txt

failed=()
check() {
  local name=$1
  shift
  echo "== $name"
  "$VENV_PYTHON" -m "$@" || failed+=("$name")
}

export OMP_NUM_THREADS=1 # two test processes, one thread each
check "format" ruff format --check
check "lint" ruff check
check "types" mypy
check "tests" pytest -n 2 "$@"

if ((${#failed[@]})); then
  printf '\nFAILED:'
  printf ' %s' "${failed[@]}"
  echo
  exit 1
fi
echo "All checks passed."
