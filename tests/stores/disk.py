"""A disk that SQLite writes to through us: every operation on its files is seen, and may be made to fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

import apsw

from tests.stores.faults import failure

Kind = Literal["open", "read", "write", "truncate", "sync", "delete", "size"]
_numbers = count()


@dataclass(frozen=True, slots=True)
class Operation:
    """What SQLite asks of the disk. `size` is the length after a truncation; `synced`: the directory is synced too."""

    kind: Kind
    path: str
    offset: int = 0
    data: bytes = b""
    size: int = 0
    synced: bool = False
    creates: bool = False


class Disk:
    """Files where they are, opened through `connect`; `before` is called with each operation, and may raise."""

    def __init__(self, before: Callable[[Operation], None]) -> None:
        name = f"disk-{next(_numbers)}"
        self._files = _Files(name, before)
        self._name = name

    def connect(self, path: str) -> ApswConnection:
        """Open a database on this disk."""
        return ApswConnection(path, self._name)


def connect_plainly(path: str) -> ApswConnection:
    """Open a database with the same SQLite, past the disk: one process must not use two on one file."""
    return ApswConnection(path)


class _Files(apsw.VFS):
    def __init__(self, name: str, before: Callable[[Operation], None]) -> None:
        self._before = before
        super().__init__(name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        if name is None:  # a temporary file, which nobody looks for after a cut
            return super().xOpen(name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._before(Operation("open", path, creates=not Path(path).exists()))
        return _File(name, path, flags, self._before)

    def xDelete(self, path: str, syncdir: bool) -> None:  # noqa: N802
        self._before(Operation("delete", path, synced=syncdir))
        super().xDelete(path, syncdir)


class _File(apsw.VFSFile):
    def __init__(
        self, name: str | apsw.URIFilename, path: str, flags: list[int], before: Callable[[Operation], None]
    ) -> None:
        self._path = path
        self._before = before
        super().__init__("", name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        self._before(Operation("read", self._path, offset))
        return super().xRead(amount, offset)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802
        self._before(Operation("write", self._path, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self._before(Operation("truncate", self._path, size=newsize))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._before(Operation("sync", self._path))
        super().xSync(flags)

    def xFileSize(self) -> int:  # noqa: N802
        self._before(Operation("size", self._path))
        return super().xFileSize()


class _Rows:
    def __init__(self, rows: list[Any], rowcount: int) -> None:
        self._rows = iter(rows)
        self.rowcount = rowcount

    def fetchone(self) -> Any:
        return next(self._rows, None)

    def fetchall(self) -> list[Any]:
        return list(self._rows)


class ApswConnection:
    """An apsw connection with the face, and the errors, of one of sqlite3."""

    def __init__(self, path: str, vfs: str | None = None) -> None:
        with _translated():
            self.inner = apsw.Connection(path, vfs=vfs)

    def execute(self, sql: str, parameters: Any = (), /) -> _Rows:
        with _translated():
            return _Rows(list(self.inner.execute(sql, parameters)), self.inner.changes())

    def executemany(self, sql: str, parameters: Any, /) -> _Rows:
        for row in parameters:
            self.execute(sql, row)
        return _Rows([], -1)

    def close(self) -> None:
        with _translated():
            self.inner.close()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        # The stubs of apsw do not know the results.
        code = getattr(error, "extendedresult", 0) or getattr(error, "result", 0)
        raise failure(code, str(error) or type(error).__name__) from error
