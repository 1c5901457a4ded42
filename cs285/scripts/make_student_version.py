"""Makes the starter for students: this repository without the solution and the graders.

python cs285/scripts/make_student_version.py --out ../hw5
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import cs285
from cs285.grading.starter.student_version import make_student_version
from cs285.infrastructure.errors import UserError
from cs285.scripts.arguments import ArgumentParser, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the starter; return 0, or 2 if it cannot be made."""
    parser = ArgumentParser(
        "Write this repository to a new folder, without tests and graders, and with a TODO in "
        "place of everything that students write. See docs/starter.md."
    )
    parser.add_argument("--out", type=Path, required=True, help="a new or empty folder")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    chosen = parser.parse_args(arguments)
    root = Path(next(iter(cs285.__path__))).parent
    try:
        gaps = make_student_version(root, chosen.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if chosen.json:
        gaps_as_json = [{**asdict(gap), "optional": gap.is_optional} for gap in gaps]
        print(json.dumps({"out": str(chosen.out), "to_write": gaps_as_json}, indent=2))
        return 0
    required = [gap for gap in gaps if not gap.is_optional]
    print(f"{chosen.out}: {len(required)} bodies to write")
    for file, members in groupby(required, key=lambda gap: gap.file):
        print(f"  {file}")
        for gap in members:
            print(f"    {gap.name}: {gap.todo}")
    optional = [gap.name for gap in gaps if gap.is_optional]
    print(f"and {len(optional)} optional ones: {', '.join(optional)}")
    return 0


if __name__ == "__main__":
    run(main)
