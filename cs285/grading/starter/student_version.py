"""Makes the starter: this repository without its graders and without the code that students write.

`WRITTEN` names what students write, so the reference needs no markers; formulas in the first
docstring of such a file are removed as well. Parts of a function can be marked in the source by
comments on separate lines:

    # STUDENT: begin
    values = ...
    # STUDENT: end
"""

from __future__ import annotations

import ast
import functools
import io
import re
import shutil
import textwrap
import tokenize
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path, PurePosixPath

from cs285.homework import algorithms, algorithms_for
from cs285.infrastructure.errors import UserError
from cs285.infrastructure.files import prepare_folder
from cs285.infrastructure.yaml_text import read_yaml


class OptionalTodo(str):
    """A TODO for a body that the assignment does not need."""

    __slots__ = ()


_HELPER = OptionalTodo("a helper of the reference")
_SECOND_CRITIC = OptionalTodo("only for num_exploration_steps in a config")
_OBJECTIVES = OptionalTodo("lets several runs train as one; without it the scripts call `update`")
_TENSOR = "`ptu.from_numpy` in `cs285.infrastructure.pytorch_util` turns it into a tensor"
_CLIP = (
    "with its gradient clipped by `nn.utils.clip_grad_norm_` if `self.clip_grad_norm` is not None"
)
WRITTEN: Mapping[str, Mapping[str, str]] = {
    "cs285/agents/acting.py": {
        "epsilon_greedy": OptionalTodo(f"{_HELPER}'s DQNAgent"),
    },
    "cs285/agents/random_agent.py": {
        "RandomAgent.get_action": "return one of num_actions actions, all equally likely",
    },
    "cs285/agents/dqn_agent.py": {
        "DQNAgent.action_probabilities": _HELPER,
        "DQNAgent.action_values": _HELPER,
        "DQNAgent.get_action": (
            f"act epsilon-greedily on the critic's values of the observation; {_TENSOR}"
        ),
        "DQNAgent.compute_critic_loss": (
            "return the loss; metrics with the tags `q_values` and `target_values`; and the "
            "variables `qa_values` and `q_values`"
        ),
        "DQNAgent.objectives": _OBJECTIVES,
        "DQNAgent.update_critic": (
            "take one step of `self.critic_optimizer` on the loss of compute_critic_loss, "
            f"{_CLIP}, and then `self.lr_scheduler.step()`; return its metrics and the tags "
            "`critic_loss` and `grad_norm`"
        ),
        "DQNAgent.update": (
            "update the critic and, at multiples of `self.target_update_period`, its target; "
            "return the critic's metrics"
        ),
    },
    "cs285/agents/cql_agent.py": {
        "CQLAgent.compute_critic_loss": (
            "add the conservative term to DQN's loss, and the term itself to its metrics as "
            "`cql_term`"
        ),
    },
    "cs285/agents/awac_agent.py": {
        "AWACAgent.action_probabilities": _HELPER,
        "AWACAgent.get_action": (
            "act on the observation with the actor, at epsilon 0 with its likeliest action; "
            f"{_TENSOR}"
        ),
        "AWACAgent.compute_critic_loss": "as in DQN, but with the expectation under the actor",
        "AWACAgent.compute_advantage": "return an advantage for every row, without gradient",
        "AWACAgent.compute_actor_loss": _HELPER,
        "AWACAgent.objectives": _OBJECTIVES,
        "AWACAgent.update_actor": (
            "take one step of `self.actor_optimizer` on the weighted log-likelihood; return the "
            "loss"
        ),
        "AWACAgent.update": (
            "update critic and actor, and at multiples of the period the target; return the "
            "critic's metrics and the tag `actor_loss`"
        ),
    },
    "cs285/agents/iql_agent.py": {
        "IQLAgent.state_values": _HELPER,
        "IQLAgent.compute_critic_loss": _HELPER,
        "IQLAgent.iql_expectile_loss": "return the mean expectile loss",
        "IQLAgent.compute_value_loss": _HELPER,
        "IQLAgent.compute_advantage": "return an advantage for every row, without gradient",
        "IQLAgent.objectives": _OBJECTIVES,
        "IQLAgent.update_q": (
            f"take one step of `self.critic_optimizer` on Q, {_CLIP}, and then "
            "`self.lr_scheduler.step()`; return the tags `q_loss`, `q_values`, `target_values` "
            "and `q_grad_norm`"
        ),
        "IQLAgent.update_v": (
            f"take one step of `self.value_critic_optimizer` on V, {_CLIP}; return the tags "
            "`v_loss`, `vs`, `vs_adv` (the mean of V - Q) and `v_grad_norm`"
        ),
        "IQLAgent.update": (
            "update Q, V and actor, and at multiples of the period V's target; return the metrics "
            "of Q and V and the tag `actor_loss`"
        ),
    },
    "cs285/agents/rnd_agent.py": {
        "RNDAgent.compute_errors": "return the prediction error of every row",
        "RNDAgent.compute_bonus": _HELPER,
        "RNDAgent.add_bonus": _HELPER,
        "RNDAgent.compute_exploration_loss": _HELPER,
        "RNDAgent.compute_rnd_loss": _HELPER,
        "RNDAgent.objectives": _OBJECTIVES,
        "RNDAgent.update_rnd": (
            "take one step of `self.rnd_optimizer` on the predictor; return its loss"
        ),
        "RNDAgent.update": (
            "train the critic on the bonus, then the predictor; return the critic's metrics and "
            "the tag `rnd_loss`"
        ),
    },
    "cs285/scripts/run_hw5_finetune.py": {
        "finetune": (
            "take the steps of the run: first on the dataset alone, then online, with the dataset "
            "still in the buffer"
        ),
    },
    # This file shows how the agent above is written.
    "cs285/agents/two_critic_rnd_agent.py": {
        "TwoCriticRNDAgent.action_probabilities": _SECOND_CRITIC,
        "TwoCriticRNDAgent.compute_exploitation_loss": _SECOND_CRITIC,
        "TwoCriticRNDAgent.objectives": _OBJECTIVES,
        "TwoCriticRNDAgent.learn_from": _SECOND_CRITIC,
    },
}
"""The functions that students write, by file, and the text of the TODO that replaces each."""

