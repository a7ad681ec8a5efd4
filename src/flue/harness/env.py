"""The session environment: the files and the shell that a session, its tools and `session.fs` work with.

A `SessionEnv` puts a working directory, path rules and per-file locks over a provider's `Sandbox`. Everything that
touches files or runs commands goes through it, so a provider sees only absolute, normalised paths.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol
from weakref import WeakValueDictionary

from flue.definitions.checks import is_unicode
from flue.errors import UsageError
from flue.ports import ExecResult, FileStat, Sandbox

logger = logging.getLogger("flue")
TIMEOUT_EXIT_CODE = 124
"""The exit status of a command that timed out, as `timeout(1)` of GNU coreutils gives it."""


class FlueFs(Protocol):
    """The files of a sandbox, as `session.fs` and `harness.fs` offer them; nothing done here enters the conversation.

    Relative paths count from the session's working directory. File errors are the built-in `OSError` family.
    """

    async def read_file(self, path: str) -> str:
        """Return a file as text; bytes that are not UTF-8 become U+FFFD (`read_file_buffer` keeps them)."""
        ...

    async def read_file_buffer(self, path: str) -> bytes:
        """Return a file as bytes."""
        ...

    async def write_file(self, path: str, content: str | bytes) -> None:
        """Write a whole file, text as UTF-8, and create missing parent directories."""
        ...

    async def stat(self, path: str) -> FileStat:
        """Describe a path without following a final symlink."""
        ...

    async def readdir(self, path: str) -> list[str]:
        """Return the names in a directory, dotfiles included, sorted."""
        ...

    async def exists(self, path: str) -> bool:
        """Say whether the path exists."""
        ...

    async def mkdir(self, path: str, *, recursive: bool = False) -> None:
        """Create a directory; with `recursive` create parents and accept an existing directory."""
        ...

    async def rm(self, path: str, *, recursive: bool = False, force: bool = False) -> None:
        """Remove a file, or with `recursive` a tree; with `force` a missing path is fine."""
        ...


class SessionEnv:
    """A sandbox seen from a working directory. Implements `FlueFs` and adds `exec`.

    `cwd` must be absolute. Raises `UsageError` (code `invalid_path`, `invalid_text` or `invalid_command`) for
    arguments that no sandbox could take; `SandboxError` when the sandbox itself fails.

    `on_close` gives back what the sandbox holds, when the harness that it was made for is closed; what it raises is
    logged. Without it the sandbox is somebody else's and stays.
    """

    __slots__ = ("_cwd", "_locks", "_on_close", "_sandbox")

    def __init__(self, sandbox: Sandbox, cwd: str, *, on_close: Callable[[], Awaitable[None]] | None = None) -> None:
        self._sandbox = sandbox
        self._on_close = on_close
        self._cwd = _absolute(cwd)
        # Weak values: a lock lives exactly as long as somebody holds it or waits for it.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def cwd(self) -> str:
        """Return the working directory, absolute and normalised."""
        return self._cwd

    @property
    def sandbox(self) -> Sandbox:
        """Return the provider's sandbox."""
        return self._sandbox

    def scoped(self, cwd: str) -> SessionEnv:
        """Return the same sandbox seen from `cwd`, which may be relative to this one's; locks are shared."""
        env = SessionEnv(self._sandbox, self.resolve_path(cwd), on_close=self._on_close)
        env._locks = self._locks
        return env

    def borrowed(self) -> SessionEnv:
        """Return the same view for somebody who does not own the sandbox: closing it does nothing."""
        env = self.scoped(self._cwd)
        env._on_close = None
        return env

    async def close(self) -> None:
        """Give back what the sandbox holds, if it was made for this environment; every view of it is then useless.

        What goes wrong with that is logged: it changes nothing of what was done here.
        """
        if self._on_close is None:
            return
        try:
            await self._on_close()
        except Exception:
            logger.exception("A sandbox could not be given back.")

    def resolve_path(self, path: str) -> str:
        """Return `path` as an absolute path: joined to the working directory, `.` and `..` collapsed, never above `/`.

        Works on the text alone: symlinks are not looked up. Raises `UsageError` (`invalid_path`) for an empty path,
        one with a NUL, or one that is not valid Unicode.
        """
        _check_path(path)
        return _collapse(path if path.startswith("/") else f"{self._cwd}/{path}")

    @asynccontextmanager
    async def lock(self, path: str) -> AsyncIterator[None]:
        """Hold the lock of one file while it is read, changed and written back. Not reentrant.

        It orders the tools and sessions of one harness; commands run by `exec` do not take it.
        """
        resolved = self.resolve_path(path)
        lock = self._locks.get(resolved)
        if lock is None:
            lock = self._locks[resolved] = asyncio.Lock()
        async with lock:
            yield

    async def read_file(self, path: str) -> str:
        """Return a file as text; bytes that are not UTF-8 become U+FFFD (`read_file_buffer` keeps them)."""
        return (await self._sandbox.read_file(self.resolve_path(path))).decode("utf-8", errors="replace")

    async def read_file_buffer(self, path: str) -> bytes:
        """Return a file as bytes."""
        return await self._sandbox.read_file(self.resolve_path(path))

    async def write_file(self, path: str, content: str | bytes) -> None:
        """Write a whole file, text as UTF-8, and create missing parent directories."""
        resolved = self.resolve_path(path)
        await self._sandbox.write_file(resolved, _encode(content, resolved))

    async def stat(self, path: str) -> FileStat:
        """Describe a path without following a final symlink; `FileNotFoundError` when it is missing."""
        return await self._sandbox.stat(self.resolve_path(path))

    async def readdir(self, path: str) -> list[str]:
        """Return the names in a directory, dotfiles included, sorted."""
        return await self._sandbox.readdir(self.resolve_path(path))

    async def exists(self, path: str) -> bool:
        """Say whether the path exists."""
        return await self._sandbox.exists(self.resolve_path(path))

    async def mkdir(self, path: str, *, recursive: bool = False) -> None:
        """Create a directory; with `recursive` create parents and accept an existing directory."""
        await self._sandbox.mkdir(self.resolve_path(path), recursive=recursive)

    async def rm(self, path: str, *, recursive: bool = False, force: bool = False) -> None:
        """Remove a file, or with `recursive` a tree; with `force` a missing path is fine."""
        await self._sandbox.rm(self.resolve_path(path), recursive=recursive, force=force)

    async def exec(
        self,
        command: str,
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | bytes | None = None,
        timeout: float | None = None,
    ) -> ExecResult:
        """Run a shell command in `cwd` (default: the working directory) and return what it gave.

        `timeout` is in seconds; a command that exceeds it has exit code 124, whether its provider reports the timeout
        or raises it. `env` adds to the sandbox's environment. Cancelling the awaiting task ends the command.
        """
        _check_command(command, env, timeout)
        directory = self._cwd if cwd is None else self.resolve_path(cwd)
        try:
            return await self._sandbox.exec(command, cwd=directory, env=env, stdin=stdin, timeout=timeout)
        except TimeoutError:
            if timeout is None:
                raise
            return ExecResult("", f"[flue] Command timed out after {timeout:g} seconds.", TIMEOUT_EXIT_CODE)

    def __repr__(self) -> str:
        return f"SessionEnv({type(self._sandbox).__name__}, cwd={self._cwd!r})"


