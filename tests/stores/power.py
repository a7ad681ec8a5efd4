"""Power cuts: what a disk may hold when the power fails at any moment of a recorded session.

What was synced is there. Of what was written since, any part may be: whole writes, single sectors of a write, none,
later ones without earlier ones. A new or deleted name lasts once its directory has been synced.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.stores.disk import Operation

Fate = Literal["kept", "lost", "last torn", "mixed"]
FATES: tuple[Fate, ...] = ("kept", "lost", "last torn", "mixed")
"""What happens to what is not synced: all of it is there, none, all but a part of the last write, or any part."""
_SECTOR = 512
_NO_CHANCE = random.Random(0)  # noqa: S311  (of what is kept nothing is left to chance)


def chances(seed: str) -> random.Random:
    """Return what decides a cut, the same for the same seed."""
    return random.Random(seed)  # noqa: S311  (which is the point)


@dataclass(slots=True, eq=False)
class _File:
    """A file by identity, whatever its name: its synced content, and what was done since."""

    synced: bytearray = field(default_factory=bytearray)
    since: list[Operation] = field(default_factory=list)
    is_new: bool = True

    def sync(self) -> None:
        self.synced = self.after("kept", None, _NO_CHANCE)
        self.since.clear()

    def after(self, fate: Fate, last: Operation | None, chance: random.Random) -> bytearray:
        content = bytearray(self.synced)
        for operation in self.since:
            torn = fate == "mixed" or (fate == "last torn" and operation is last)
            if fate != "lost":
                _apply(content, operation, chance if torn else None)
        return content


def _apply(content: bytearray, operation: Operation, chance: random.Random | None) -> None:
    """Carry out a write or a truncation; with `chance` any of its sectors, or none."""
    if operation.kind == "truncate":
        if chance is None or chance.random() < 0.5:
            del content[operation.size :]
            content.extend(bytes(operation.size - len(content)))
        return
    position, end = operation.offset, operation.offset + len(operation.data)
    while position < end:
        sector_end = min(end, (position // _SECTOR + 1) * _SECTOR)
        if chance is None or chance.random() < 0.5:
            content.extend(bytes(max(0, sector_end - len(content))))
            content[position:sector_end] = operation.data[position - operation.offset : sector_end - operation.offset]
        position = sector_end


class Replay:
    """Carries out a trace one operation at a time, and writes what a cut would leave into a directory."""

    def __init__(self, trace: list[Operation]) -> None:
        self._trace = trace
        self._names: dict[str, _File] = {}
        self._renames: list[tuple[str, _File | None]] = []
        self._last: Operation | None = None

    def cuts(self) -> Iterator[int]:
        """Stop before each operation and after the last; what was carried out so far is what `leave` cuts."""
        for number, operation in enumerate(self._trace):
            yield number
            self._carry_out(operation)
            self._last = operation
        yield len(self._trace)

    def leave(self, directory: Path, fate: Fate, chance: random.Random) -> None:
        """Fill an empty directory with the files as they are found after the cut."""
        directory.mkdir()
        for name, file in self._directory(fate, chance).items():
            (directory / name).write_bytes(file.after(fate, self._last, chance))

    def _carry_out(self, operation: Operation) -> None:
        name = Path(operation.path).name
        if operation.kind == "open":
            if operation.creates:
                self._rename(name, _File())
        elif operation.kind == "delete":
            self._rename(name, None)
            if operation.synced:
                self._sync_directory()
        elif operation.kind in ("write", "truncate"):
            self._now()[name].since.append(operation)
        elif operation.kind == "sync":
            file = self._now()[name]
            file.sync()
            # SQLite syncs the directory with the first sync of a journal or log, not with that of a database:
            # https://sqlite.org/src/file/src/os_unix.c (UNIXFILE_DIRSYNC)
            if file.is_new and name.endswith(("-wal", "-journal")):
                self._sync_directory()
            file.is_new = False

    def _rename(self, name: str, file: _File | None) -> None:
        self._renames.append((name, file))

    def _now(self) -> dict[str, _File]:
        return self._directory("kept", _NO_CHANCE)

    def _directory(self, fate: Fate, chance: random.Random) -> dict[str, _File]:
        names = dict(self._names)
        for name, file in self._renames:
            if fate == "lost" or (fate == "mixed" and chance.random() < 0.5):
                continue
            if file is None:
                names.pop(name, None)
            else:
                names[name] = file
        return names

    def _sync_directory(self) -> None:
        self._names = self._now()
        self._renames.clear()
