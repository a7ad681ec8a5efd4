"""How much of a text a model is shown: whole lines up to a limit, and never half a character."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MAX_LINES = 2_000
"""Lines that `read` and `bash` show at most."""

MAX_BYTES = 50 * 1024
"""Bytes of UTF-8 that `read` and `bash` show at most."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The part of a text that is shown: `lines` whole lines of it, or with `cut` a part of a single line."""

    text: str
    lines: int
    cut: bool = False


def first_lines(lines: list[str]) -> Excerpt:
    """Return as many lines from the start as the limits allow; of an over-long first line its beginning."""
    count = _fitting(lines)
    if lines and not count:
        return Excerpt(cut_bytes(lines[0], MAX_BYTES), 1, cut=True)
    return Excerpt("\n".join(lines[:count]), count)


def last_lines(lines: list[str]) -> Excerpt:
    """Return as many lines from the end as the limits allow; of an over-long last line its end."""
    count = _fitting(reversed(lines))
    if lines and not count:
        return Excerpt(cut_bytes(lines[-1], MAX_BYTES, keep_end=True), 1, cut=True)
    return Excerpt("\n".join(lines[len(lines) - count :]), count)


def byte_length(text: str) -> int:
    """Return how many bytes the text has as UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", errors="replace"))


def cut_bytes(text: str, limit: int, *, keep_end: bool = False) -> str:
    """Return the beginning, or the end, of a text: whole characters, `limit` bytes at most."""
    encoded = text.encode("utf-8", errors="replace")
    if len(encoded) <= limit:
        return text
    part = encoded[len(encoded) - limit :] if keep_end else encoded[:limit]
    return part.decode("utf-8", errors="ignore")


def _fitting(lines: Iterable[str]) -> int:
    """Return how many of the lines fit both limits, newlines between them included."""
    count = 0
    size = -1
    for line in lines:
        size += 1 + byte_length(line)
        if count == MAX_LINES or size > MAX_BYTES:
            break
        count += 1
    return count
