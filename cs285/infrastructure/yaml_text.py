"""The package's only YAML reader, safe for files from anyone."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from cs285.infrastructure.errors import UserError, suggestion

MAX_BYTES = 50_000
"""Larger files are not configs; a file of this size is read within a second."""

MAX_DIGITS = 100
"""Longer integers are not settings."""

_PLAIN_LINE = re.compile(r"\w+: [^\[{&*!|>\s].*|  [^\s].*")
"""`key: value`, or the continuation of a value that was too long for one line."""

_shortened = reprlib.Repr()
_shortened.maxstring = 80
_shortened.maxlevel = 2


class InvalidYamlError(ValueError):
    """A text that is not a mapping of settings in plain YAML; the message says why."""


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads `3e-4` as a number and refuses duplicate keys."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {shorten(key)} is given twice", key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        # Python refuses to print integers of thousands of digits.
        if len(node.value) > MAX_DIGITS:
            raise yaml.constructor.ConstructorError(
                None, None, f"a number of more than {MAX_DIGITS} digits", node.start_mark
            )
        value: int = super().construct_yaml_int(node)
        return value


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


class _LoaderWithoutAliases(_Loader):
    """Refuses aliases, which can expand to more than fits into memory."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias")
        return super().compose_node(parent, index)


def read_yaml(path: Path, *, what: str = "config", aliases: bool = True) -> dict[str, Any]:
    """Read a mapping from a YAML file.

    Args:
        path: The file.
        what: What the file should be, for the error message.
        aliases: Whether the file may use aliases. Refuse them in files that programs write.

    Raises:
        UserError: If the file cannot be read or does not contain a mapping.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        others = [other.name for other in path.parent.glob("*.yaml")]
        raise UserError(f"{path}: no such {what} file{suggestion(path.name, others)}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        return parse_yaml(content, what=what, aliases=aliases)
    except InvalidYamlError as error:
        raise UserError(f"{path}: {error}") from error.__cause__


def parse_yaml(
    content: bytes, *, what: str = "config", aliases: bool = True, plain: bool = False
) -> dict[str, Any]:
    """Return the mapping in a YAML text.

    Args:
        content: The text in UTF-8.
        what: What the text should be, for the error message.
        aliases: Whether the text may use aliases.
        plain: Whether all lines must read `key: value`. Nested, tagged or repeated values can keep
            PyYAML busy for minutes.

    Raises:
        InvalidYamlError: If it does not contain a mapping.
    """
    if len(content) > MAX_BYTES:
        raise InvalidYamlError(f"larger than {MAX_BYTES:,} bytes, so not a {what}")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidYamlError("is not UTF-8 text, so not a YAML file") from None
    if plain and not all(map(_PLAIN_LINE.fullmatch, text.splitlines())):
        raise InvalidYamlError("is not a plain list of settings")
    try:
        values = yaml.load(text, _Loader if aliases else _LoaderWithoutAliases)  # noqa: S506 - both are SafeLoaders
    except yaml.YAMLError as error:
        raise InvalidYamlError(_yaml_problem(error)) from None
    except Exception as error:
        # PyYAML raises many kinds of errors on values that contradict their tags.
        raise InvalidYamlError(
            f"has a value that contradicts its tag or is nested too deeply: {repr(error)[:80]}"
        ) from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        example = ", such as `base_config: cql`" if what == "config" else ""
        raise InvalidYamlError(f"must hold `key: value` lines{example}")
    return values


def compose_yaml(text: str) -> yaml.Node | None:
    """Return only the structure of YAML, without constructing its values and tags.

    Raises:
        InvalidYamlError: If it is not valid; the message says where.
    """
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # thirty times as fast
    try:
        root: yaml.Node | None = yaml.compose(text, Loader=loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        raise InvalidYamlError(f"line {where.line + 1}" if where else "") from error
    return root


def shorten(value: object) -> str:
    """Return a short form of a value; one line of aliases can hold billions of nested items."""
    return _shortened.repr(value)


def _yaml_problem(error: yaml.YAMLError) -> str:
    """Return one line that says why a text is not plain YAML, and where."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return "is not YAML: " + " ".join(str(error).split())
    mark = error.problem_mark or error.context_mark
    match error.problem:
        case "found character '\\t' that cannot start any token":
            problem = "a tab; indent with spaces"
        case "could not find expected ':'":
            mark = error.context_mark or mark  # where the key without a colon begins
            problem = "a colon is missing; lines read `key: value`"
        case "mapping values are not allowed here":
            problem = "a colon too many, or none in the line before; lines read `key: value`"
        case _:
            problem = ", ".join(filter(None, (error.context, error.problem)))[:300]
            problem += "; only plain YAML values are read"
    return f"line {mark.line + 1}: {problem}" if mark else problem