def _check_path(path: Any) -> None:
    if not isinstance(path, str):
        raise UsageError(f"A path must be text, got {type(path).__name__}.", code="invalid_path")
    if not path:
        raise UsageError("A path must not be empty.", code="invalid_path", hint='Use "." for the working directory.')
    if "\0" in path:
        raise UsageError(f"The path {path!r} contains a NUL character.", code="invalid_path")
    if not is_unicode(path):
        raise UsageError(f"The path {path!r} is not valid Unicode text.", code="invalid_path")


def _absolute(path: Any) -> str:
    _check_path(path)
    if not path.startswith("/"):
        raise UsageError(f"The working directory {path!r} of a sandbox must be absolute.", code="invalid_path")
    return _collapse(path)


def _collapse(path: str) -> str:
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def _encode(content: Any, path: str) -> bytes:
    if isinstance(content, str):
        try:
            return content.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UsageError(
                f"The text for {path} has half a surrogate pair at character {error.start + 1}.",
                code="invalid_text",
                hint="Write complete Unicode characters, or bytes.",
            ) from None
    if isinstance(content, bytes | bytearray | memoryview):
        return bytes(content)
    found = type(content).__name__
    raise UsageError(f"The content for {path} must be text or bytes, got {found}.", code="invalid_text")


def _check_command(command: Any, env: Any, timeout: Any) -> None:
    if not isinstance(command, str) or "\0" in command or not is_unicode(command):
        raise UsageError("A shell command must be valid text without NUL characters.", code="invalid_command")
    if env is not None:
        for name, value in env.items():
            if not isinstance(name, str) or not isinstance(value, str):
                raise UsageError(f"The environment variable {name!r} must be text.", code="invalid_command")
    if timeout is not None and not (
        isinstance(timeout, int | float) and not isinstance(timeout, bool) and math.isfinite(timeout) and timeout > 0
    ):
        raise UsageError(
            f"A command's timeout must be a positive number of seconds, got {timeout!r}.", code="invalid_command"
        )
