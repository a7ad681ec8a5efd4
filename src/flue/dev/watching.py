"""Notices changed files by looking: which they are, their size, and when they were written.

Looking works where notifications do not (network and container mounts), needs no package, and is cheap enough: 50 files
cost 0.2 ms. Folders with thousands of files are looked through less often, so that looking takes 5 % of one core at
most; the Python files in them are looked at every time.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

LOOK_SECONDS = 0.1
REST_SECONDS = 0.05
"""For so long files must have been the same before they are read: editors and git write several in a row."""

_MAX_SETTLING = 20
_SHARE = 20
_IGNORED_FOLDERS = {"node_modules", "__pycache__"}
_IGNORED_FILES = ("*~", "*.swp", "*.swx", "*.swo", "*.pyc", "4913")

Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Watched:
    """What to look at: folders with all that is in them, and single files, which need not exist.

    Left out are `ignored` folders, names that begin with a dot, virtual environments, `node_modules`, and what editors
    write beside a file.
    """

    folders: Sequence[Path] = ()
    files: Sequence[Path] = ()
    ignored: Sequence[Path] = ()


class Watcher:
    """Looks at what `watched` returns, which is asked anew each time."""

    def __init__(self, watched: Callable[[], Watched]) -> None:
        self._watched = watched
        self._seen: dict[str, Stamp] = self._scan()

    async def changes(self) -> AsyncIterator[list[Path]]:
        """Yield the files that were written, made or removed since the last time, sorted, once they are at rest."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = await asyncio.to_thread(self._look)
            if now == self._seen:
                continue
            for _ in range(_MAX_SETTLING):
                await asyncio.sleep(REST_SECONDS)
                again = await asyncio.to_thread(self._scan)
                if again == now:
                    break
                now = again
            before, self._seen = self._seen, now
            changed = {path for path in before.keys() | now.keys() if before.get(path) != now.get(path)}
            if changed:
                yield sorted(map(Path, changed))

    def _look(self) -> dict[str, Stamp]:
        if time.monotonic() >= self._due or any(_stamp(path) != self._seen[path] for path in self._quick):
            return self._scan()
        return self._seen

    def _scan(self) -> dict[str, Stamp]:
        began = time.monotonic()
        watched = self._watched()
        ignored = {str(path) for path in watched.ignored}
        found: dict[str, Stamp] = {}
        for folder in watched.folders:
            _walk(str(folder), ignored, found)
        for file in watched.files:
            if (stamp := _stamp(str(file))) is not None:
                found[str(file)] = stamp
        ended = time.monotonic()
        self._quick = [path for path in found if path.endswith(".py")]
        self._due = ended + (ended - began) * _SHARE
        return found


def _walk(folder: str, ignored: set[str], found: dict[str, Stamp]) -> None:
    folders = [folder]
    while folders:
        try:
            entries = list(os.scandir(folders.pop()))
        except OSError:  # gone, or not for us to read
            continue
        if any(entry.name == "pyvenv.cfg" for entry in entries):
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.path in ignored:
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in _IGNORED_FOLDERS:
                        folders.append(entry.path)
                elif not any(fnmatch(entry.name, pattern) for pattern in _IGNORED_FILES):
                    found[entry.path] = _stamp_of(entry.stat())
            except OSError:  # gone meanwhile, or a link to nowhere
                continue


def _stamp(path: str) -> Stamp | None:
    try:
        return _stamp_of(os.stat(path))  # noqa: PTH116 - thousands of times, and Path is slow
    except OSError:
        return None


def _stamp_of(status: os.stat_result) -> Stamp:
    return status.st_mtime_ns, status.st_size, status.st_ino