PUBLISHED = (
    ".gitignore", "LICENSE", "README.md", "cs285", "data/README.md", "datasets/README.md",
    "docs/analysis.md", "docs/environments.md", "docs/exact.md", "docs/handin.md",
    "docs/images/analysis.png", "docs/images/mazes.png", "docs/logging.md",
    "docs/report.md", "experiments", "pyproject.toml", "requirements.txt", "run_hw5.sh", "setup.py",
    "tools/setup_env.sh",
)  # fmt: skip
"""The files of a starter. Nothing else is published: tests and benchmarks contain solutions, other
pages and pictures contain results."""
README = PurePosixPath("README.md")
"""In the starter, this is `STUDENT_README` with sections of the repository's README."""
STUDENT_README = PurePosixPath("cs285/grading/starter/student_readme.md.in")
WITHHELD = (
    "cs285.grading",
    # the answers to section 1 of the handout
    "cs285.analysis.constrained", "cs285.learning.divergences", "cs285.lectures",
    # what the methods beyond the handout share
    "cs285.agents.imitation",
)  # fmt: skip
"""Packages and modules that are not published, nor is anything that imports them. The same holds
for algorithms that no question of the handout asks for, since they contain much of what students
write; `_beyond_the_handout` lists them."""

INHERITED = {
    "update": '''\
    def update(
        self,
        observations: torch.Tensor,
        actions: torch.Tensor,
        rewards: torch.Tensor,
        next_observations: torch.Tensor,
        dones: torch.Tensor,
        step: int,
    ) -> dict[str, Any]:
        """Take one step on a batch and return what to log."""
'''
}
"""Methods that students write but the reference takes over by a line such as
`update = Agent.update`. In the starter, such a line becomes a method that starts with this text."""

