#!/usr/bin/env bash
# Kills runs (-9) at random moments, resumes each and compares the end with that of an uninterrupted run.
#
#   tools/kill_test.sh        50 kills, the date as seed
#   tools/kill_test.sh 200 7  more, from a seed
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export KILLS=${1:-50} KILL_SEED=${2:-$(date +%Y%m%d)}
echo "KILLS=$KILLS KILL_SEED=$KILL_SEED"
exec .venv/bin/python -m pytest tests/test_resume.py -k kills_at_random -rP --no-header --show-capture=stdout
