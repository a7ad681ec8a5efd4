"""Regular expressions from JSON Schemas, searched only where that surely ends soon.

Python's `re` backtracks: a pattern such as `(a+)+$` takes time that doubles with every character. Schemas come from
tool authors and MCP servers, texts from models, and a search cannot be interrupted, so its cost is estimated first.
"""

from __future__ import annotations

import re

MAX_PATTERN = 1_000
"""Characters of the longest pattern that is used."""

_MAX_COST = 10_000_000
_PIECE = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{\d*,?\d*\}|\(\??|[)|*+?]|.", re.DOTALL)
_FIXED = re.compile(r"\{\d+\}|\?")


def misses(pattern: str, text: str) -> bool:
    """Say whether `pattern` is found nowhere in `text`.

    False, meaning no objection, when the pattern is not one of Python's, or the search could take too long.
    """
    if len(pattern) > MAX_PATTERN or _cost(pattern, len(text)) > _MAX_COST:
        return False
    try:
        return re.search(pattern, text) is None
    except (re.error, OverflowError, RecursionError, Warning):
        return False


def _cost(pattern: str, length: int) -> float:
    """Return an upper estimate of the steps of a search: the start positions times the ways to match from each."""
    loops, nested, choices = _shape(pattern)
    if nested:
        # Every character may end a repetition, or choose an alternative, or not.
        return float(min(choices + 2, 64)) ** min(length, 64)
    starts = 0 if pattern.startswith("^") else 1
    return float(length + 1) ** min(loops + starts, 8)


def _shape(pattern: str) -> tuple[int, bool, int]:
    """Return how many loops a pattern has, whether one repeats a group that branches, and how many alternatives."""
    loops = choices = 0
    nested = False
    branching = [False]  # For every open group: can it match the same text in several ways?
    closed = False  # The same, of a group that ended just before.
    for piece in _PIECE.findall(pattern):
        repeats, closed = closed, False
        if piece[0] == "(":
            branching.append(False)
        elif piece == ")" and len(branching) > 1:
            closed = branching.pop()
            branching[-1] |= closed
        elif piece == "|":
            choices += 1
            branching[-1] = True
        elif piece in ("*", "+", "?") or (piece[0] == "{" and len(piece) > 2):
            fixed = _FIXED.fullmatch(piece) is not None
            loops += not fixed
            nested |= repeats and piece != "?"
            branching[-1] |= not fixed or piece == "?"
    return loops, nested, choices
