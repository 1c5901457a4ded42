"""Turns Python text into tokens that stay the same when names, comments and layout change."""

from __future__ import annotations

import hashlib
import io
import keyword
import re
import tokenize
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]

GRAM = 14
"""Number of successive tokens compared as one: about two lines. Fewer match by chance."""
_SKIPPED = {tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER}
_LAYOUT = {tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
_PLAIN = re.compile(
    r"(?P<comment>#[^\n]*)|(?P<string>'[^'\n]*'|\"[^\"\n]*\")|(?P<name>[^\W\d]\w*)"
    r"|(?P<number>\d[\w.]*)|(?P<newline>\n)|(?P<other>[^\s\w])"
)
"""Matches the pieces of a text that is not valid Python."""
_NAME, _TEXT = "", "''"
_MULTIPLIERS = np.random.default_rng(20_031).integers(1, 2**63, GRAM, dtype=np.uint64) * np.uint64(
    2
) + np.uint64(1)


class Token(NamedTuple):
    """A token that is compared."""

    kind: int
    text: str
    line: int


class Tokens(NamedTuple):
    """A text as numbers, one for each token that is compared."""

    codes: Hashes
    """A hash of each token, shape (N,); all names that can be renamed have the same hash."""
    since: Indices
    """Tokens since the last use of the same name, shape (N,); 0 at first use and for non-names."""
    lines: Indices
    """The line of each token, counted from 1, shape (N,)."""


def read_tokens(text: str) -> Tokens:
    """Return the tokens of a Python text; if it is not valid Python, its words and symbols."""
    try:
        tokens = list(_statements(_python_tokens(text)))
    except (tokenize.TokenError, SyntaxError, ValueError, RecursionError):
        tokens = list(_plain_tokens(text))
    codes, since, lines = [], [], []
    used: dict[str, int] = {}
    before = Token(tokenize.OP, "", 0), Token(tokenize.OP, "", 0)
    for place, token in enumerate(tokens):
        word = _normalized(token, *before)
        codes.append(_code(word))
        since.append(place - used.get(token.text, place) if word == _NAME else 0)
        lines.append(token.line)
        if word == _NAME:
            used[token.text] = place
        before = before[1], token
    return Tokens(
        np.array(codes, dtype=np.uint64),
        np.array(since, dtype=np.int64),
        np.array(lines, dtype=np.int64),
    )


def _python_tokens(text: str) -> Iterator[Token]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _SKIPPED:
            yield Token(token.type, token.string, token.start[0])


def _statements(tokens: Iterable[Token]) -> Iterator[Token]:
    """Yield tokens without imports and standalone strings such as docstrings."""
    statement: list[Token] = []
    for token in tokens:
        if token.kind in {tokenize.INDENT, tokenize.DEDENT}:
            yield token
            continue
        statement.append(token)
        if token.kind == tokenize.NEWLINE:
            if statement[0].text not in {"import", "from"} and any(
                one.kind not in {tokenize.STRING, tokenize.NEWLINE} for one in statement
            ):
                yield from statement
            statement = []
    yield from statement


def _plain_tokens(text: str) -> Iterator[Token]:
    line = 1
    kinds = {"name": tokenize.NAME, "number": tokenize.NUMBER, "string": tokenize.STRING}
    for found in _PLAIN.finditer(text):
        kind = found.lastgroup or ""
        if kind == "newline":
            line += 1
            yield Token(tokenize.NEWLINE, "", line - 1)
        elif kind != "comment":
            yield Token(kinds.get(kind, tokenize.OP), found[0], line)


def _normalized(token: Token, before_last: Token, last: Token) -> str:
    """Return a form of a token that does not depend on any name its author can change.

    Args:
        token: The token.
        before_last: The last token but one before it.
        last: The last token before it.
    """
    if token.kind in _LAYOUT:
        return tokenize.tok_name[token.kind]
    if token.kind == tokenize.STRING:
        return _TEXT
    if token.kind != tokenize.NAME or keyword.iskeyword(token.text):
        return token.text
    # `torch.gather` cannot be renamed, `self.critic` can.
    is_fixed = last.text == "." and before_last.text != "self"
    return token.text if is_fixed else _NAME


@lru_cache(maxsize=100_000)
def _code(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest())


def grams(tokens: Tokens) -> Hashes:
    """Return a hash of every `GRAM` successive tokens, shape (N - GRAM + 1,).

    A name is represented by the number of tokens since its last use among them (Baker 1995,
    "Parameterized pattern matching"), so `a * b + a` and `x * y + x` are equal, and `a * b + c`
    is different.
    """
    count = len(tokens.codes) - GRAM + 1
    if count < 1:
        return np.array([], dtype=np.uint64)
    codes = np.lib.stride_tricks.sliding_window_view(tokens.codes, GRAM)
    since = np.lib.stride_tricks.sliding_window_view(tokens.since, GRAM)
    within = np.where(since <= np.arange(GRAM), since, 0).astype(np.uint64)
    mixed = _mixed(codes + within * np.uint64(0x9E3779B97F4A7C15))
    return _mixed((mixed * _MULTIPLIERS).sum(axis=1, dtype=np.uint64))


def _mixed(numbers: Hashes) -> Hashes:
    """Return numbers with their bits mixed (the finaliser of SplitMix64)."""
    mixed = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
