"""Quoting for POSIX shells (`shlex` reaches for the operating system, which the core must not)."""

from __future__ import annotations


def quote(text: str) -> str:
    """Return the text as one shell word, whatever it contains."""
    return "'" + text.replace("'", "'\\''") + "'"
