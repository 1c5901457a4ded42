#!/usr/bin/env bash
# Looks for files that a reader stumbles over, ten times as long as the tests do and elsewhere every day:
#   tools/fuzz.sh [CASES [SEED]]
# A failure names its case and its seed, which together find it again.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

export FUZZ_CASES=${1:-20000} FUZZ_SEED=${2:-$(date +%Y%m%d)} OMP_NUM_THREADS=1
echo "$FUZZ_CASES cases, seed $FUZZ_SEED"
exec .venv/bin/python -m pytest -n 2 tests/test_fuzz.py
