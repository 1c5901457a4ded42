#!/usr/bin/env bash
# Gradescope runs this once, when it builds the image. It creates an environment with the pinned packages and
# computes the best policy of every maze, which takes seconds. If Python has neither venv nor pip, it installs
# venv with apt-get.
#
#   AUTOGRADER_ROOT     the folder that holds Gradescope's folders (default: /autograder)
#   AUTOGRADER_PYTHON   an interpreter that already has the packages; then nothing is installed
set -euo pipefail
root=${AUTOGRADER_ROOT:-/autograder}
python=${AUTOGRADER_PYTHON:-}

if [[ -z $python ]]; then
  for candidate in python3.14 python3.13 python3.12 python3.11 python3; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      python=$candidate
      break
    fi
  done
  if [[ -z $python ]]; then
    echo "The grader needs Python 3.11 or newer: choose a base image with Ubuntu 24.04 or newer." >&2
    exit 1
  fi
  if ! "$python" -m venv "$root/venv" >/dev/null && ! "$python" -m pip --version &>/dev/null; then
    # Debian's and Ubuntu's Python comes without venv and pip, also in images based on them.
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "$python-venv" || true
  fi
  if "$python" -m venv --clear "$root/venv"; then
    pip=("$root/venv/bin/python" -m pip)
  else
    # Without venv, there may still be a pip, which can install into an environment that has none.
    "$python" -m venv --clear --without-pip "$root/venv"
    pip=("$python" -m pip --python "$root/venv/bin/python")
  fi
  python=$root/venv/bin/python
  # PyTorch's index has builds without the gigabytes of GPU libraries.
  export PIP_EXTRA_INDEX_URL=${PIP_EXTRA_INDEX_URL:-https://download.pytorch.org/whl/cpu}
  "${pip[@]}" install --no-cache-dir -r "$root/source/requirements.txt"
fi

cd "$root/source"
XDG_CACHE_HOME=$root/cache "$python" -c '
from cs285.envs.tasks import known_tasks
for task in known_tasks().values():
    task.reference()
'
