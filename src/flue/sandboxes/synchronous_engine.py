"""The virtual sandbox's engine where there are neither threads nor processes: in a Worker (SBX-13, SBX-14).

A command runs to its end in one go, and everything else in the isolate stands still meanwhile. What keeps the isolate
alive, as far as that can be done from inside it (bashkit 0.20.1; measured in Pyodide 314):

* Memory. All files lie in one file system of bashkit's smallest kind, with room for 25,000,000 bytes, 2,000,000 a file
  and 2,500 files; what a command writes elsewhere counts, too, until it ends. A larger file that is written from
  outside moves them to the next kind, with room for 100,000,000 bytes, 10,000,000 a file and 10,000 files.
* Time. The clock of a Worker stands still while it computes
  (https://developers.cloudflare.com/workers/reference/security-model/), so a command's time limit is not noticed there,
  and whatever waits would wait for ever. Loops end by the limits on commands and iterations. `sleep` returns at once,
  and counts as the time that it would have taken.
* Stack. What overflows it ends Python for good. workerd (1.20261117.1, `API.on_fatal`) then aborts the isolate, and the
  work goes on in the next one as after a crash (SBX-20). Scripts whose text shows that they nest too deep are not begun
  (`flue.sandboxes.nesting`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from flue.errors import SandboxError
from flue.ports import FileStat
from flue.sandboxes.bashkit_commands import make_skip, scripts_folder
from flue.sandboxes.bashkit_files import BashkitFiles
from flue.sandboxes.bashkit_shell import SMALL_OUTPUT_LIMIT, Printed, ended, open_shell, with_stdin
from flue.sandboxes.engine import Command, EngineOptions, Outcome, as_outcome, as_stat
from flue.sandboxes.nesting import too_deep

if TYPE_CHECKING:
    from bashkit import Bash, FileSystem

SMALL_FILE = 2_000_000
"""Bytes that a file may have in bashkit's smallest kind of file system."""

SKIPPED_NOTE = "No time passes while a command runs here: sleep returned at once."

_Kind = Literal["Hardened", "Standard"]


async def open_synchronous(options: EngineOptions) -> SynchronousEngine:
    """Return an engine in this thread that holds the given files. Raises `SandboxError` (`sandbox_unavailable`)."""
    return SynchronousEngine(options)


class SynchronousEngine:
    """Implements `Engine` in the running thread."""

    about = (
        "A command runs in one go: nothing else happens meanwhile, and no time passes (sleep returns at once). There "
        "is no sqlite3. Files have 2 MB at most, 25 MB together."
    )
    """What a model should know about commands here, beside what holds for every virtual sandbox."""

    def __init__(self, options: EngineOptions) -> None:
        if options.network is not None:
            raise SandboxError(
                "The virtual sandbox has no network in a Worker.",
                code="sandbox_unavailable",
                hint="Leave out network=; let tools make the requests, or use a container sandbox.",
            )
        self._files = _files("Hardened")
        self._is_small = True
        self._limits = options.limits
        self._scripts = scripts_folder()
        for path, content in options.files.items():
            self._write(path, content)

    async def read_file(self, path: str) -> bytes:
        """Return the whole file; symlinks are followed."""
        return self._files.read_file(path)

    async def write_file(self, path: str, content: bytes) -> None:
        """Write the whole file and create missing parent directories."""
        self._write(path, content)

    async def stat(self, path: str) -> FileStat:
        """Describe a path without following a final symlink."""
        return as_stat(*self._files.stat(path))

    async def readdir(self, path: str) -> list[str]:
        """Return the names in a directory, sorted."""
        return self._files.readdir(path)

    async def exists(self, path: str) -> bool:
        """Say whether the path leads to something; never raises."""
        return self._files.exists(path)

    async def mkdir(self, path: str, *, recursive: bool) -> None:
        """Create a directory."""
        self._files.mkdir(path, recursive=recursive)

    async def rm(self, path: str, *, recursive: bool, force: bool) -> None:
        """Remove a file or a tree."""
        self._files.rm(path, recursive=recursive, force=force)

    async def run(self, command: Command) -> Outcome:
        """Run a command. One that was begun cannot be cancelled. Raises `OSError` when its directory is missing."""
        refused = too_deep(command.script)
        if refused:
            return Outcome(b"", b"", 1, "limit", refused, "Nothing of it was run.")
        # The platform writes down what was recorded before when an event ends: this one may end the isolate.
        await asyncio.sleep(0)
        try:
            return self._run(command)
        finally:
            self._files.tidy()
            # Commands that follow each other must not keep everything else from its turn.
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Do nothing: the files go with the engine."""

    def _run(self, command: Command) -> Outcome:
        seconds = min(command.seconds, self._limits.seconds)
        pauses = _Pauses(seconds)
        shell = open_shell(
            self._files,
            self._scripts,
            cwd=command.cwd,
            env=command.env,
            commands=self._limits.commands,
            loop_iterations=self._limits.loop_iterations,
            seconds=seconds,
            network=None,
            builtins={"sleep": make_skip(pauses.skip)},
            small=True,
        )
        pauses.stop = shell.cancel
        outcome = _executed(shell, command)
        return replace(outcome, note=" ".join(filter(None, (outcome.note, pauses.note))))

    def _write(self, path: str, content: bytes) -> None:
        if self._is_small and len(content) > SMALL_FILE:
            larger = _files("Standard")
            self._files.copy_to(larger)
            self._files, self._is_small = larger, False
        self._files.write_file(path, content)


class _Pauses:
    """What a command would have slept. It is stopped when that takes all of its time."""

    def __init__(self, seconds: float) -> None:
        self.stop: Callable[[], None] = _nothing
        self.note = ""
        self._left = seconds

    def skip(self, seconds: float) -> None:
        """Let time pass."""
        self.note = SKIPPED_NOTE
        self._left -= seconds
        if self._left <= 0:
            self.stop()


def _nothing() -> None: ...


def _executed(shell: Bash, command: Command) -> Outcome:
    printed = Printed(SMALL_OUTPUT_LIMIT)
    script = with_stdin(shell, command.script, command.stdin)
    try:
        result = shell.execute_sync(script, on_output=printed)
    except Exception as error:
        raise SandboxError(f"The virtual sandbox failed: {error}.") from error
    return as_outcome(ended(result, printed))


def _files(kind: _Kind) -> BashkitFiles:
    return BashkitFiles(_file_system(kind))


def _file_system(kind: _Kind) -> FileSystem:
    try:
        from bashkit import Bash, ExecutionProfile
    except ImportError as error:
        raise SandboxError(
            f"The virtual sandbox cannot start: {error}.",
            code="sandbox_unavailable",
            hint="The package bashkit must be among those that the Worker carries.",
        ) from error
    # A file system of a certain kind comes only as that of a shell.
    return Bash(username="user", profile=getattr(ExecutionProfile, kind)).fs()
