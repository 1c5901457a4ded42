"""The recipes of CONTRIBUTING.md: the files that each one shows."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"
FILE = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def files_of(heading):
    """Returns the files of a recipe by their paths, as `Add an algorithm` shows them."""
    (section,) = re.findall(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    found = dict(FILE.findall(section))
    assert found, f"{heading} shows no files"
    return found
