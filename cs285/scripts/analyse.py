"""Draws what agents have learned in mazes beside what is exactly true of their policies.

python cs285/scripts/analyse.py data/hw5_offline_pointmass_easy_cql_* --out analysis
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from cs285.infrastructure.errors import UserError, printable
from cs285.scripts.arguments import ArgumentParser, at_least, run

FORMATS = ("png", "pdf")


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the figures; return 0, or 2 on bad input."""
    parser = ArgumentParser("Draw what agents have learned beside what is exactly true of them.")
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN_OR_AGENT",
        help="run folders, or files of agents within them such as agent.pt",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("analysis"), help="folder to write to")
    parser.add_argument(
        "--dataset_dir", type=Path, default=Path("datasets"),
        help="folder with the datasets that the runs have learned from",
    )  # fmt: skip
    parser.add_argument(
        "--formats", nargs="+", choices=FORMATS, help="formats of the figures (default: png pdf)"
    )
    parser.add_argument(
        "--checkpoints", type=at_least(1), default=8, metavar="N",
        help="examine at most so many agents of each run, evenly spread over training",
    )  # fmt: skip
    args = parser.parse_args(arguments)

    from cs285.report import microscope

    try:
        runs = microscope.examine(args.runs, args.dataset_dir, args.checkpoints, _remark)
        written = microscope.write(runs, args.out, args.formats or FORMATS)
    except UserError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return 2
    for one in runs:
        results = ", ".join(f"{label} {text}" for label, text in microscope.described(one.last))
        print(printable(f"{one.name}: {results}"))
    print(*map(printable, written), sep="\n")
    return 0


def _remark(text: str) -> None:
    print(printable(text), file=sys.stderr)


if __name__ == "__main__":
    run(main)
