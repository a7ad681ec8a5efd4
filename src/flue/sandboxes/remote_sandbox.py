"""The `Sandbox` port over scripts: all that a provider has to offer is a `RemoteShell`."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Awaitable, Callable, Mapping

from flue.errors import SandboxError
from flue.harness.env import SessionEnv
from flue.ports import ExecResult, FileStat
from flue.sandboxes import remote_files
from flue.sandboxes.remote_command import run_command
from flue.sandboxes.remote_shell import RemoteShell, ask

CONTAINER = (
    "A Linux container of its own, with bash and the programs of its image. Files last as long as the container runs: "
    "it may be stopped when nothing was asked of it for some minutes, and starts anew from its image. Every cd, export "
    "and function is gone when the command ends."
)
"""What a model should know of a container that its provider stops when it is idle."""
SEEN = "/tmp/.flue-seen-"  # noqa: S108 - over there
"""Begins the names of files in the place that say for whom it has been opened since it started."""
_ARRIVE = """cd -- "$p" || exit 1
if [ -e "$seen" ]; then echo again; else : >"$seen"; fi 2>/dev/null; true"""


async def open_remote(
    shell: RemoteShell,
    description: str,
    *,
    id: str,
    cwd: str,
    on_close: Callable[[], Awaitable[None]] | None = None,
) -> SessionEnv:
    """Return an environment in a place, for the instance or run `id`, with `cwd` as its working directory.

    When the place has started anew since it was last opened for `id`, its sandbox is `ephemeral`. Raises
    `SandboxError`: code `missing_directory` when the working directory is none.
    """
    seen = f"{SEEN}{hashlib.sha256(id.encode()).hexdigest()[:16]}"
    try:
        found = await ask(shell, f"seen={shlex.quote(seen)}\n{_ARRIVE}", cwd)
    except OSError as error:
        raise SandboxError(
            f"{shell.title} has no directory {cwd}: {error.strerror}.",
            code="missing_directory",
            hint="Create it in the image's Dockerfile, or pass another cwd.",
        ) from error
    sandbox = RemoteSandbox(shell, description, ephemeral=found != b"again\n")
    return SessionEnv(sandbox, cwd, on_close=on_close)


class RemoteSandbox:
    """A Linux that a provider runs, with bash in it. Holds nothing itself: dropping it changes nothing over there.

    Every method raises `SandboxError` when the place cannot be reached. A file is at most 16 MiB, an output 8 MiB.
    `ephemeral` says that files of an earlier time are not there, so that conversations are told.
    """

    def __init__(self, shell: RemoteShell, description: str, *, ephemeral: bool = False) -> None:
        self.shell = shell
        self.description = description
        self.ephemeral = ephemeral

    async def read_file(self, path: str) -> bytes:
        """Return the whole file; symlinks are followed, but never to a device or a pipe, which may have no end."""
        return await remote_files.read_file(self.shell, path)

    async def write_file(self, path: str, content: bytes) -> None:
        """Write the whole file and create missing parent directories."""
        await remote_files.write_file(self.shell, path, content)

    async def stat(self, path: str) -> FileStat:
        """Describe a path without following a final symlink; `mtime` has whole seconds."""
        return await remote_files.stat(self.shell, path)

    async def readdir(self, path: str) -> list[str]:
        """Return the names in a directory, dotfiles included, sorted."""
        return await remote_files.readdir(self.shell, path)

    async def exists(self, path: str) -> bool:
        """Say whether the path leads to something; no path makes it raise."""
        return await remote_files.exists(self.shell, path)

    async def mkdir(self, path: str, *, recursive: bool = False) -> None:
        """Create a directory; with `recursive` create parents and accept an existing directory."""
        await remote_files.mkdir(self.shell, path, recursive=recursive)

    async def rm(self, path: str, *, recursive: bool = False, force: bool = False) -> None:
        """Remove a file, or with `recursive` a tree; with `force` a missing path is fine."""
        await remote_files.rm(self.shell, path, recursive=recursive, force=force)

    async def exec(
        self,
        command: str,
        *,
        cwd: str,
        env: Mapping[str, str] | None = None,
        stdin: str | bytes | None = None,
        timeout: float | None = None,
    ) -> ExecResult:
        """Run a command in bash; see `run_command`."""
        return await run_command(self.shell, command, cwd=cwd, env=env, stdin=stdin, timeout=timeout)
