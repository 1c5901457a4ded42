"""No branch of the package reads English: types, enums and attributes decide."""

import ast
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import pytest

import cs285

PACKAGE = Path(next(iter(cs285.__path__)))
SEARCHES = {
    "startswith", "endswith", "find", "rfind", "index", "count", "removeprefix", "removesuffix",
    "partition", "rpartition", "search", "match", "fullmatch", "findall",
}  # fmt: skip
"""Methods, and functions of `re`, that look for a text in another one."""


def handled(tree: ast.AST) -> Iterator[tuple[str, ast.ExceptHandler]]:
    """Yields the handlers of exceptions that give the exception a name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name, node


def is_message(node: ast.AST, name: str) -> bool:
    """Whether an expression is the message of the exception of this name."""
    match node:
        case ast.Call(ast.Name("str" | "repr"), [ast.Name(found)]):
            return found == name
        case ast.Subscript(ast.Attribute(ast.Name(found), "args")):
            return found == name
        case ast.Attribute(ast.Name(found), "message" | "msg" | "strerror"):
            return found == name
        case ast.JoinedStr(parts):
            return any(
                isinstance(part, ast.FormattedValue)
                and isinstance(part.value, ast.Name)
                and part.value.id == name
                for part in parts
            )
    return False


def is_english(node: ast.AST) -> bool:
    """Whether an expression is a literal of several words, or a collection with one."""
    match node:
        case ast.Constant(str(text)):
            words = text.split()
            return len(words) > 1 and all(any(c.isalpha() for c in word) for word in words[:2])
        case ast.JoinedStr(parts):
            texts = [str(part.value) for part in parts if isinstance(part, ast.Constant)]
            return is_english(ast.Constant("".join(texts)))
        case ast.Tuple(parts) | ast.List(parts) | ast.Set(parts):
            return any(map(is_english, parts))
    return False


def compared(node: ast.AST) -> list[ast.AST]:
    """The texts that an expression compares or searches, with what it looks for."""
    match node:
        case ast.Compare(left, ops, others):
            if any(isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for op in ops):
                return [left, *others]
        case ast.Call(ast.Attribute(owner, method), arguments) if method in SEARCHES:
            return [owner, *arguments]
        case ast.match_case(ast.MatchValue(value)):
            return [value]
    return []


def sentences_in_loops(tree: ast.AST) -> set[str]:
    """The variables of loops over English literals."""
    return {
        node.target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.comprehension | ast.For)
        and isinstance(node.target, ast.Name)
        and is_english(node.iter)
    }


def sentences_of_modules(trees: Iterable[ast.Module]) -> set[str]:
    """The constants of modules that hold English."""
    return {
        target.id
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and is_english(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def decisions_by_text(tree: ast.AST, constants: Collection[str] = ()) -> list[int]:
    """Lines in which a program compares or searches a message, or looks for English.

    Args:
        tree: The program.
        constants: Names of constants that hold English, its own or another module's.
    """
    names = sentences_in_loops(tree) | set(constants)
    found = [
        part.lineno
        for node in ast.walk(tree)
        for part in compared(node)
        if is_english(part) or (isinstance(part, ast.Name) and part.id in names)
    ]
    for name, handler in handled(tree):
        for node in ast.walk(handler):
            found += [part.lineno for part in compared(node) if is_message(part, name)]
    return sorted(set(found))


@pytest.mark.parametrize(
    "text",
    [
        "if 'processor time' in text: pass",
        "x = any(one in texts for one in ('come to an end', 'ended')) ",
        "while verdict == 'not judged': pass",
        "if verdict in ('correct', 'accepted variant'): pass",
        "[f for f in findings if f.text.startswith('not judged:')]",
        "if message.endswith(f\"no attribute '{method}'\"): pass",
        "match reason:\n    case 'took too long': pass",
        "try: f()\nexcept OSError as e:\n    if 'disk' in str(e): raise",
        "try: f()\nexcept OSError as e:\n    if e.args[0] == 'disk': raise",
        "try: f()\nexcept OSError as e:\n    if f'{e}'.startswith('No'): raise",
        "import re\ntry: f()\nexcept OSError as e:\n    if re.search('disk', str(e)): raise",
        "try: f()\nexcept OSError as e:\n    x = str(e).removeprefix('error: ')",
    ],
)
def test_a_decision_by_text_is_seen(text):
    assert decisions_by_text(ast.parse(text))


@pytest.mark.parametrize(
    "text",
    [
        "if verdict is Verdict.WRONG: say('this is wrong')",
        "if kind == 'array' or name in {'online', 'target'}: pass",
        "try: f()\nexcept OSError as e:\n    if e.errno == 28: print(f'no space left: {e}')",
        "try: f()\nexcept OSError as e: raise UserError(str(e)) from e",
        "if path.name.startswith('events.out'): pass",
        "x = {'two words': 1}['two words']",
    ],
)
def test_decisions_by_types_and_names_are_accepted(text):
    assert not decisions_by_text(ast.parse(text))


def test_a_constant_that_holds_a_message_decides_nothing():
    tree = ast.parse(
        "AVERAGED = 'is an average of samples'\nx = [True] if AVERAGED in said else []"
    )
    assert decisions_by_text(tree, sentences_of_modules([tree])) == [2]


TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}
CONSTANTS = sentences_of_modules(TREES.values())
TRANSLATED = {
    "scripts/training_flags.py": "argparse names the flag, which the message of `--log` does, too",
    "infrastructure/yaml_text.py": "PyYAML has no types for its problems: their texts are replaced",
    "grading/solutions/judging.py": "PyTorch has no type for a loss without a graph",
}
"""Files that search messages, and why they must."""


@pytest.mark.parametrize(
    "path", sorted(TREES), ids=lambda path: path.relative_to(PACKAGE).as_posix()
)
def test_no_text_decides(path):
    found = decisions_by_text(TREES[path], CONSTANTS)
    assert bool(found) == (path.relative_to(PACKAGE).as_posix() in TRANSLATED), found
