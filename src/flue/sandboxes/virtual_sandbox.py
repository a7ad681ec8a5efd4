"""`virtual()`: the default sandbox, with bash and files in memory and nothing of the host (SBX-01)."""

from __future__ import annotations

import posixpath
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from flue.errors import DefinitionError, SandboxError
from flue.harness.env import SessionEnv
from flue.ports import ExecResult, FileStat
from flue.sandboxes.bashkit_engine import open_bashkit
from flue.sandboxes.engine import Command, Engine, EngineOptions, Limits, Network, OpenEngine
from flue.sandboxes.isolation import default_pool
from flue.sandboxes.places import KEPT, WORKSPACE, kept_in
from flue.sandboxes.results import TIMEOUT_EXIT_CODE, check_environment, text_result, timeout_note
from flue.sandboxes.synchronous_engine import open_synchronous

if TYPE_CHECKING:
    from flue.sandboxes.worker_pool import WorkerPool


def virtual(
    files: Mapping[str, str | bytes] | None = None,
    *,
    network: bool | Sequence[str] | Network = False,
    limits: Limits | None = None,
    cwd: str = WORKSPACE,
    isolated: bool | WorkerPool | None = None,
) -> VirtualSandboxFactory:
    """Return a factory of virtual sandboxes: every harness gets a fresh file system that holds `files`.

    `files` maps paths to text (written as UTF-8) or bytes; relative paths count from /workspace. `directory("docs")`
    makes such a mapping from a directory of the host. `cwd` is where commands start.

    Inside is bash with the usual text tools (grep, sed, awk, find, jq, sqlite3, tar …) but no processes, git, python
    or package managers. Files in /workspace, /home/user and /tmp last from one command to the next; whatever a command
    writes elsewhere, and `cd`, exports and functions, ends with it. Nothing survives the process.

    `network` is what curl may reach: False nothing, True every public address, a list of URL prefixes, or a `Network`.

    `isolated` is where commands run. False: in this process, in threads; `limits` and timeouts then hold for scripts
    that err, not against ones written to do harm. True: in a worker process of the sandbox's own, which a script may
    bring down but not leave; a `WorkerPool` gives the worker. None, the default: as the pool of this event loop says
    (`WorkerPool.make_default`; a server has one), without one in this process.

    Raises `DefinitionError` for arguments of the wrong kind.
    """
    return VirtualSandboxFactory(
        EngineOptions(_checked_files(files or {}), limits or Limits(), _checked_network(network)),
        _checked_directory(cwd),
        _engine(isolated),
    )


class VirtualSandboxFactory:
    """Makes virtual sandboxes. Built by `virtual()`."""

    def __init__(self, options: EngineOptions, cwd: str, open_engine: OpenEngine) -> None:
        self._options = options
        self._cwd = cwd
        self._open_engine = open_engine

    async def create_session_env(self, *, id: str, cwd: str | None = None) -> SessionEnv:
        """Return the environment of a new sandbox; its working directory exists. Raises `SandboxError`."""
        engine = await self._open_engine(self._options)
        sandbox = VirtualSandbox(engine, self._options.limits, network=self._options.network is not None)
        env = SessionEnv(sandbox, self._cwd, on_close=sandbox.close)
        for path in {self._cwd, env.resolve_path(cwd or ".")}.difference(KEPT):
            if not await engine.exists(path):
                await engine.mkdir(path, recursive=True)
        return env

    def __repr__(self) -> str:
        return f"virtual({len(self._options.files)} files, cwd={self._cwd!r})"


_HAS_THREADS = sys.platform != "emscripten"
_STOPPED = {"limit": "The command was stopped: {}.", "crashed": "The command was ended: {}."}


class VirtualSandbox:
    """Implements the `Sandbox` port over an engine."""

    ephemeral = True
    """Its files end with it. A conversation that goes on in another sandbox is told so."""

    def __init__(self, engine: Engine, limits: Limits, *, network: bool = False) -> None:
        self._engine = engine
        self._limits = limits
        self.description = _description(engine.about, network=network)
        """What a model should know about the place its commands run in."""

    async def read_file(self, path: str) -> bytes:
        """Return the whole file; symlinks are followed."""
        return await self._engine.read_file(path)

    async def write_file(self, path: str, content: bytes) -> None:
        """Write the whole file, with its parents; `OSError` (EROFS) outside the directories that last."""
        await self._engine.write_file(path, content)

    async def stat(self, path: str) -> FileStat:
        """Describe a path without following a final symlink."""
        return await self._engine.stat(path)

    async def readdir(self, path: str) -> list[str]:
        """Return the names in a directory, dotfiles included, sorted."""
        return await self._engine.readdir(path)

    async def exists(self, path: str) -> bool:
        """Say whether the path leads to something; never raises."""
        return await self._engine.exists(path)

    async def mkdir(self, path: str, *, recursive: bool = False) -> None:
        """Create a directory; with `recursive` create parents and accept an existing directory."""
        await self._engine.mkdir(path, recursive=recursive)

    async def rm(self, path: str, *, recursive: bool = False, force: bool = False) -> None:
        """Remove a file, or with `recursive` a tree; with `force` a missing path is fine."""
        await self._engine.rm(path, recursive=recursive, force=force)

    async def close(self) -> None:
        """Give back what the sandbox holds: its files are gone. Closing twice is fine."""
        await self._engine.close()

    async def exec(
        self,
        command: str,
        *,
        cwd: str,
        env: Mapping[str, str] | None = None,
        stdin: str | bytes | None = None,
        timeout: float | None = None,
    ) -> ExecResult:
        """Run a bash script. A limit that ends it gives exit code 1 and says so on stderr after what was printed.

        In an isolated sandbox, a script that brings its process down has exit code 128 and the number of the signal;
        stderr then says why, and what became of the files.

        Raises `OSError` when `cwd` is missing, and `UsageError` for an impossible environment.
        """
        seconds = self._limits.seconds if timeout is None else min(timeout, self._limits.seconds)
        outcome = await self._engine.run(
            Command(
                command,
                cwd,
                seconds,
                check_environment(env),
                stdin.encode("utf-8", errors="replace") if isinstance(stdin, str) else stdin,
            )
        )
        printed = outcome.stdout, outcome.stderr
        if outcome.ending == "timeout":
            return text_result(*printed, TIMEOUT_EXIT_CODE, timeout_note(seconds), outcome.note)
        stopped = _STOPPED.get(outcome.ending, "").format(outcome.detail)
        return text_result(*printed, outcome.exit_code, stopped, outcome.note)