TODO = "TODO(student)"
OPTIONAL = "OPTIONAL(student)"
"""Marks bodies that the assignment does not need, so that a search for `TODO` skips them."""
MAX_LINE = 100
_MARKER = re.compile(r"#\W*(?:STUDENT\b|(?i:student)\s*:)")
_FORMULA = re.compile(r"\s=\s")
_BEGIN, _END = "# STUDENT: begin", "# STUDENT: end"
_TO_WRITE, _SECTION = "to write", "section"
_PLACE = re.compile(rf"<!-- ({_TO_WRITE}|{_SECTION}): (.+?) -->")
_OPTIONAL = "optional"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Gap:
    """A function that students write, or part of one."""

    file: str
    name: str
    """`Class.method`, or the name of a function."""
    todo: str

    @property
    def is_optional(self) -> bool:
        """Whether the assignment does not require it."""
        return isinstance(self.todo, OptionalTodo)


def make_student_version(root: Path, out: Path) -> list[Gap]:
    """Write the starter of the repository at `root` to the new folder `out`.

    Returns:
        What students have to write.

    Raises:
        UserError: If `out` is in use or overlaps `root`, if a name in `WRITTEN` does not exist, or
            if a marker is unknown or unbalanced. In these cases nothing is written.
    """
    _check_folder(root.resolve(), out)
    contents: dict[PurePosixPath, bytes] = {}
    gaps: list[Gap] = []
    for path in published_files(root):
        contents[path] = (root / path).read_bytes()
        if path.suffix == ".py":
            text, found = strip(_decode(contents[path], path), str(path))
            contents[path] = text.encode()
            gaps += found
    if absent := [file for file in WRITTEN if PurePosixPath(file) not in contents]:
        raise UserError(f"{root}: {absent[0]} is missing; students write a part of it")
    contents[README] = fill_readme(_read(root, STUDENT_README), _read(root, README), gaps).encode()
    prepare_folder(out)
    try:
        for path, content in contents.items():
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            (out / path).write_bytes(content)
            shutil.copymode(root / path, out / path)
    except OSError as error:
        raise UserError(f"{out} is incomplete: {error}") from error
    return gaps


def _check_folder(root: Path, out: Path) -> None:
    resolved = out.resolve()
    if resolved.is_relative_to(root) or root.is_relative_to(resolved):
        raise UserError(f"--out {out}: is inside the repository or contains it; choose another")
    if resolved.exists() and not (resolved.is_dir() and not any(resolved.iterdir())):
        raise UserError(f"--out {out}: already exists and is not an empty folder; choose a new one")


def published_files(root: Path) -> Iterator[PurePosixPath]:
    """Yield the paths of the starter's files, sorted and relative to `root`; links are left out."""
    for entry in map(root.joinpath, PUBLISHED):
        files = sorted(entry.rglob("*")) if entry.is_dir() else [entry]
        for path in files:
            relative = PurePosixPath(path.relative_to(root).as_posix())
            hidden = any(part.startswith((".", "__pycache__")) for part in relative.parts[1:])
            is_plain = path.is_file() and not path.is_symlink()
            if is_plain and not hidden and not _is_withheld(root, relative):
                yield relative


def _is_withheld(root: Path, path: PurePosixPath) -> bool:
    """Return whether a file is withheld or imports what is."""
    if path.suffix == ".yaml" and path.parts[0] == "experiments":
        return read_yaml(root / path)["base_config"] in algorithms_for(None)
    if path.suffix != ".py":
        return _withheld(".".join(path.parts))
    imported = {".".join(path.with_suffix("").parts)}
    for node in _parse(_decode((root / path).read_bytes(), path), str(path)).body:
        if isinstance(node, ast.ImportFrom):
            imported |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
    return any(map(_withheld, imported))


def _withheld(module: str) -> bool:
    names = (*WITHHELD, *_beyond_the_handout())
    return any(f"{module}.".startswith(f"{name}.") for name in names)


@functools.cache
def _beyond_the_handout() -> tuple[str, ...]:
    """Return the modules of the algorithms that no question of the handout asks for."""
    return tuple(
        module
        for name in algorithms_for(None)
        for module in (f"cs285.agents.{name}_agent", algorithms()[name].config.__module__)
    )


def _read(root: Path, path: PurePosixPath) -> str:
    try:
        return _decode((root / path).read_bytes(), path)
    except FileNotFoundError:
        raise UserError(
            f"{root}: {path} is missing; a starter can only be made from the repository"
        ) from None


def _decode(data: bytes, path: PurePosixPath) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text") from None


# The README for students


def fill_readme(template: str, readme: str, gaps: Sequence[Gap]) -> str:
    """Fill in the README for students.

    Args:
        template: Contains `<!-- to write: FILE -->` for the list of required functions in a file,
            `<!-- to write: optional -->` for all optional ones, and `<!-- section: HEADING -->`
            for a section of `readme`.
        readme: The README of the repository.
        gaps: What students write, by file.

    Raises:
        UserError: If the template lacks a place for one of the lists, or has a place for none.
    """
    lists: dict[str, list[str]] = {}
    for file, members in groupby(gaps, key=lambda gap: gap.file):
        optional = []
        for gap in members:
            if gap.is_optional:
                optional.append(f"`{gap.name}`")
            else:
                lists.setdefault(file, []).append(f"- `{gap.name}`: {gap.todo}")
        if optional:
            lists.setdefault(_OPTIONAL, []).append(f"- [{file}]({file}): {', '.join(optional)}")
    texts = {(_TO_WRITE, place): "\n".join(items) for place, items in lists.items()}
    texts |= {(_SECTION, part[0]): part[1] for part in _sections(readme)}
    places = {(found[1], found[2]) for found in _PLACE.finditer(template)}
    if missing := [place for place in lists if (_TO_WRITE, place) not in places]:
        raise UserError(f"{STUDENT_README}: has no `<!-- {_TO_WRITE}: {missing[0]} -->`")
    if unknown := sorted(places - texts.keys()):
        what, name = unknown[0]
        raise UserError(f"{STUDENT_README}: `<!-- {what}: {name} -->` does not stand for anything")
    return _PLACE.sub(lambda found: texts[found[1], found[2]], template)


def _sections(page: str) -> Iterator[tuple[str, str]]:
    """Yield the headings and texts of the second-level sections of a Markdown page."""
    for part in re.split(r"^(?=## )", page, flags=re.MULTILINE)[1:]:
        yield part.splitlines()[0].removeprefix("## "), part.strip()


# One file


def strip(text: str, file: str, written: Mapping[str, str] | None = None) -> tuple[str, list[Gap]]:
    """Remove from a Python file what students write, and the formulas in its first docstring.

    Args:
        text: The file, with any kind of line ends.
        file: Its path relative to the root, for messages.
        written: The functions whose bodies to remove, and their TODOs; by default from `WRITTEN`.

    Returns:
        The starter's file, and what students write in it.

    Raises:
        UserError: If a function is missing or cannot be emptied, or a marker is invalid.
    """
    written = WRITTEN.get(file, {}) if written is None else written
    regions = list(_regions(text, file))
    if found := [marker for marker in (TODO, OPTIONAL) if marker in text]:
        raise UserError(f"{file}: already contains a {found[0]}")
    if not written and not regions:
        return text, []
    text = without_formulas(text, file)
    regions = list(_regions(text, file))
    tree = _parse(text, file)
    functions, inherited = _functions(tree), _inherited(tree)
    lines = _lines(text)
    newline = "\r\n" if lines[0].endswith("\r\n") else "\n"
    cuts: list[tuple[slice, Gap]] = []
    for name, todo in written.items():
        if name not in functions.keys() | inherited.keys():
            raise UserError(f"{file}: has no {name} for students to write")
        what = f"{file}: {name}"
        cut = inherited.get(name) or _body(functions[name], lines, what)
        cuts.append((cut, Gap(file, name, todo)))
    for region in regions:
        name = _owner(region, functions, lines, file)
        if name in written:
            raise UserError(
                f"{file}, line {region.start + 1}: {name} is already removed as a whole"
            )
        cuts.append((region, Gap(file, name, "the missing part")))
    starter = lines.copy()
    for cut, gap in sorted(cuts, key=lambda pair: pair[0].start, reverse=True):
        first = next(line for line in lines[cut] if not _is_comment(line))
        begin = _beginning(gap) if gap.name in inherited else ""
        indent = first[: _indentation(first)] * (2 if begin else 1)
        starter[cut] = [*_lines(begin.replace("\n", newline)), *_stub(indent, gap, newline)]
    result = "".join(starter)
    names = {gap.name for _, gap in cuts}
    if restore(result, text, names, file) != text:
        raise UserError(
            f"{file}: the removed parts of {', '.join(sorted(names))} cannot be put back"
        )
    return result, [gap for _, gap in cuts]


