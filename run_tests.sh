#!/usr/bin/env bash
# Checks format, lint, types and the order of imports, and runs the tests; fails if any of these fails.
# Arguments go to pytest:
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
  "$VENV_PYTHON" "$@" || failed+=("$name")
}

export OMP_NUM_THREADS=1 # two test processes, one thread each
check "format" -m ruff format --check
check "lint" -m ruff check
check "types" -m mypy
check "imports" tools/check_imports.py
# By worksteal, most files stay in one process, which makes their shared set-ups once.
check "tests" -m pytest -n 2 --dist worksteal "$@"

if ((${#failed[@]})); then
  printf '\nFAILED:'
  printf ' %s' "${failed[@]}"
  echo
  exit 1
fi
echo "All checks passed."
