"""What the tests see of processes, on Linux."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

DEADLINE = 10.0


def children(pid: int) -> list[int]:
    """Return the processes that a process has started and not reaped."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found += [int(child) for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def fork_servers() -> list[int]:
    """Return the fork servers of this process."""
    return [child for child in children(os.getpid()) if "sandboxes/worker" in command_line(child)]


def workers() -> list[int]:
    """Return the workers of this process."""
    return [worker for server in fork_servers() for worker in children(server)]


def command_line(pid: int) -> str:
    """Return a process's arguments; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def alive(pid: int) -> bool:
    """Say whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        await asyncio.sleep(0.01)