def without_formulas(text: str, file: str) -> str:
    """Return a file without the formulas in its first docstring, which students have to find.

    A formula is an indented block with an equals sign.
    """
    tree, lines = _parse(text, file), _lines(text)
    if ast.get_docstring(tree) is None:
        return text
    first, last = _start(tree.body[0]), _end(tree.body[0])
    kept: list[str] = []
    for is_block, members in groupby(lines[first:last], key=lambda line: line.startswith("    ")):
        block = list(members)
        if is_block and any(_FORMULA.search(line) for line in block):
            if kept and not kept[-1].strip():
                kept.pop()
        else:
            kept += block
    return "".join([*lines[:first], *kept, *lines[last:]])


def restore(text: str, reference: str, names: Collection[str], file: str = "") -> str:
    """Put the reference's bodies of the named functions back into a starter's file.

    Raises:
        UserError: If either is not valid Python or lacks one of the functions.
    """
    lines, originals = _lines(text), _lines(reference)
    functions, sources = (_functions(_parse(one, file)) for one in (text, reference))
    inherited = _inherited(_parse(reference, file))
    if lost := set(names) - (functions.keys() & (sources.keys() | inherited.keys())):
        raise UserError(f"{file}: has no {min(lost)}")
    for name in sorted(names, key=lambda name: functions[name].lineno, reverse=True):
        if name in inherited:
            whole = slice(_start(functions[name]), _end(functions[name]))
            lines[whole] = originals[inherited[name]]
            continue
        body = originals[_body(sources[name], originals, f"{file}: {name}")]
        lines[_body(functions[name], lines, f"{file}: {name}")] = body
    return "".join(lines)


def _lines(text: str) -> list[str]:
    """Split as Python counts lines; `str.splitlines` splits at form feeds too."""
    return list(io.StringIO(text, newline=""))


