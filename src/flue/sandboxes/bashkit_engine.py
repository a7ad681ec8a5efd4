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
import errno
import threading
from typing import TYPE_CHECKING, Any

from flue.errors import SandboxError
from flue.ports import FileStat
from flue.sandboxes.bashkit_commands import FOLDER, make_sleep, scripts_folder
from flue.sandboxes.bashkit_files import BashkitFiles, file_error
from flue.sandboxes.engine import HOME, Command, EngineOptions, Limits, Network, Outcome

if TYPE_CHECKING:
    from bashkit import Bash

GRACE = 1.0
"""Seconds that a command which was told to stop may take to do so, before it is left behind."""
OUTPUT_LIMIT = 10 * 1024 * 1024
"""Bytes that bashkit keeps of each output stream (0.20.1, profile Interactive)."""

_STACK_PER_COMMAND = 26 * 1024
_STACK_MIN, _STACK_MAX = 64 << 20, 1 << 30
_STDIN, _SCRIPT = "/run/stdin", "/run/command"

_starting = threading.Lock()


async def open_bashkit(options: EngineOptions) -> BashkitEngine:
    """Return an engine in this process that holds the given files."""
    return BashkitEngine(options)


class BashkitEngine:
    """Implements `Engine` in this process. Opening one imports `bashkit` (20 MB) if nothing else has."""

    def __init__(self, options: EngineOptions) -> None:
        try:
            self._files = BashkitFiles()
        except ImportError as error:
            raise SandboxError(
                f"The virtual sandbox cannot start: {error}.",
                code="sandbox_unavailable",
                hint="Install the package bashkit for this platform, or use local().",
            ) from error
        self._limits = options.limits
        self._network = _network_option(options.network)
        self._scripts = scripts_folder()
        for path, content in options.files.items():
            self._files.write_file(path, content)

    async def read_file(self, path: str) -> bytes:
        """Return the whole file; symlinks are followed."""
        return self._files.read_file(path)

    async def write_file(self, path: str, content: bytes) -> None:
        """Write the whole file and create missing parent directories."""
        self._files.write_file(path, content)

    async def stat(self, path: str) -> FileStat:
        """Describe a path without following a final symlink."""
        return self._files.stat(path)

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
        if not self._files.stat(command.cwd, follow=True).is_directory:
            raise file_error(errno.ENOTDIR, command.cwd)
        seconds = min(command.seconds, self._limits.seconds)
        cancelled = threading.Event()
        shell = self._shell(command, seconds, cancelled)
        return await _Run(shell, command, self._limits, cancelled).outcome(seconds)

    def _shell(self, command: Command, seconds: float, cancelled: threading.Event) -> Bash:
        from bashkit import Bash, ExecutionProfile

        shell = Bash(
            username="user",
            hostname="sandbox",
            cwd=command.cwd,
            env={"HOME": HOME, **command.env},
            # Standard would keep 1 MiB of output and count commands twice.
            profile=ExecutionProfile.Interactive,
            max_commands=self._limits.commands,
            max_loop_iterations=self._limits.loop_iterations,
            timeout_seconds=seconds,
            sqlite=True,
            custom_builtins={"sleep": make_sleep(cancelled)},
            network=self._network,
        )
        self._files.mount_into(shell)
        shell.mount(FOLDER, self._scripts, read_only=True)
        return shell


class _Run:
    """One command in its thread."""

    def __init__(self, shell: Bash, command: Command, limits: Limits, cancelled: threading.Event) -> None:
        self._shell = shell
        self._cancelled = cancelled
        self._script = _with_stdin(shell, command) if command.stdin is not None else command.script
        self._stack = min(max(limits.commands * _STACK_PER_COMMAND, _STACK_MIN), _STACK_MAX)
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[Any] = self._loop.create_future()
        # What was printed so far. bashkit forgets it when a limit ends the command.
        self._printed: list[tuple[str, str]] = []

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
            return Outcome(*self._output(), 1, "timeout", f"execution timeout ({seconds:g}s)", note)
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
            result: Any = self._shell.execute_sync(self._script, on_output=self._collect)
        except Exception as error:  # noqa: BLE001 - handed to the task that waits
            result = error
        try:
            self._loop.call_soon_threadsafe(self._settle, result)
        except RuntimeError:
            # The event loop is closed: nobody waits any more.
            return

    def _collect(self, stdout: str, stderr: str) -> None:
        self._printed.append((stdout, stderr))

    def _settle(self, result: Any) -> None:
        if not self._done.cancelled():
            self._done.set_result(result)

    def _output(self) -> tuple[bytes, bytes]:
        printed = tuple(self._printed)
        return "".join(out for out, _ in printed).encode(), "".join(err for _, err in printed).encode()

    def _ended(self, result: Any) -> Outcome:
        if isinstance(result, Exception):
            raise SandboxError(f"The virtual sandbox failed: {result}.") from result
        if result.error is None:
            return Outcome(result.stdout_bytes, result.stderr_bytes, result.exit_code, note=_cut_note(result))
        detail = result.error.removeprefix("resource limit exceeded: ").removeprefix("execution error: ")
        stdout, stderr = self._output()
        if detail.startswith("parse error"):
            # bash's own status for a syntax error; bashkit's is 1.
            return Outcome(stdout, stderr + f"bash: {detail}\n".encode(), 2)
        # "cancelled" is seen here only when the timeout went unnoticed and the command was told to stop.
        timed_out = "execution timeout" in detail or "cancelled" in detail
        return Outcome(stdout, stderr, 1, "timeout" if timed_out else "limit", detail)


def _cut_note(result: Any) -> str:
    cut = [name for name in ("stdout", "stderr") if getattr(result, f"{name}_truncated")]
    return f"{' and '.join(cut)} ended here after {OUTPUT_LIMIT >> 20} MiB; the rest was dropped." if cut else ""


def _with_stdin(shell: Bash, command: Command) -> str:
    """Put script and input into the shell's own, short-lived files, and return the line that runs them."""
    files, stdin = shell.fs(), command.stdin or b""
    files.mkdir("/run", recursive=True)
    try:
        files.write_file(_STDIN, stdin)
        files.write_file(_SCRIPT, command.script.encode())
    except RuntimeError as error:
        raise file_error(errno.EFBIG, "standard input", str(error).removeprefix("io error: ")) from None
    # A redirection would hold four copies of the input against bashkit's limit of 32 MB in flight.
    return f"cat {_STDIN} | bash {_SCRIPT}"


def _network_option(network: Network | None) -> Any:
    if network is None:
        return None
    reach = {"allow_all": True} if network.allow is None else {"allow": list(network.allow)}
    return {**reach, "block_private_ips": not network.private}
