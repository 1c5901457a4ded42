"""Check the order of imports that pyproject.toml declares; exit with status 1 if it is broken."""

import os
import sys
from pathlib import Path

from importlinter.cli import lint_imports

ROOT = Path(__file__).resolve().parent.parent

if __name__ == "__main__":
    os.chdir(ROOT)  # where pyproject.toml is
    sys.path.insert(0, str(ROOT))  # this tree, whatever is installed
    sys.exit(lint_imports(no_cache=True, no_logo=True))
