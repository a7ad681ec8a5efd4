"""The files that a sandbox is opened with, seen without a sandbox: as they are until somebody changes something.

Most sandboxes are looked into when a session is opened, for its instructions and skills, and never used: a model that
needs no tool makes none.
"""

from __future__ import annotations

import errno
import posixpath
import time
from collections.abc import Mapping

from flue.ports import FileStat
from flue.sandboxes.bashkit_files import file_error
from flue.sandboxes.engine import as_stat
from flue.sandboxes.places import KEPT


class GivenFiles:
    """Files by absolute path in the directories that last. There are no links among them.

    Its methods are those of `flue.sandboxes.engine.Engine` that change nothing. Paths elsewhere are not for it: there
    lies what a shell brings along.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files
        self._since = time.time()
        self._inside: dict[str, set[str]] = {}
        """The names in each directory, once somebody has asked for one."""

    def read_file(self, path: str) -> bytes:
        """Return the whole file."""
        if path in self._files:
            return self._files[path]
        raise self._unlike(path)

    def stat(self, path: str) -> FileStat:
        """Describe a path."""
        if path in self._files:
            return as_stat("file", len(self._files[path]), self._since)
        if self._is_directory(path):
            return as_stat("directory", 0, self._since)
        raise self._unlike(path)

    def readdir(self, path: str) -> list[str]:
        """Return the names in a directory, sorted."""
        if not self._is_directory(path):
            raise self._unlike(path)
        return sorted(self._directories()[path])

    def exists(self, path: str) -> bool:
        """Say whether there is something."""
        return path in self._files or self._is_directory(path)

    def _is_directory(self, path: str) -> bool:
        return path in self._directories()

    def _directories(self) -> dict[str, set[str]]:
        if not self._inside:
            self._inside = {kept: set() for kept in KEPT}
            for path in self._files:
                while path not in KEPT:
                    folder, name = posixpath.split(path)
                    names = self._inside.setdefault(folder, set())
                    if name in names:
                        break  # and so is all above it
                    names.add(name)
                    path = folder  # noqa: PLW2901 - upwards to the directory that lasts
        return self._inside

    def _unlike(self, path: str) -> OSError:
        """Return why a path is not what was asked for: it is something else, or nothing."""
        if path in self._files:
            return file_error(errno.ENOTDIR, path)
        return file_error(errno.EISDIR if self._is_directory(path) else errno.ENOENT, path)
