"""What an isolated sandbox has changed, kept for the worker that may have to bring it back (SBX-04)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import IO, cast

IN_MEMORY = 256 * 1024
"""Bytes of changes kept in memory; more go to a temporary file that has no name."""
MAX_SIZE = 2 * 1024 * 1024 * 1024
"""Bytes of changes in all. A sandbox holds 300 MB and old changes are dropped: only broken workers send more."""
_PIECE = 1 << 20


class Journal:
    """Records of changes, as a worker sent them. They are never read here, only handed to the next worker.

    Records count from `commit` on: what was added after the last one is dropped by `roll_back`. `complete` says that
    the records bring back everything, not just what changed since the sandbox was opened.
    """

    def __init__(self) -> None:
        self._file = _new_file()
        self._committed = 0
        self._end = 0
        self._kept: tuple[IO[bytes], int] | None = None
        self.complete = False

    @property
    def size(self) -> int:
        """Return how many bytes count."""
        return self._kept[1] if self._kept else self._committed

    def add(self, record: bytes) -> None:
        """Add a record. Raises `ValueError` when there are too many."""
        if self._end + len(record) > MAX_SIZE:
            raise ValueError("too many changes")
        self._file.seek(self._end)
        self._file.write(record)
        self._end += len(record)

    def start_over(self) -> None:
        """Let the records that follow replace all others, once they are committed."""
        self.roll_back()
        self._kept = self._file, self._committed
        self._file, self._committed, self._end = _new_file(), 0, 0

    def commit(self) -> None:
        """Let everything that was added count."""
        if self._kept is not None:
            self._kept[0].close()
            self._kept = None
            self.complete = True
        self._committed = self._end

    def roll_back(self) -> None:
        """Drop what does not count."""
        if self._kept is not None:
            self._file.close()
            self._file, self._committed = self._kept
            self._kept = None
        self._end = self._committed
        self._file.seek(self._end)
        self._file.truncate()

    def pieces(self) -> Iterator[bytes]:
        """Yield the records that count, in pieces that may end anywhere."""
        at = 0
        while at < self._committed:
            self._file.seek(at)
            piece = self._file.read(min(_PIECE, self._committed - at))
            at += len(piece)
            yield piece

    def close(self) -> None:
        """Forget everything."""
        if self._kept is not None:
            self._kept[0].close()
        self._file.close()


def _new_file() -> IO[bytes]:
    return cast("IO[bytes]", tempfile.SpooledTemporaryFile(IN_MEMORY))
