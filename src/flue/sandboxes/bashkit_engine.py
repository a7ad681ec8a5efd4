"""The virtual sandbox's engine in this process: bash, written in Rust, by the `bashkit` package.

Each command gets a `Bash` of its own over files that last, so `cd`, exports and functions end with the command, and
bashkit's caps on the life of one instance (1,000 calls, 100,000 commands) are never met.

Each command also gets a thread of its own, for three reasons measured with bashkit 0.20.1:

* Nested scripts (`eval` calling itself, `env env env …`, jq filters) use the stack of the thread they run in, about
  24 KB a level, and an overflow kills the process. bashkit's own threads have 2 MB, and RUST_MIN_STACK, which would
  change that, must be set before the first of them starts. Our threads have room for as many levels as the command
  limit allows. The room is address space: memory is used only as deep as a script goes.
* A few builtins (`uniq -f` with a huge number, some extended globs) look at neither timeout nor cancellation. In
  bashkit's shared pool, one such command per core stops every sandbox of the process; here it keeps its thread.
* It is faster: 1.1 ms a command instead of 1.6 ms.

A thread cannot be killed, so this engine is for scripts that are trusted not to be hostile on purpose.
"""

from __future__ import annotations

import asyncio
import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any

from flue.errors import SandboxError
from flue.ports import FileStat
from flue.sandboxes.bashkit_commands import make_sleep, scripts_folder
from flue.sandboxes.bashkit_files import BashkitFiles
from flue.sandboxes.bashkit_shell import Printed, ended, open_shell, with_stdin
from flue.sandboxes.engine import Command, EngineOptions, Limits, Outcome, as_outcome, as_stat

if TYPE_CHECKING:
    from bashkit import Bash, FileSystem

GRACE = 1.0
"""Seconds that a command which was told to stop may take to do so, before it is left behind."""

_STACK_PER_COMMAND = 26 * 1024
_STACK_MIN, _STACK_MAX = 64 << 20, 1 << 30

_starting = threading.Lock()


async def open_bashkit(options: EngineOptions) -> BashkitEngine:
    """Return an engine in this process that holds the given files."""
    return BashkitEngine(options)


class BashkitEngine:
    """Implements `Engine` in this process. Opening one imports `bashkit` (20 MB) if nothing else has."""

    about = ""

    def __init__(self, options: EngineOptions) -> None:
        try:
            import bashkit  # noqa: F401 - so that it is missed here, and not by the first command
        except ImportError as error:
            raise SandboxError(
                f"The virtual sandbox cannot start: {error}.",
                code="sandbox_unavailable",
                hint="Install the package bashkit for this platform, or use local().",
            ) from error
        self._files = BashkitFiles()
        self._limits = options.limits
        self._network = (options.network.allow, options.network.private) if options.network else None
        for path, content in options.files.items():
            self._files.write_file(path, content)

    @cached_property
    def _scripts(self) -> FileSystem:
        return scripts_folder()

    async def read_file(self, path: str) -> bytes:
        """Return the whole file; symlinks are followed."""
        return self._files.read_file(path)

    async def write_file(self, path: str, content: bytes) -> None:
        """Write the whole file and create missing parent directories."""
        self._files.write_file(path, content)

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
        """Run a command. Cancelling the awaiting task ends it. Raises `OSError` when its directory is missing."""
        seconds = min(command.seconds, self._limits.seconds)
        cancelled = threading.Event()
        shell = open_shell(
            self._files,
            self._scripts,
            cwd=command.cwd,
            env=command.env,
            commands=self._limits.commands,
            loop_iterations=self._limits.loop_iterations,
            seconds=seconds,
            network=self._network,
            builtins={"sleep": make_sleep(cancelled)},
        )
        return await _Run(shell, command, self._limits, cancelled).outcome(seconds)

    async def close(self) -> None:
        """Do nothing: the files go with the engine."""


class _Run:
    """One command in its thread (SBX-10)."""

    def __init__(self, shell: Bash, command: Command, limits: Limits, cancelled: threading.Event) -> None:
        self._shell = shell
        self._cancelled = cancelled
        self._script = with_stdin(shell, command.script, command.stdin)
        self._stack = min(max(limits.commands * _STACK_PER_COMMAND, _STACK_MIN), _STACK_MAX)
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[Any] = self._loop.create_future()
        self._printed = Printed()

    async def outcome(self, seconds: float) -> Outcome:
        """Run the command and return how it ended, at most `seconds` and twice GRACE from now."""
        self._start()
        try:
            await asyncio.wait({self._done}, timeout=seconds + GRACE)
        except asyncio.CancelledError:
            await self._stop()
            raise
        if not self._done.done():
            await self._stop()
        if not self._done.done():
            note = "The command does not react to its timeout and was left running; what it still writes is kept."
            stdout, stderr, _ = self._printed.taken()
            return Outcome(stdout, stderr, 1, "timeout", f"execution timeout ({seconds:g}s)", note)
        return self._ended(self._done.result())

    async def _stop(self) -> None:
        """Tell the command to stop and give it time to do so: what it writes later would surprise."""
        self._cancelled.set()
        self._shell.cancel()
        await asyncio.wait({self._done}, timeout=GRACE)

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name="flue-sandbox", daemon=True)
        with _starting:
            # The stack size is a setting of the process, so it is put back at once.
            before = threading.stack_size(self._stack)
            try:
                thread.start()
            except RuntimeError as error:
                raise SandboxError(
                    f"No thread could be started for a command: {error}.",
                    hint=f"It asks for {self._stack >> 20} MiB of address space; Limits(commands=…) makes that less.",
                ) from error
            finally:
                threading.stack_size(before)

    def _work(self) -> None:
        try:
            result: Any = self._shell.execute_sync(self._script, on_output=self._printed)
        except Exception as error:  # noqa: BLE001 - handed to the task that waits
            result = error
        try:
            self._loop.call_soon_threadsafe(self._settle, result)
        except RuntimeError:
            # The event loop is closed: nobody waits any more.
            return

    def _settle(self, result: Any) -> None:
        if not self._done.cancelled():
            self._done.set_result(result)

    def _ended(self, result: Any) -> Outcome:
        if isinstance(result, Exception):
            raise SandboxError(f"The virtual sandbox failed: {result}.") from result
        return as_outcome(ended(result, self._printed))
