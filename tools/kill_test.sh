#!/usr/bin/env bash
# Kills runs (-9) at random moments, resumes each and compares its results with those of an uninterrupted run:
#   tools/kill_test.sh [KILLS [SEED]]
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

export KILLS=${1:-50} KILL_SEED=${2:-$(date +%Y%m%d)} OMP_NUM_THREADS=1
echo "$KILLS kills, seed $KILL_SEED"
exec .venv/bin/python -m pytest tests/test_resume.py -k kills -rP --show-capture=stdout
