"""The one reader of YAML files."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from cs285.infrastructure.errors import UserError, suggestion

MAX_BYTES = 50_000
"""A file beyond this size is not a config; what fits is read within a second."""


MAX_DIGITS = 100
"""A longer whole number is not a setting."""


_shortened = reprlib.Repr()
_shortened.maxstring = 80
_shortened.maxlevel = 2


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads `3e-4` as a number and refuses a key that is given twice."""

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
        # Python refuses to print whole numbers of thousands of digits.
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


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from a YAML file."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UserError(f"{path}: larger than {MAX_BYTES:,} bytes, so not a config")
        text = content.decode("utf-8")
    except FileNotFoundError:
        beside = [other.name for other in path.parent.glob("*.yaml")]
        raise UserError(f"{path}: no such config file{suggestion(path.name, beside)}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text, so not a YAML file") from None
    try:
        values = yaml.load(text, _Loader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.YAMLError as error:
        raise UserError(f"{path}: {yaml_problem(error)}") from None
    except Exception as error:
        # PyYAML raises errors of many kinds on such values.
        raise UserError(
            f"{path}: has a value that contradicts its tag or is nested too deeply: "
            f"{repr(error)[:80]}"
        ) from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"{path}: must hold `key: value` lines, such as `base_config: cql`")
    return values


def shorten(value: object) -> str:
    """Show any value in a few words: aliases nest lists of billions of items in a line of YAML."""
    return _shortened.repr(value)


def yaml_problem(error: yaml.YAMLError) -> str:
    """Say in one line what keeps a text from being plain YAML, and in which line of it."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return "is not YAML: " + " ".join(str(error).split())
    mark = error.problem_mark or error.context_mark
    match error.problem:
        case "found character '\\t' that cannot start any token":
            problem = "a tab; indent with spaces"
        case "could not find expected ':'":
            mark = error.context_mark or mark  # where the key begins that has no colon
            problem = "a colon is missing; lines read `key: value`"
        case "mapping values are not allowed here":
            problem = "a colon too many, or none in the line before; lines read `key: value`"
        case _:
            problem = ", ".join(filter(None, (error.context, error.problem)))[:300]
            problem += "; only plain YAML values are read"
    return f"line {mark.line + 1}: {problem}" if mark else problem
