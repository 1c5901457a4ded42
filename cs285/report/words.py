"""Text around the questions, shared by the web page and the PDF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cs285.report.collection import Collection
from cs285.report.parts import listed, overview
from cs285.report.sections import Section, Table
from cs285.results.statistics import FINAL_EPISODES, FINAL_EVALUATIONS, PUBLIC_EPISODES


@dataclass(frozen=True)
class Front:
    """Title, summary and explanations."""

    title: str
    subtitle: str
    results: Table | None
    explanation: str
    footer: str


def front_matter(
    collection: Collection, sections: Sequence[Section], data_dirs: Sequence[Path]
) -> Front:
    """Write the front matter of a report."""
    runs, left_out = len(collection.runs), len(collection.left_out)
    folders = listed([str(data_dir) for data_dir in data_dirs])
    answered = sum(section.plot is not None for section in sections)
    subtitle = (
        f"{answered} of {len(sections)} figures, from {runs} run{'s' * (runs != 1)} in {folders}"
    )
    if left_out:
        subtitle += f"; {left_out} left out for the reasons listed at the end"
    return Front(
        title="Exploration and offline reinforcement learning",
        subtitle=f"{subtitle}.",
        results=overview(collection),
        explanation=(
            "The final return of a run is the expected return of its last policy where the log has "
            "it, as in mazes, whose transition probabilities are known: such numbers are marked "
            "as exact, and the number after them is how far off they may be. Elsewhere it is the "
            f"mean of the run's last {FINAL_EPISODES} episodes of evaluation, or of its last "
            f"{FINAL_EVALUATIONS} evaluations if the log does not say how many episodes they had. "
            "An experiment with both kinds of runs shows the means. Over seeds: the interquartile "
            "mean, and in brackets the "
            "95 % interval of a bootstrap stratified by environment, or of the noise of the "
            "evaluation if that is wider. A single run, and runs whose seeds are unknown, have no "
            "interval; \N{PLUS-MINUS SIGN} is the standard error over their episodes, if the log "
            f"shows it (logs of public versions are taken to have {PUBLIC_EPISODES} episodes per "
            "evaluation). If several runs of unknown seed differ by more, their range follows. "
            "Scores are normalised: 0 is the random policy, 1 the best possible one; a score above "
            "1 is due to luck in the episodes, or within the error of an exact return. "
            "Data is the number of transitions that learning starts with."
        ),
        footer="Every figure is also in the folder figures next to this report, as PNG and PDF.",
    )