def _parse(text: str, file: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise UserError(f"{file}: not valid Python{f' (line {line})' if line else ''}") from None


def _functions(tree: ast.Module | ast.ClassDef, prefix: str = "") -> dict[str, Function]:
    """Return functions and methods by their qualified names."""
    found: dict[str, Function] = {}
    for node in tree.body:
        if isinstance(node, Function):
            found[prefix + node.name] = node
        elif isinstance(node, ast.ClassDef):
            found |= _functions(node, f"{prefix}{node.name}.")
    return found


def _beginning(gap: Gap) -> str:
    """Return the first lines of an inherited method in the starter."""
    return INHERITED[gap.name.rpartition(".")[2]]


def _inherited(tree: ast.Module) -> dict[str, slice]:
    """Return the lines such as `update = Agent.update`, by the names of the methods."""
    return {
        f"{owner.name}.{node.targets[0].id}": slice(_start(node), _end(node))
        for owner in tree.body
        if isinstance(owner, ast.ClassDef)
        for node in owner.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id in INHERITED
    }


def _body(function: Function, lines: Sequence[str], what: str) -> slice:
    """Return the lines of a body: everything after the docstring, including comments."""
    statements, above = function.body, function.lineno
    if ast.get_docstring(function) is not None:
        above = _end(statements[0])
        statements = statements[1:]
    if not statements:
        raise UserError(f"{what} has only a docstring")
    first = _start(statements[0])
    if lines[first].encode()[: statements[0].col_offset].strip():
        raise UserError(f"{what} starts on a line with other code; put it on separate lines")
    while first > above and _is_comment(lines[first - 1]):
        first -= 1
    last = _end(function)
    for number in range(last, len(lines)):
        if not _is_comment(lines[number]):
            break
        if _indentation(lines[number]) > function.col_offset:
            last = number + 1
    return slice(first, last)


def _start(node: ast.stmt) -> int:
    """Return the index of a statement's first line, including decorators."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)]) - 1


def _end(node: ast.stmt) -> int:
    """Return the index of the line after a statement."""
    return node.end_lineno or node.lineno


def _is_comment(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip()) if line.strip() else 0


def _stub(indent: str, gap: Gap, newline: str) -> list[str]:
    """Return the lines that replace removed code."""
    message = f'"{gap.name} is yours to write ({PurePosixPath(gap.file).name})"'
    error = [f"raise NotImplementedError({message})"]
    if len(indent + error[0]) > MAX_LINE:
        error = ["raise NotImplementedError(", f"    {message}", ")"]
    marker = OPTIONAL if gap.is_optional else TODO
    todo = textwrap.wrap(
        f"{marker}: {gap.todo}", MAX_LINE - len(indent) - 2, break_on_hyphens=False
    )
    return [f"{indent}{line}{newline}" for line in (*(f"# {part}" for part in todo), *error)]


# Markers


def _regions(text: str, file: str) -> Iterator[slice]:
    """Yield the lines between markers, including the markers.

    Raises:
        UserError: If a marker is unknown, has no matching marker, or shares its line with code.
    """
    markers = []
    if _MARKER.search(text):
        _parse(text, file)
        for token in tokenize.generate_tokens(io.StringIO(text, newline="").readline):
            if token.type == tokenize.COMMENT and _MARKER.match(token.string):
                row, column = token.start
                if token.string not in {_BEGIN, _END} or token.line[:column].strip():
                    raise UserError(
                        f"{file}, line {row}: {token.string!r} is not a marker; markers are "
                        f"{_BEGIN!r} and {_END!r} on separate lines"
                    )
                markers.append((row, column, token.string))
    for place, (row, column, marker) in enumerate(markers):
        counterpart = markers[place + 1 :][:1] if marker == _BEGIN else markers[:place][-1:]
        if not counterpart or counterpart[0][2] == marker:
            raise UserError(f"{file}, line {row}: {marker!r} has no matching marker")
        if counterpart[0][1] != column:
            raise UserError(f"{file}, line {row}: {marker!r} is not indented like its match")
    for (begin, _, marker), (end, _, _) in pairwise(markers):
        if marker == _BEGIN:
            yield slice(begin - 1, end)


def _owner(
    region: slice, functions: Mapping[str, Function], lines: Sequence[str], file: str
) -> str:
    """Return the name of the function that contains a marked region."""
    place = f"{file}, line {region.start + 1}"
    around_it = (f for f in functions.items() if f[1].lineno <= region.start < _end(f[1]))
    name, function = next(around_it, ("", None))
    if function is None:
        raise UserError(f"{place}: the marked region is not inside a function")
    body = _body(function, lines, f"{file}: {name}")
    code = [n for n in range(region.start, region.stop) if not _is_comment(lines[n])]
    if not any(_fills(code, block) for block in _blocks(function)) or region.start < body.start:
        raise UserError(f"{place}: the marked region does not contain whole statements")
    return name


def _blocks(function: Function) -> Iterator[list[ast.stmt]]:
    """Yield every sequence of statements in a function, including the bodies of ifs and loops."""
    for node in ast.walk(function):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                yield block


def _fills(code: Sequence[int], block: Sequence[ast.stmt]) -> bool:
    """Return whether lines of code are exactly one or more successive statements of a block."""
    spans = [(_start(statement), _end(statement) - 1) for statement in block]
    spans = [(first, last) for first, last in spans if first in code and last in code]
    return bool(spans) and (spans[0][0], spans[-1][1]) == (code[0], code[-1])