def _description(about: str, *, network: bool) -> str:
    missing = "git, python or package managers" if network else "network, git, python or package managers"
    return (
        "A simulated bash with files in memory. Files under /workspace, /home/user and /tmp last between commands; "
        "anything written elsewhere, and every cd, export and function, is gone when the command ends. There are no "
        f"background processes, and no {missing}. {about}"
    ).rstrip()


def _engine(isolated: bool | WorkerPool | None) -> OpenEngine:
    if isolated is False:
        return _open_here
    if isolated is not None and isolated is not True and not hasattr(isolated, "give_back"):
        raise DefinitionError(
            f"virtual(): isolated must be true, false or a WorkerPool, got {type(isolated).__name__}.",
        )

    async def open_engine(options: EngineOptions) -> Engine:
        pool = default_pool() if isolated is None or isolated is True else isolated
        if pool is None and isolated is None:
            return await _open_here(options)
        if not _HAS_THREADS:
            raise SandboxError(
                "An isolated sandbox needs processes, which a Worker has not.",
                code="sandbox_unavailable",
                hint="Leave out isolated=, or use a container sandbox.",
            )
        from flue.sandboxes.isolated_engine import open_isolated
        from flue.sandboxes.worker_pool import pool_of_this_loop

        return await open_isolated(options, pool or await pool_of_this_loop())

    return open_engine


async def _open_here(options: EngineOptions) -> Engine:
    return await (open_bashkit if _HAS_THREADS else open_synchronous)(options)


def _checked_files(files: Mapping[str, str | bytes]) -> dict[str, bytes]:
    if not isinstance(files, Mapping):
        raise DefinitionError(
            f"virtual(): files must map paths to text or bytes, got {type(files).__name__}.",
            hint='Write files={"notes.md": "…"}, or files=directory("docs").',
        )
    checked: dict[str, bytes] = {}
    for name, content in files.items():
        path = _inside(name, "a path of files")
        if path in KEPT:
            raise DefinitionError(f"virtual(): the path {name!r} of files is a directory.")
        if path in checked:
            raise DefinitionError(f"virtual(): two paths of files mean {path}.")
        checked[path] = _checked_content(name, content)
    for path in checked:
        above = posixpath.dirname(path)
        while above not in KEPT:
            if above in checked:
                raise DefinitionError(f"virtual(): {path} cannot be a file of files, as {above} is one.")
            above = posixpath.dirname(above)
    return checked


def _checked_content(name: str, content: object) -> bytes:
    if isinstance(content, bytes | bytearray | memoryview):
        return bytes(content)
    if not isinstance(content, str):
        raise DefinitionError(f"virtual(): the file {name!r} must be text or bytes, got {type(content).__name__}.")
    try:
        return content.encode()
    except UnicodeEncodeError:
        raise DefinitionError(
            f"virtual(): the file {name!r} is not valid Unicode text.", hint="Give its content as bytes."
        ) from None


def _checked_directory(path: str) -> str:
    return _inside(path, "cwd")


def _inside(path: object, what: str) -> str:
    """Return a path as an absolute one in a directory that lasts."""
    if not isinstance(path, str) or not path or "\0" in path:
        raise DefinitionError(f"virtual(): {what} must be a path, got {path!r}.")
    absolute = posixpath.normpath(posixpath.join(WORKSPACE, path)).replace("//", "/")
    if kept_in(absolute) is None:
        raise DefinitionError(
            f"virtual(): {what} is {path!r}, but only {', '.join(KEPT)} keep files.",
            hint="Use a path relative to /workspace.",
        )
    return absolute


def _checked_network(network: object) -> Network | None:
    if isinstance(network, Network):
        return network
    if isinstance(network, bool):
        return Network() if network else None
    if isinstance(network, Sequence) and not isinstance(network, str | bytes):
        prefixes = tuple(item for item in network if isinstance(item, str) and "://" in item)
        if len(prefixes) == len(network):
            return Network(allow=prefixes)
    raise DefinitionError(
        f"virtual(): network must be true, false or a list of URL prefixes, got {network!r}.",
        hint='For example network=["https://api.example.com"].',
    )
