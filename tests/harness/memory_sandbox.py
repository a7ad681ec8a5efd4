"""A sandbox in a dictionary. Commands are answered by a script, and remembered."""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flue.ports import ExecResult, FileStat


@dataclass(frozen=True)
class Command:
    """What a command was run with."""

    command: str
    cwd: str
    env: Mapping[str, str] | None
    stdin: str | bytes | None
    timeout: float | None


def succeed(command: Command) -> ExecResult:
    return ExecResult("", "", 0)


class MemorySandbox:
    """Implements `flue.ports.Sandbox`. Every file call lets other tasks run, as a real sandbox would."""

    def __init__(
        self, files: Mapping[str, str | bytes] | None = None, *, script: Callable[[Command], ExecResult] = succeed
    ) -> None:
        self.files: dict[str, bytes] = {}
        self.directories = {"/", "/workspace"}
        self.links: dict[str, str] = {}
        self.special: set[str] = set()
        self.read_only = False
        self.commands: list[Command] = []
        self._script = script
        for path, content in (files or {}).items():
            self._put(path, content.encode() if isinstance(content, str) else content)

    def _put(self, path: str, content: bytes) -> None:
        if path in self.directories:
            raise IsADirectoryError(path)
        self._add_directory(posixpath.dirname(path))
        self.files[path] = content

    def _add_directory(self, path: str) -> None:
        while path not in self.directories:
            self.directories.add(path)
            path = posixpath.dirname(path)

    def _follow(self, path: str) -> str:
        return self.links.get(path, path)

    async def read_file(self, path: str) -> bytes:
        await asyncio.sleep(0)
        target = self._follow(path)
        if target in self.directories:
            raise IsADirectoryError(path)
        if target not in self.files:
            raise FileNotFoundError(path)
        return self.files[target]

    async def write_file(self, path: str, content: bytes) -> None:
        await asyncio.sleep(0)
        if self.read_only:
            raise PermissionError(path)
        self._put(self._follow(path), content)

    async def stat(self, path: str) -> FileStat:
        await asyncio.sleep(0)
        if path in self.links:
            return FileStat(is_file=False, is_directory=False, is_symbolic_link=True, size=len(self.links[path]))
        if path in self.directories:
            return FileStat(is_file=False, is_directory=True, is_symbolic_link=False, size=0)
        if path in self.special:
            return FileStat(is_file=False, is_directory=False, is_symbolic_link=False, size=0)
        if path in self.files:
            return FileStat(is_file=True, is_directory=False, is_symbolic_link=False, size=len(self.files[path]))
        raise FileNotFoundError(path)

    async def readdir(self, path: str) -> list[str]:
        await asyncio.sleep(0)
        target = self._follow(path)
        if target not in self.directories:
            raise FileNotFoundError(path)
        names = [*self.files, *self.directories, *self.links]
        return sorted(posixpath.basename(name) for name in names if name != "/" and posixpath.dirname(name) == target)

    async def exists(self, path: str) -> bool:
        await asyncio.sleep(0)
        return path in self.files or path in self.directories or path in self.links

    async def mkdir(self, path: str, *, recursive: bool = False) -> None:
        await asyncio.sleep(0)
        if not recursive and path in self.directories:
            raise FileExistsError(path)
        if not recursive and posixpath.dirname(path) not in self.directories:
            raise FileNotFoundError(path)
        self._add_directory(path)

    async def rm(self, path: str, *, recursive: bool = False, force: bool = False) -> None:
        await asyncio.sleep(0)
        if path in self.directories and not recursive:
            raise IsADirectoryError(path)
        inside = [name for name in (*self.files, *self.directories) if name == path or name.startswith(f"{path}/")]
        if not inside and not force:
            raise FileNotFoundError(path)
        for name in inside:
            self.files.pop(name, None)
            self.directories.discard(name)

    async def exec(
        self,
        command: str,
        *,
        cwd: str,
        env: Mapping[str, str] | None = None,
        stdin: str | bytes | None = None,
        timeout: float | None = None,
    ) -> ExecResult:
        await asyncio.sleep(0)
        self.commands.append(Command(command, cwd, env, stdin, timeout))
        return self._script(self.commands[-1])
