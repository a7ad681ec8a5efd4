"""What has changed in the files of a sandbox since they were last looked at, as bytes that bring them back.

A worker sends these bytes to its program, which keeps them unread; another worker replays them. What a file is told by
is its kind, size, mode and time of change, as rsync does: a file that is written anew with the same size and then set
back to exactly the same time goes unnoticed.
"""

from __future__ import annotations

import time

from flue.sandboxes.places import KEPT
from flue.sandboxes.worker.frames import Frames, encode, number

TYPE_CHECKING = False  # see bashkit_files.py
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from flue.sandboxes.bashkit_files import BashkitFiles

    Stamp = tuple[str, int, int, float]

_REMOVE, _DIRECTORY, _FILE, _LINK = b"remove", b"directory", b"file", b"link"
_MODES = {"directory": 0o755, "file": 0o644}


class Changes:
    """Compares the files with what they were, and brings back what they were from records."""

    def __init__(self, files: BashkitFiles) -> None:
        self._files = files
        self._known: list[dict[str, Stamp]] = [{} for _ in KEPT]
        self._replayed = Frames()
        self.look_seconds = 0.0
        """How long it took to look at all files the last time."""

    @property
    def size(self) -> int:
        """Return how many bytes of records would hold everything, roughly."""
        return sum(stamp[1] + len(path) + 64 for known in self._known for path, stamp in known.items())

    def look(self) -> None:
        """Take the files as they are for what they were."""
        self._known = self._now()

    def forget(self) -> None:
        """Take it that there were no files: the next records hold everything."""
        self._known = [{} for _ in KEPT]

    def records(self) -> Iterator[bytes]:
        """Yield one record for each change since the last time, in an order in which they can be replayed."""
        for mount, now in enumerate(self._now()):
            yield from self._records_of(mount, now)

    def replay(self, records: bytes) -> None:
        """Make the changes again; records may come in pieces. Raises `RuntimeError` or `ValueError` for odd ones."""
        for mount, (what, path, *rest) in self._replayed.feed(records):
            files, name = self._files.kept(KEPT[mount]), path.decode()
            if what == _REMOVE:
                _remove(files, name)
            elif what == _DIRECTORY:
                files.mkdir(name, recursive=True)
                _set_mode(files, name, int(rest[0]), "directory")
            elif what == _FILE:
                files.write_file(name, rest[1])
                _set_mode(files, name, int(rest[0]), "file")
            elif what == _LINK:
                files.symlink(rest[0].decode(), name)
            else:
                raise ValueError(what)

    def _now(self) -> list[dict[str, Stamp]]:
        began = time.monotonic()
        found = [dict(_walk(self._files.kept(point), "")) for point in KEPT]
        self.look_seconds = time.monotonic() - began
        return found

    def _records_of(self, mount: int, now: dict[str, Stamp]) -> Iterator[bytes]:
        files, before = self._files.kept(KEPT[mount]), self._known[mount]
        removed = ""
        for path in before:
            # Parents come before what is in them, and go with it.
            same_kind = path in now and now[path][0] == before[path][0] != "symlink"
            if same_kind or (removed and path.startswith(f"{removed}/")):
                continue
            if path in now and now[path] == before[path]:
                continue
            removed = path
            yield encode(mount, _REMOVE, path.encode())
        for path, stamp in now.items():
            if before.get(path) == stamp:
                continue
            if stamp[0] == "directory" and path in before and before[path][:3] == stamp[:3]:
                continue  # only its time
            record = _record(files, mount, path, stamp)
            if record:
                yield record
        self._known[mount] = now


def _walk(files: Any, folder: str) -> Iterator[tuple[str, Stamp]]:
    """Yield every path below a folder with its stamp, parents first."""
    try:
        entries = files.read_dir(folder or "/")
    except RuntimeError:
        return  # removed meanwhile
    for entry in entries:
        path, found = f"{folder}/{entry['name']}", entry["metadata"]
        kind = found["file_type"]
        yield path, (kind, found["size"], found["mode"], found["modified"])
        if kind == "directory":
            yield from _walk(files, path)


def _record(files: Any, mount: int, path: str, stamp: Stamp) -> bytes:
    kind, _, mode, _ = stamp
    try:
        if kind == "directory":
            return encode(mount, _DIRECTORY, path.encode(), number(mode))
        if kind == "file":
            return encode(mount, _FILE, path.encode(), number(mode), files.read_file(path))
        if kind == "symlink":
            return encode(mount, _LINK, path.encode(), files.read_link(path).encode())
    except RuntimeError:
        pass  # removed meanwhile by a command that still runs: the next look sees it
    return b""


def _remove(files: Any, path: str) -> None:
    try:
        files.remove(path, recursive=True)
    except RuntimeError as error:
        # It came and went while a record of it was made.
        if "not found" not in str(error):
            raise


def _set_mode(files: Any, path: str, mode: int, kind: str) -> None:
    if mode != _MODES[kind]:
        files.chmod(path, mode)
