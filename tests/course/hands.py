"""The same solution as different people write it, and as someone who hides a source rewrites it."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Mapping

import numpy as np

from tests.solutions.generator.combinations import Combination
from tests.solutions.generator.styles import CHOICES, Style, make_style

LEAST_NODES = 5
"""Minimum number of nodes of an expression that is worth naming."""
WORDS = [
    "batch",
    "bellman",
    "best",
    "bonus",
    "chosen",
    "current",
    "discounted",
    "estimate",
    "expected",
    "future",
    "gap",
    "greedy",
    "keep",
    "logit",
    "mask",
    "now",
    "old",
    "picked",
    "predicted",
    "raw",
    "real",
    "score",
    "side",
    "state",
    "taken",
    "target",
    "td",
    "term",
    "tmp",
    "total",
    "update",
    "use",
    "val",
    "weight",
]
REMARKS = (
    "check the shapes here", "see the handout", "same as in lecture", "this took me a while",
    "is this right?", "not differentiated", "per sample", "average over the batch", "as in DQN",
    "TODO clean up", "works now", "formula from the paper", "shape (B,)", "do not forget done",
)  # fmt: skip


def usual_style(rng: np.random.Generator, usual: float, **fixed: str) -> Style:
    """Draw a style; each choice has its most common value with this probability, or else any."""
    values = {
        choice: options[0] if rng.random() < usual else str(rng.choice(options))
        for choice, options in CHOICES.items()
    }
    return make_style({**values, "layout": "four_spaces", "newlines": "lf", **fixed})


def write_solution(style: Style, rng: np.random.Generator) -> dict[str, str]:
    """Return the files of a student with a style and personal habits."""
    habits = Habits.draw(rng)
    return {name: personal(text, habits, rng) for name, text in Combination(style).files().items()}


class Habits:
    """How often a student does something that changes a text but not what it computes."""

    def __init__(self, names: float, swaps: float, functions: float, remarks: float) -> None:
        self.names, self.swaps, self.functions, self.remarks = names, swaps, functions, remarks
        self.used: set[str] = set()

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Habits:
        """Return the habits of a student."""
        return cls(*rng.beta(1, 1.5, 3), rng.uniform(0, 0.3))

    def fresh_name(self, rng: np.random.Generator) -> str:
        """Return a name that was not used yet."""
        name = f"{rng.choice(WORDS)}_{rng.choice(WORDS)}"
        while name in self.used:
            name += f"_{rng.choice(WORDS)}"
        self.used.add(name)
        return name


def personal(text: str, habits: Habits, rng: np.random.Generator) -> str:
    """Return a file as a student with these habits writes it."""
    tree = ast.parse(text)
    _Rephrased(habits, rng).visit(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.body = [new for old in node.body for new in _with_names(old, habits, rng)]
    return with_remarks(ast.unparse(ast.fix_missing_locations(tree)), habits.remarks, rng)


class _Rephrased(ast.NodeTransformer):
    """Swaps operands that commute, and turns methods of tensors into functions or vice versa."""

    METHODS = frozenset({"mean", "sum", "exp", "square", "logsumexp", "detach"})

    def __init__(self, habits: Habits, rng: np.random.Generator) -> None:
        self.habits, self.rng = habits, rng

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        plain = not any(isinstance(one, ast.Constant | ast.List) for one in ast.walk(node))
        commutes = isinstance(node.op, ast.Add | ast.Mult) and plain
        if commutes and self.rng.random() < self.habits.swaps:
            node.left, node.right = node.right, node.left
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        match node.func:
            case ast.Attribute(ast.Name("torch"), name) if name in self.METHODS and node.args:
                if self.rng.random() < self.habits.functions:
                    first, *rest = node.args
                    return ast.Call(ast.Attribute(first, name, ast.Load()), rest, node.keywords)
        return node


def _expressions(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
    """Yield the places of the parts of an expression that are always computed."""
    if isinstance(node, ast.IfExp | ast.BoolOp | ast.Lambda | ast.ListComp | ast.GeneratorExp):
        return
    if isinstance(node, ast.DictComp | ast.SetComp | ast.JoinedStr):
        return
    for name, value in ast.iter_fields(node):
        parts = enumerate(value) if isinstance(value, list) else [(None, value)]
        for place, part in parts:
            if isinstance(part, ast.keyword):
                yield part, "value", None
                yield from _expressions(part.value)
            elif isinstance(part, ast.expr) and name != "func":
                yield node, name, place
                yield from _expressions(part)
            elif isinstance(part, ast.Attribute):
                yield from _expressions(part)


def _with_names(
    statement: ast.stmt, habits: Habits, rng: np.random.Generator
) -> Iterator[ast.stmt]:
    """Yield a statement, preceded by others that name parts of it."""
    if not isinstance(statement, ast.Assign | ast.Return) or statement.value is None:
        for field in ("body", "orelse"):
            if isinstance(block := getattr(statement, field, None), list):
                block[:] = [new for old in block for new in _with_names(old, habits, rng)]
        yield statement
        return
    holder = ast.Expr(statement.value)
    for _ in range(3):
        places = [
            (node, name, place)
            for node, name, place in _expressions(holder)
            if node is not holder and _is_worth(_part(node, name, place))
        ]
        if not places or rng.random() >= habits.names:
            break
        node, name, place = places[rng.integers(len(places))]
        part = _part(node, name, place)
        own = habits.fresh_name(rng)
        new = ast.Name(own, ast.Load())
        if place is None:
            setattr(node, name, new)
        else:
            getattr(node, name)[place] = new
        yield ast.Assign([ast.Name(own, ast.Store())], part, lineno=0)
    statement.value = holder.value
    yield statement


def _part(node: ast.AST, name: str, place: int | None) -> ast.expr:
    found = getattr(node, name)
    return found if place is None else found[place]


def _is_worth(part: ast.expr) -> bool:
    calculates = isinstance(part, ast.Call | ast.BinOp | ast.Subscript | ast.UnaryOp)
    return calculates and sum(1 for _ in ast.walk(part)) >= LEAST_NODES


def with_remarks(text: str, often: float, rng: np.random.Generator) -> str:
    """Return a text with comments at the ends of lines."""
    lines = [
        f"{line}  # {rng.choice(REMARKS)}" if line.strip() and rng.random() < often else line
        for line in text.splitlines()
    ]
    return "\n".join([*lines, ""])


# Disguise

KEPT_ARGUMENTS = {"self", "__init__", "update", "get_action"}


def disguised(
    files: Mapping[str, str], rng: np.random.Generator, *, reorder: bool = True
) -> dict[str, str]:
    """Return files with different names, comments and, mostly, a different order of methods."""
    trees = {name: ast.parse(text) for name, text in files.items()}
    new: dict[str, str] = {}
    for tree in trees.values():
        for name in sorted(_own_names(tree)):
            new.setdefault(name, f"{rng.choice(WORDS)}{len(new)}")
    result = {}
    for name, tree in trees.items():
        _Renamed(new).visit(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and reorder:
                node.body = [node.body[place] for place in rng.permutation(len(node.body))]
        result[name] = with_remarks(ast.unparse(tree), 0.3, rng)
    return result


def _own_names(tree: ast.Module) -> set[str]:
    """Return the names of variables and arguments that can change without any effect."""
    own = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name not in KEPT_ARGUMENTS:
            own |= {argument.arg for argument in node.args.args}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name in KEPT_ARGUMENTS:
            every = [*node.args.args, *node.args.kwonlyargs, node.args.kwarg, node.args.vararg]
            own -= {argument.arg for argument in every if argument}
        if isinstance(node, ast.keyword) and node.arg:
            own.discard(node.arg)
    return own - KEPT_ARGUMENTS


class _Renamed(ast.NodeTransformer):
    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self.names.get(node.id, node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        self.generic_visit(node)
        node.arg = self.names.get(node.arg, node.arg)
        return node


def with_methods(target: str, source: str, methods: tuple[str, ...]) -> str:
    """Return a file with some methods of its first class replaced by those of another file."""
    tree, other = ast.parse(target), ast.parse(source)
    mine, theirs = (
        next(node for node in one.body if isinstance(node, ast.ClassDef)) for one in (tree, other)
    )
    taken = {
        node.name: copy.deepcopy(node)
        for node in theirs.body
        if isinstance(node, ast.FunctionDef) and node.name in methods
    }
    mine.body = [taken.pop(getattr(node, "name", ""), node) for node in mine.body]
    mine.body += taken.values()
    return f"{ast.unparse(tree)}\n"
