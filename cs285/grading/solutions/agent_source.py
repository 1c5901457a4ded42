"""Inspects the text of an agent file without running it."""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class AgentSource:
    """The text of an agent file, and the class in it that is judged."""

    text: str
    class_name: str

    @cached_property
    def methods(self) -> dict[str, ast.FunctionDef]:
        """The methods that the class itself defines.

        Raises:
            SyntaxError: If the file is not valid Python.
        """
        for node in ast.walk(ast.parse(self.text)):
            if isinstance(node, ast.ClassDef) and node.name == self.class_name:
                return {f.name: f for f in node.body if isinstance(f, ast.FunctionDef)}
        return {}

    def placeholder(self, method: str) -> str:
        """Return the placeholder left in a method: `...`, `NotImplementedError` or nothing."""
        node = self.methods.get(method)
        if node is None:
            return ""
        waiting: deque[tuple[ast.AST, bool]] = deque([(node, False)])
        while waiting:
            part, indexes = waiting.popleft()
            if isinstance(part, ast.Constant) and part.value is Ellipsis and not indexes:
                return "..."
            if isinstance(part, ast.Raise) and _raises_not_implemented(part):
                return "NotImplementedError"
            waiting.extend(_children(part, indexes=indexes))
        return ""

    def todo(self, method: str) -> bool:
        """Return whether a method still contains a TODO."""
        node = self.methods.get(method)
        if node is None:
            return False
        lines = self.text.splitlines()[node.lineno - 1 : node.end_lineno]
        return any("TODO" in line for line in lines)


def _children(part: ast.AST, *, indexes: bool) -> Iterator[tuple[ast.AST, bool]]:
    """Yield a node's children, and whether an ellipsis in each would be an index or annotation."""
    harmless = (getattr(part, "slice", None), getattr(part, "annotation", None))
    for child in ast.iter_child_nodes(part):
        yield child, indexes or child in harmless


def _raises_not_implemented(part: ast.Raise) -> bool:
    raised = part.exc.func if isinstance(part.exc, ast.Call) else part.exc
    return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"
