"""Packs the grader for Gradescope: setup.sh, run_autograder and everything that they need.

python cs285/scripts/make_gradescope.py --out autograder.zip
"""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from cs285.grading.hand_ins.rubric import DEFAULT, load_rubric
from cs285.grading.sandbox.sandbox import PACKAGE
from cs285.infrastructure.errors import UserError
from cs285.infrastructure.files import write_atomically
from cs285.scripts.arguments import ArgumentParser, run

REQUIREMENTS = PACKAGE.parent / "requirements.txt"
PROGRAMS = ("setup.sh", "run_autograder")
PROGRAMS_FOLDER = PurePosixPath("cs285/grading/hand_ins/gradescope")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the zip; return 0, or 2 if that is not possible."""
    parser = ArgumentParser(
        "Write the zip from which Gradescope builds an autograder. It contains this package "
        "with its reference solution, so do not give it to students. See docs/autograder.md."
    )
    parser.add_argument("--out", type=Path, default=Path("autograder.zip"), help="the zip to write")
    parser.add_argument("--rubric", type=Path, default=DEFAULT, help="weights and thresholds")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    chosen = parser.parse_args(arguments)
    try:
        files = collect(chosen.rubric)
        write_atomically(chosen.out, lambda file: _pack(zipfile.ZipFile(file, "w"), files))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    size = chosen.out.stat().st_size
    if chosen.json:
        print(json.dumps({"out": str(chosen.out), "files": len(files), "bytes": size}))
    else:
        print(f"{chosen.out}: {len(files)} files, {size / 1e3:,.0f} kB")
    return 0


def collect(rubric: Path = DEFAULT) -> dict[PurePosixPath, bytes]:
    """Return the files of the autograder by path.

    Raises:
        UserError: If the rubric is not usable, or requirements.txt is missing.
    """
    load_rubric(rubric)
    if not REQUIREMENTS.is_file():
        raise UserError(
            f"{REQUIREMENTS} is missing; make the autograder from the repository, not from an "
            "installed package"
        )
    files = {
        PurePosixPath("cs285", path.relative_to(PACKAGE).as_posix()): path.read_bytes()
        for path in sorted(PACKAGE.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    files[PurePosixPath("cs285", DEFAULT.relative_to(PACKAGE).as_posix())] = rubric.read_bytes()
    files[PurePosixPath(REQUIREMENTS.name)] = REQUIREMENTS.read_bytes()
    for name in PROGRAMS:
        files[PurePosixPath(name)] = files.pop(
            PurePosixPath("cs285/grading/hand_ins/gradescope", name)
        )
    return files


def _pack(archive: zipfile.ZipFile, files: dict[PurePosixPath, bytes]) -> None:
    """Write all files in a fixed order with fixed times, so that equal files give equal zips."""
    with archive:
        for path, content in sorted(files.items()):
            member = zipfile.ZipInfo(str(path))
            member.compress_type = zipfile.ZIP_DEFLATED
            mode = 0o755 if str(path) in PROGRAMS else 0o644
            member.external_attr = (0o100000 | mode) << 16
            archive.writestr(member, content)


if __name__ == "__main__":
    run(main)
