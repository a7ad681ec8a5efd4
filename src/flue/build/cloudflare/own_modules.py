"""Which of Flue's own modules a Worker carries: all but those that only a computer of one's own can run.

Unused modules cost a Worker upload and nothing else: they are read when they are imported. So the list names what is
left out, and a test sees that nothing of it is imported on the way to a Worker's first answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PACKAGE = Path(__file__).parents[2]
LIBRARIAN = "models.librarian"
# Rooms and modules, without `flue.`; what lies below them is left out, too.
LEFT_OUT = (
    "__main__",
    "build",
    "cli",
    "dev",
    "sandboxes.bridge_sandbox",
    "sandboxes.channel",
    "sandboxes.fork_server",
    "sandboxes.isolated_engine",
    "sandboxes.local_sandbox",
    "sandboxes.process",
    "sandboxes.worker",
    "sandboxes.worker_pool",
    "sandboxes.worker_process",
    "sdk",
    "serve",
    "server.page",
    "stores.postgres",
    "stores.postgres_connection",
    "stores.postgres_driver",
    "stores.postgres_listen",
    "stores.sqlite",
    "stores.sqlite_backup",
    "stores.sqlite_file",
    "sync",
    "testing",
)


def own_modules(*, librarian: bool) -> Mapping[str, Path]:
    """Return the files by their paths below `python_modules`, sorted; the offline model only where it is used."""
    left_out = {*LEFT_OUT, *(() if librarian else (LIBRARIAN,))}
    return {
        path.relative_to(PACKAGE.parent).as_posix(): path
        for path in sorted(PACKAGE.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and not _dotted(path) & left_out
    }


def _dotted(path: Path) -> set[str]:
    """Return the names of a file's module and of all packages above it."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return {".".join(parts[: count + 1]) for count in range(len(parts))}
