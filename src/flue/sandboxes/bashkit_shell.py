"""One bash command: the shell it runs in, what it prints, and how it ended. Synchronous, for any thread or process."""

from __future__ import annotations

import errno

from flue.sandboxes.bashkit_commands import FOLDER
from flue.sandboxes.bashkit_files import BashkitFiles, file_error
from flue.sandboxes.places import HOME

TYPE_CHECKING = False  # see bashkit_files.py
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from bashkit import Bash, FileSystem

OUTPUT_LIMIT = 10 * 1024 * 1024
"""Bytes that bashkit keeps of each output stream (0.20.1, profile Interactive)."""
SMALL_OUTPUT_LIMIT = 1024 * 1024
"""The same for a small shell (profile Standard)."""

_STDIN, _SCRIPT = "/run/stdin", "/run/command"


def open_shell(files: BashkitFiles, scripts: FileSystem, *, cwd: str, **options: Any) -> Bash:
    """Return a shell for one command; `options` are those of `new_shell`.

    Raises `OSError` when `cwd` is no directory.
    """
    require_directory(files, cwd)
    shell = new_shell(cwd=cwd, **options)
    mount(shell, files, scripts)
    return shell


def require_directory(files: BashkitFiles, cwd: str) -> None:
    """Raise `OSError` when a command cannot begin in `cwd`."""
    if not files.is_directory(cwd, follow=True):
        raise file_error(errno.ENOTDIR, cwd)


def new_shell(
    *,
    cwd: str,
    env: Mapping[str, str],
    commands: int,
    loop_iterations: int,
    seconds: float,
    network: tuple[tuple[str, ...] | None, bool] | None,
    builtins: Mapping[str, Any],
    small: bool = False,
) -> Bash:
    """Return a shell that sees no files yet: its time runs from its command's beginning.

    `network` is what it may reach and whether private addresses too; None: nothing. A `small` one keeps
    SMALL_OUTPUT_LIMIT bytes of each stream, and has no sqlite3: WebAssembly has none.
    """
    from bashkit import Bash, ExecutionProfile

    return Bash(
        username="user",
        hostname="sandbox",
        cwd=cwd,
        env={"HOME": HOME, **env},
        profile=ExecutionProfile.Standard if small else ExecutionProfile.Interactive,
        max_commands=commands,
        max_loop_iterations=loop_iterations,
        timeout_seconds=seconds,
        sqlite=not small,
        custom_builtins=builtins,
        network=_network_option(network),
    )


def mount(shell: Bash, files: BashkitFiles, scripts: FileSystem) -> None:
    """Let a shell see the files, and the scripts that stand for commands."""
    files.mount_into(shell)
    shell.mount(FOLDER, scripts, read_only=True)


def with_stdin(shell: Bash, script: str, stdin: bytes | None) -> str:
    """Put script and input into the shell's own, short-lived files, and return the line that runs them."""
    if stdin is None:
        return script
    files = shell.fs()
    files.mkdir("/run", recursive=True)
    try:
        files.write_file(_STDIN, stdin)
        files.write_file(_SCRIPT, script.encode())
    except RuntimeError as error:
        raise file_error(errno.EFBIG, "standard input", str(error).removeprefix("io error: ")) from None
    # A redirection would hold four copies of the input against bashkit's limit of 32 MB in flight.
    return f"cat {_STDIN} | bash {_SCRIPT}"


class Printed:
    """What a command has printed so far, up to a limit. bashkit forgets it when a limit ends the command."""

    def __init__(self, limit: int = OUTPUT_LIMIT) -> None:
        self.limit = limit
        self._chunks: list[tuple[str, str]] = []
        self._room = [limit, limit]

    def __call__(self, stdout: str, stderr: str) -> None:
        """Take a piece; may be called from any thread."""
        kept = []
        for stream, text in enumerate((stdout, stderr)):
            piece = text[: self._room[stream]]
            self._room[stream] -= len(piece)
            kept.append(piece)
        if any(kept):
            self._chunks.append((kept[0], kept[1]))

    def taken(self, start: int = 0) -> tuple[bytes, bytes, int]:
        """Return both streams from the piece number `start` on, and the number of pieces so far."""
        chunks = self._chunks[start:]
        stdout, stderr = ("".join(chunk[stream] for chunk in chunks).encode(errors="replace") for stream in (0, 1))
        return stdout[: self.limit], stderr[: self.limit], start + len(chunks)


def ended(result: Any, printed: Printed) -> tuple[bytes, bytes, int, str, str, str]:
    """Return how a command ended, as the fields of an `Outcome`, from bashkit's result."""
    if result.error is None:
        return (
            result.stdout_bytes,
            result.stderr_bytes,
            result.exit_code,
            "exited",
            "",
            _cut_note(result, printed.limit),
        )
    detail = result.error.removeprefix("resource limit exceeded: ").removeprefix("execution error: ")
    stdout, stderr, _ = printed.taken()
    if detail.startswith("parse error"):
        # bash's own status for a syntax error; bashkit's is 1.
        return stdout, stderr + f"bash: {detail}\n".encode(errors="replace"), 2, "exited", "", ""
    # "cancelled" is seen here only when the timeout went unnoticed and the command was told to stop.
    timed_out = "execution timeout" in detail or "cancelled" in detail
    return stdout, stderr, 1, "timeout" if timed_out else "limit", detail, ""


def _cut_note(result: Any, limit: int) -> str:
    cut = [name for name in ("stdout", "stderr") if getattr(result, f"{name}_truncated")]
    return f"{' and '.join(cut)} ended here after {limit >> 20} MiB; the rest was dropped." if cut else ""


def _network_option(network: tuple[tuple[str, ...] | None, bool] | None) -> Any:
    if network is None:
        return None
    allow, private = network
    reach = {"allow_all": True} if allow is None else {"allow": list(allow)}
    return {**reach, "block_private_ips": not private}
