"""Texts as Postgres can keep them: without NUL."""

from __future__ import annotations

from typing import Any

# Escaped like this, texts keep their order and their prefixes.
_ESCAPES = (("\x01", "\x01\x02"), ("\x00", "\x01\x01"))


def escape(value: Any) -> Any:
    """Return a value as it is kept."""
    if isinstance(value, str) and ("\x00" in value or "\x01" in value):
        for character, escaped in _ESCAPES:
            value = value.replace(character, escaped)
    return value


def restore(row: Any) -> Any:
    """Return a row, or None, with its texts as they were given."""
    if row is None or not any(isinstance(value, str) and "\x01" in value for value in row):
        return row
    return tuple(_unescape(value) if isinstance(value, str) else value for value in row)


def _unescape(value: str) -> str:
    return value.replace("\x01\x01", "\x00").replace("\x01\x02", "\x01")
