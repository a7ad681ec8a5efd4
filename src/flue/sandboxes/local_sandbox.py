"""`local()`: the files and the shell of the host, for code that already runs where it is to work."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import stat as stat_bits
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from flue.errors import DefinitionError, SandboxError
from flue.harness.env import SessionEnv
from flue.ports import ExecResult, FileStat
from flue.sandboxes.process import Ended, run_process
from flue.sandboxes.results import TIMEOUT_EXIT_CODE, check_environment, text_result, timeout_note

PASSED_ON = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "HOSTNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TERM",
    "TMPDIR",
    "TMP",
    "TEMP",
)
"""The variables of this process that commands see. Others (API keys, tokens) must be passed by name."""
OUTPUT_LIMIT = 64 * 1024 * 1024
"""Bytes of each output stream after which a command is ended."""


def local(
    cwd: str | os.PathLike[str] | None = None, env: Mapping[str, str | None] | None = None
) -> LocalSandboxFactory:
    """Return a factory for a sandbox that is no sandbox: the host's files and its shell, with this process's rights.

    `cwd` is where commands start (default: the agent's `cwd`, else this process's working directory). Absolute paths
    reach everything this process may reach. Commands see the variables of `PASSED_ON` as they are now, then those of
    `env` (None takes one away), then those of the single call.

    A command runs in bash (sh where there is none) in a process session of its own: a timeout or an abort kills it and
    what it started. What a command leaves running in the background goes on; its later output is dropped.

    Raises `DefinitionError` when `cwd` or `env` is of the wrong kind.
    """
    if cwd is not None and not isinstance(cwd, str | os.PathLike):
        raise DefinitionError(f"local(): cwd must be a path, got {type(cwd).__name__}.")
    variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    for name, value in _checked(env).items():
        if value is None:
            variables.pop(name, None)
        else:
            variables[name] = value
    return LocalSandboxFactory(None if cwd is None else os.fspath(cwd), variables)


def _checked(env: object) -> dict[str, str | None]:
    if env is None:
        return {}
    if not isinstance(env, Mapping):
        raise DefinitionError(
            f"local(): env must map names to text, got {type(env).__name__}.", hint='For example env={"CI": "1"}.'
        )
    for name, value in env.items():
        if not isinstance(name, str) or not (value is None or isinstance(value, str)):
            raise DefinitionError(f"local(): the variable {name!r} of env must be text, or None to remove it.")
    check_environment({name: value or "" for name, value in env.items()})
    return dict(env)


class LocalSandboxFactory:
    """Makes environments on the host. Built by `local()`."""

    def __init__(self, cwd: str | None, variables: Mapping[str, str]) -> None:
        self._cwd = cwd
        self._variables = variables

    async def create_session_env(self, *, id: str, cwd: str | None = None) -> SessionEnv:
        """Return the environment. Raises `SandboxError` (code `missing_directory`) when its directory is none."""
        directory = await asyncio.to_thread(Path(self._cwd or cwd or ".").absolute)
        if not await asyncio.to_thread(directory.is_dir):
            raise SandboxError(
                f"local(): the working directory {directory} is not a directory.",
                code="missing_directory",
                hint="Create it, or pass another cwd.",
            )
        return SessionEnv(LocalSandbox(self._variables), directory.as_posix())

    def __repr__(self) -> str:
        return f"local({self._cwd!r})" if self._cwd else "local()"


class LocalSandbox:
    """Implements the `Sandbox` port on the host. Files are read and written in threads."""

    description = "The shell and the files of the machine this agent runs on."
    """What a model should know about the place its commands run in."""

    def __init__(self, variables: Mapping[str, str], *, output_limit: int = OUTPUT_LIMIT) -> None:
        self._variables = dict(variables)
        self._output_limit = output_limit

    async def read_file(self, path: str) -> bytes:
        """Return the whole file; symlinks are followed, but never to a device or a pipe, which may have no end."""
        return await asyncio.to_thread(_read, path)

    async def write_file(self, path: str, content: bytes) -> None:
        """Write the whole file and create missing parent directories."""
        await asyncio.to_thread(_write, Path(path), content)

    async def stat(self, path: str) -> FileStat:
        """Describe a path without following a final symlink."""
        found = await asyncio.to_thread(os.lstat, path)
        mode = found.st_mode
        return FileStat(
            stat_bits.S_ISREG(mode),
            stat_bits.S_ISDIR(mode),
            stat_bits.S_ISLNK(mode),
            found.st_size,
            found.st_mtime,
        )

    async def readdir(self, path: str) -> list[str]:
        """Return the names in a directory, dotfiles included, sorted."""
        return sorted(await asyncio.to_thread(os.listdir, path))

    async def exists(self, path: str) -> bool:
        """Say whether the path leads to something; never raises."""
        return await asyncio.to_thread(os.path.exists, path)

    async def mkdir(self, path: str, *, recursive: bool = False) -> None:
        """Create a directory; with `recursive` create parents and accept an existing directory."""
        await asyncio.to_thread(Path(path).mkdir, parents=recursive, exist_ok=recursive)

    async def rm(self, path: str, *, recursive: bool = False, force: bool = False) -> None:
        """Remove a file, or with `recursive` a tree; with `force` a missing path is fine."""
        await asyncio.to_thread(_remove, Path(path), recursive=recursive, force=force)

    async def exec(
        self,
        command: str,
        *,
        cwd: str,
        env: Mapping[str, str] | None = None,
        stdin: str | bytes | None = None,
        timeout: float | None = None,
    ) -> ExecResult:
        """Run a shell command. One that is killed by a signal, or prints more than 64 MiB, has exit code 1.

        Raises `OSError` when `cwd` is missing, `UsageError` for an impossible environment, `SandboxError` when no
        shell can be started.
        """
        variables = {**self._variables, **check_environment(env)}
        await asyncio.to_thread(_check_directory, cwd)
        content = stdin.encode("utf-8", errors="replace") if isinstance(stdin, str) else stdin
        source = None if content is None else await asyncio.to_thread(_as_file, content)
        try:
            shell = _shell(variables.get("PATH"))
            ended = await run_process(
                [shell, "-c", command],
                cwd=cwd,
                env=variables,
                stdin=source,
                timeout=timeout,
                output_limit=self._output_limit,
            )
        finally:
            if source is not None:
                source.close()
        return _result(ended, timeout, self._output_limit)


def _result(ended: Ended, timeout: float | None, output_limit: int) -> ExecResult:
    printed = ended.stdout, ended.stderr
    if ended.stopped_by == "timeout" and timeout is not None:
        return text_result(*printed, TIMEOUT_EXIT_CODE, timeout_note(timeout))
    if ended.stopped_by == "output":
        return text_result(*printed, 1, f"Command killed: it printed more than {output_limit:,} bytes.")
    if ended.status < 0:
        return text_result(*printed, 1, f"Command killed by signal {-ended.status}.")
    return text_result(*printed, ended.status)


def _shell(search_path: str | None) -> str:
    found = shutil.which("bash", path=search_path) or shutil.which("sh", path=search_path) or "/bin/sh"
    if not Path(found).exists():
        raise SandboxError("local(): this machine has neither bash nor sh.", hint="Use virtual().")
    return found


def _check_directory(path: str) -> None:
    if not stat_bits.S_ISDIR(os.stat(path).st_mode):  # noqa: PTH116 - raises with the path in the message
        raise NotADirectoryError(20, os.strerror(20), path)


def _as_file(content: bytes) -> IO[Any]:
    """Return the bytes as an unnamed file: unlike a pipe it needs nobody to feed it while the command runs."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the caller
    file.write(content)
    file.seek(0)
    return file


def _read(path: str) -> bytes:
    # Without O_NONBLOCK, opening a pipe waits for somebody to write to it. Windows has no such flag, and no such files.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        mode = os.fstat(descriptor).st_mode
        if stat_bits.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not stat_bits.S_ISREG(mode):
            raise OSError(errno.EINVAL, "Not a regular file", path)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _remove(path: Path, *, recursive: bool, force: bool) -> None:
    try:
        is_directory = stat_bits.S_ISDIR(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        if force:
            return
        raise
    if not is_directory:
        path.unlink(missing_ok=force)
    elif recursive:
        shutil.rmtree(path)
    else:
        raise IsADirectoryError(21, os.strerror(21), str(path))
