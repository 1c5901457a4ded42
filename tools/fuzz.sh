#!/usr/bin/env bash
# Searches for files that break a reader: ten times as many cases as the tests try, different ones every day:
#   tools/fuzz.sh [CASES [SEED]]
# A failure names its case and its seed, which reproduce it.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

export FUZZ_CASES=${1:-20000} FUZZ_SEED=${2:-$(date +%Y%m%d)} OMP_NUM_THREADS=1
echo "$FUZZ_CASES cases, seed $FUZZ_SEED"
exec .venv/bin/python -m pytest -n 2 tests/test_fuzz.py
