"""Inspects the source of an agent file without running it."""

from __future__ import annotations

import ast
import re
from collections import Counter, deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

_TODO = re.compile(r"^(\s*)#.*\bTODO\b")
_TODO_ABOVE_NONE = re.compile(r"#.*\bTODO\b.*\n\s*\w+ *= *None\b")
_RETURNS_NAMES = re.compile(r"^\s*return\s+[\w, ]+$")


def with_line_feeds(text: str) -> str:
    """Return text with all line endings converted to line feeds."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


@dataclass(frozen=True)
class AgentSource:
    """The source of an agent file, and the class in it that is judged."""

    text: str
    class_name: str

    @cached_property
    def methods(self) -> dict[str, ast.FunctionDef]:
        """The methods that the class defines, itself or in base classes in the same file.

        Raises:
            SyntaxError: If the file is not valid Python.
        """
        tree = ast.parse(with_line_feeds(self.text))
        classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
        found: dict[str, ast.FunctionDef] = {}
        waiting, seen = [self.class_name], set()
        while waiting:
            name = waiting.pop(0)
            if name in seen or name not in classes:
                continue
            seen.add(name)
            node = classes[name]
            for part in node.body:
                if isinstance(part, ast.FunctionDef):
                    found.setdefault(part.name, part)
            waiting += [base.id for base in node.bases if isinstance(base, ast.Name)]
        return found

    def placeholder(self, method: str) -> str:
        """Return the placeholder left in a method, with its line; empty if there is none.

        Placeholders are `...`, `NotImplementedError`, a body of `pass` alone, a TODO comment with
        no code below it, and `x = None` right below one.
        """
        node = self.methods.get(method)
        if node is None:
            return ""
        waiting: deque[tuple[ast.AST, bool]] = deque([(node, False)])
        while waiting:
            part, indexes = waiting.popleft()
            if isinstance(part, ast.Constant) and part.value is Ellipsis and not indexes:
                return f"`...` (line {part.lineno})"
            if isinstance(part, ast.Raise) and _raises_not_implemented(part):
                return f"`NotImplementedError` (line {part.lineno})"
            waiting.extend(_children(part, indexes=indexes))
        body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
        if all(isinstance(statement, ast.Pass) for statement in body):
            return f"no code (line {node.lineno})"
        return self._empty_todo(node) or self._none_below_todo(node)

    def _none_below_todo(self, node: ast.FunctionDef) -> str:
        """Return the first `x = None` right below a TODO comment, if x is set nowhere else."""
        lines = with_line_feeds(self.text).split("\n")
        own = "\n".join(lines[node.lineno - 1 : node.end_lineno])
        if not _TODO_ABOVE_NONE.search(own):
            return ""
        stored = Counter(
            part.id
            for part in ast.walk(node)
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
        )
        for part in ast.walk(node):
            if (
                isinstance(part, ast.Assign)
                and isinstance(part.value, ast.Constant)
                and part.value.value is None
                and _TODO.match(lines[part.lineno - 2])
                and all(isinstance(one, ast.Name) and stored[one.id] == 1 for one in part.targets)
            ):
                return f"`None` below a TODO (line {part.lineno})"
        return ""

    def _empty_todo(self, node: ast.FunctionDef) -> str:
        """Return the first TODO comment of a method with no code below it."""
        lines = with_line_feeds(self.text).split("\n")[: node.end_lineno]
        # Comments at the end of a body are not part of its node.
        for line in with_line_feeds(self.text).split("\n")[len(lines) :]:
            if line.strip() and (not line.lstrip().startswith("#") or _indent(line) == 0):
                break
            lines.append(line)
        for number, line in enumerate(lines[node.lineno :], node.lineno + 1):
            found = _TODO.match(line)
            if found is None:
                continue
            below = (text for text in lines[number:] if text.strip())
            code = next((text for text in below if not text.lstrip().startswith("#")), None)
            if code is None or _indent(code) < len(found[1]) or _RETURNS_NAMES.match(code):
                return f"a TODO without code (line {number})"
        return ""

    def reached(self, method: str) -> set[str]:
        """Return the methods that a method calls on `self` or `super()`, directly or not."""
        return reached_in([self], method) - {method}


def reached_in(sources: Sequence[AgentSource], method: str, more: Collection[str] = ()) -> set[str]:
    """Return the methods that a method calls, directly or not.

    Args:
        sources: A class and its parents, nearest first.
        method: One of their methods.
        more: Names of methods that are defined elsewhere, as in a mixin.
    """
    known = {name for source in sources for name in source.methods} | set(more)
    own = sources[0]
    found: set[str] = set()
    waiting = [method]
    while waiting:
        name = waiting.pop()
        for source in sources if name not in overridden_in(own) else [own]:
            if (node := source.methods.get(name)) is not None:
                fresh = _called(node, known) - found
                found |= fresh
                waiting += fresh
    return found


def overridden_in(source: AgentSource) -> set[str]:
    """Return the methods of a class that do not call a method of the same name."""
    return {name for name, node in source.methods.items() if name not in _called(node, {name})}


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _called(node: ast.FunctionDef, known: Collection[str]) -> set[str]:
    return {
        part.attr
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute)
        and (isinstance(part.value, ast.Name) or _is_super(part.value))
        and part.attr in known
    }


def _is_super(part: ast.AST) -> bool:
    return (
        isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id == "super"
    )


def _children(part: ast.AST, *, indexes: bool) -> Iterator[tuple[ast.AST, bool]]:
    """Yield a node's children, each with whether an ellipsis in it is an index or annotation."""
    harmless = (getattr(part, "slice", None), getattr(part, "annotation", None))
    for child in ast.iter_child_nodes(part):
        yield child, indexes or child in harmless


def _raises_not_implemented(part: ast.Raise) -> bool:
    raised = part.exc.func if isinstance(part.exc, ast.Call) else part.exc
    return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"
