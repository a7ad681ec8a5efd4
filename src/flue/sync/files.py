"""The files of a sandbox, for code that blocks."""

from __future__ import annotations

from typing import Any

from flue.harness.env import FlueFs
from flue.ports import FileStat
from flue.sync.portal import Portal


class SyncFs:
    """The files of a sandbox; nothing done here enters the conversation.

    Relative paths count from the session's working directory. File errors are the built-in `OSError` family.
    """

    def __init__(self, portal: Portal[Any], fs: FlueFs) -> None:
        self._portal = portal
        self._fs = fs

    def read_file(self, path: str) -> str:
        """Return a file as text; bytes that are not UTF-8 become U+FFFD (`read_file_buffer` keeps them)."""
        return self._portal.call(lambda: self._fs.read_file(path))

    def read_file_buffer(self, path: str) -> bytes:
        """Return a file as bytes."""
        return self._portal.call(lambda: self._fs.read_file_buffer(path))

    def write_file(self, path: str, content: str | bytes) -> None:
        """Write a whole file, text as UTF-8, and create missing parent directories."""
        self._portal.call(lambda: self._fs.write_file(path, content))

    def stat(self, path: str) -> FileStat:
        """Describe a path without following a final symlink."""
        return self._portal.call(lambda: self._fs.stat(path))

    def readdir(self, path: str) -> list[str]:
        """Return the names in a directory, dotfiles included, sorted."""
        return self._portal.call(lambda: self._fs.readdir(path))

    def exists(self, path: str) -> bool:
        """Say whether the path exists."""
        return self._portal.call(lambda: self._fs.exists(path))

    def mkdir(self, path: str, *, recursive: bool = False) -> None:
        """Create a directory; with `recursive` create parents and accept an existing directory."""
        self._portal.call(lambda: self._fs.mkdir(path, recursive=recursive))

    def rm(self, path: str, *, recursive: bool = False, force: bool = False) -> None:
        """Remove a file, or with `recursive` a tree; with `force` a missing path is fine."""
        self._portal.call(lambda: self._fs.rm(path, recursive=recursive, force=force))
