"""Solutions that test the checker: small patches of a right one, some right, some wrong."""

from dataclasses import dataclass
from pathlib import Path

import cs285

STYLES = {
    "student": Path(__file__).parents[1] / "student_files",
    "reference": Path(next(iter(cs285.__path__))) / "agents",
}


@dataclass(frozen=True)
class Patched:
    """One agent file with replacements, and the expected verdict on one of its methods."""

    name: str
    agent: str
    method: str
    says: str
    """Part of the text of the verdict."""
    replacements: tuple[tuple[str, str], ...]
    style: str = "student"
    verdict: str = "wrong"

    @property
    def text(self) -> str:
        """The patched source; a patch that no longer applies is an error."""
        source = (STYLES[self.style] / f"{self.agent}_agent.py").read_text(encoding="utf-8")
        for old, new in self.replacements:
            if source.count(old) < 1:
                raise ValueError(f"{self.name}: {old!r} is not in the {self.style} style")
            source = source.replace(old, new)
        return source
