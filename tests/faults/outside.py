"""The outside world: a file that tools and steps append to, durably. What stands in it has happened."""

from __future__ import annotations

import os
from pathlib import Path


def note(path: str, line: str) -> None:
    """Let something happen. One write, so that lines of several processes never mix."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def happened(path: Path) -> list[list[str]]:
    """Return what has happened, in order, as lists of words."""
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []
