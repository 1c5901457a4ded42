"""The page `explorer.html`, on which readers look into the agents of several runs.

It needs no other file and no network. Arrays over squares are whole numbers times a scale; each is
stored as the differences of neighbours, compressed, and as text.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cs285.analysis.maps import Maps, RunMaps, Squares
from cs285.analysis.panels import described, limits_of
from cs285.envs.dynamics import MOVES, NOISE_STD, SUBSTEPS
from cs285.envs.mazes import FloatArray, Maze

TEMPLATE = "explorer.html.j2"
MOST_BYTES = 1_900_000
"""Largest page; mail and course sites take that."""
VALUE_STEP = 0.01
"""Values are rounded to this, unless they differ by more than 655."""
LEAST_STEPS = 1e-6
"""Fewer steps of an episode per unit cell count as none."""


def render(runs: Sequence[RunMaps]) -> str:
    """Return the page.

    If it would be larger than `MOST_BYTES`, squares are joined and then some moments are left out.
    """
    page = ""
    for joined, most in _economies(runs):
        page = _render(runs, joined, most)
        if len(page) <= MOST_BYTES:
            break
    return page


def _economies(runs: Sequence[RunMaps]) -> Iterator[tuple[int, int]]:
    """Yield how many squares to join along each axis, and the number of moments of each run."""
    most = max(len(run.moments) for run in runs)
    yield 1, most
    yield 2, most
    while most > 1:
        most = (most + 1) // 2
        yield 2, most


def _render(runs: Sequence[RunMaps], joined: int, most: int) -> str:
    script = resources.files("cs285.report").joinpath("explorer.js").read_text()
    # A policy that allows this script alone keeps names of runs from becoming code.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    data = json.dumps(page_data(runs, joined, most), separators=(",", ":"), allow_nan=False)
    environment = Environment(
        loader=PackageLoader("cs285.report", package_path="."),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template(TEMPLATE).render(
        script=Markup(script),  # noqa: S704 - a file of this package
        digest=digest,
        data=Markup(data.replace("<", "\\u003c")),  # noqa: S704 - nothing in it can end the block
    )


def page_data(runs: Sequence[RunMaps], joined: int = 1, most: int = 1_000) -> dict[str, Any]:
    """Return what the page shows, as JSON types.

    Args:
        runs: The runs.
        joined: Squares to join along each axis.
        most: Largest number of moments of each run; the last is always among them.
    """
    limits = limits_of(runs)
    worlds: dict[tuple[str, float], int] = {}
    described_worlds = []
    described_runs = []
    for run in runs:
        key = run.maze.env_id, run.discount
        if key not in worlds:
            worlds[key] = len(worlds)
            described_worlds.append(_world(run, joined))
        described_runs.append(_run(run, worlds[key], joined, most))
    return {
        "moves": MOVES.tolist(),
        "noise": NOISE_STD,
        "substeps": SUBSTEPS,
        "limits": {
            "values": limits.values,
            "difference": limits.difference,
            "loss": limits.loss,
        },
        "worlds": described_worlds,
        "runs": described_runs,
    }


def _world(run: RunMaps, joined: int) -> dict[str, Any]:
    maze = run.maze
    return {
        "title": maze.title,
        "walls": ["".join(".#"[cell] for cell in row) for row in maze.walls.astype(int)],
        "start": list(maze.start),
        "goal": list(maze.goal),
        "radius": maze.goal_radius,
        "limit": maze.max_episode_steps,
        "perUnit": _per_unit(maze, run.best) // joined,
        "best": _packed_values(maze, run.best, joined),
    }


def _run(run: RunMaps, world: int, joined: int, most: int) -> dict[str, Any]:
    kept = np.unique(np.round(np.linspace(len(run.moments) - 1, 0, most)).astype(int))
    return {
        "name": run.name,
        "world": world,
        "discount": run.discount,
        "counts": None if run.counts is None else _packed(run.counts[~run.maze.walls], 1.0),
        "density": None if run.density is None else _packed_density(run.maze, run.density, joined),
        "moments": [_moment(run.maze, run.moments[k], joined) for k in kept],
    }


def _moment(maze: Maze, maps: Maps, joined: int) -> dict[str, Any]:
    policy = _squares(maze, maps.policy, joined)
    return {
        "step": maps.step,
        "numbers": described(maps)[1:],
        "return": round(maps.numbers["expected_return"], 3),
        "learned": None if maps.learned is None else _packed_values(maze, maps.learned, joined),
        "exact": _packed_values(maze, maps.exact, joined),
        "policy": _packed(policy, 1 / 255, bytes_each=1),
        "occupancy": _packed_density(maze, maps.occupancy, joined),
    }


def _per_unit(maze: Maze, field: FloatArray) -> int:
    return len(field) // maze.height


def _squares(maze: Maze, field: FloatArray, joined: int) -> FloatArray:
    """Return the means over joined squares of the free ones `(F, ...)`, row by row."""
    rows, columns = np.divide(field.shape[:2], joined).astype(int)
    blocks = field.reshape(rows, joined, columns, joined, *field.shape[2:]).mean(axis=(1, 3))
    free = Squares(maze, _per_unit(maze, field) // joined).free
    return np.asarray(blocks[free])


def _packed_values(maze: Maze, field: FloatArray, joined: int) -> dict[str, Any]:
    return _packed(_squares(maze, field, joined), VALUE_STEP)


def _packed_density(maze: Maze, field: FloatArray, joined: int) -> dict[str, Any]:
    """Pack the decimal logarithms of amounts per unit cell."""
    density = _squares(maze, field, joined) * _per_unit(maze, field) ** 2
    return _packed(np.log10(np.maximum(density, LEAST_STEPS)), VALUE_STEP)


def _packed(numbers: npt.ArrayLike, step: float, bytes_each: int = 2) -> dict[str, Any]:
    """Pack numbers `(F,)` or `(F, channels)` as whole multiples of a step above the lowest."""
    given = np.atleast_2d(np.asarray(numbers, dtype=np.float64).T)
    low, largest = float(given.min()), 256**bytes_each - 1
    step = max(step, (float(given.max()) - low) / largest)
    whole = np.round((given - low) / step).astype(np.int64)
    differences = np.diff(whole, axis=1, prepend=0) % (largest + 1)
    # All lower bytes, then all upper bytes, which are nearly all 0 or 255.
    planes = [((differences >> 8 * k) & 255).astype(np.uint8) for k in range(bytes_each)]
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed = packer.compress(b"".join(plane.tobytes() for plane in planes)) + packer.flush()
    return {
        "low": low,
        "step": step,
        "channels": len(given),
        "bytes": bytes_each,
        "data": base64.b64encode(packed).decode(),
    }
