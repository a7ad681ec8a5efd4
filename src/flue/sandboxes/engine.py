"""The engine protocol: what holds the files and runs the commands of a virtual sandbox.

Everything that crosses it is bytes or plain data, and every method is async. An engine may therefore live in this
process, in a worker process, or in a Worker where commands run synchronously. Paths are absolute and normalised;
file errors are the `OSError` family with the path in `filename`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, cast, get_args

from flue.errors import DefinitionError
from flue.ports import FileStat


@dataclass(frozen=True, slots=True)
class Limits:
    """What one command may use.

    `commands` and `loop_iterations` (of any one loop, awk's included) are counts, `seconds` is the longest run time,
    whatever timeout a caller asks for. With `commands` far above its default, a script that calls itself can overflow
    the stack, which ends the process it runs in: isolate such sandboxes. Raises `DefinitionError` for values that are
    not positive.
    """

    commands: int = 20_000
    loop_iterations: int = 100_000
    seconds: float = 600.0

    def __post_init__(self) -> None:
        for name in ("commands", "loop_iterations"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise DefinitionError(f"Limits: {name} must be a whole number from 1, got {value!r}.")
        seconds: object = self.seconds
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0.0 < seconds < math.inf:
            raise DefinitionError(f"Limits: seconds must be a positive number, got {seconds!r}.")


@dataclass(frozen=True, slots=True)
class Network:
    """What `curl` and `wget` inside the sandbox may reach.

    `allow` is a list of URL prefixes such as `https://api.example.com/v1`; None means every address. Loopback,
    link-local and private addresses are refused unless `private` is true.
    """

    allow: tuple[str, ...] | None = None
    private: bool = False


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What an engine starts with: files by absolute path, limits, and the network (None: none)."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    network: Network | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """A command to run: a bash script, its directory, extra environment, standard input, and its time in seconds."""

    script: str
    cwd: str
    seconds: float
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes | None = None


Ending = Literal["exited", "timeout", "limit", "crashed"]
ENDINGS: tuple[str, ...] = get_args(Ending)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended and what it printed until then.

    `limit` means that the engine stopped it; `detail` then names the limit. `crashed` means that the process it ran in
    died; `detail` then says of what, and `exit_code` is 128 and the signal. `note` is what a reader of the output has
    to know beside it (output was cut, what became of files), empty as a rule.
    """

    stdout: bytes
    stderr: bytes
    exit_code: int
    ending: Ending = "exited"
    detail: str = ""
    note: str = ""


def as_stat(kind: str, size: int, modified: float) -> FileStat:
    """Return what an engine knows of a path as the sandbox port has it."""
    return FileStat(kind == "file", kind == "directory", kind == "symlink", size, modified)


def as_outcome(fields: tuple[bytes, bytes, int, str, str, str]) -> Outcome:
    """Return an outcome from its fields. Raises `ValueError` when the ending is none."""
    stdout, stderr, exit_code, ending, detail, note = fields
    if ending not in ENDINGS:
        raise ValueError(ending)
    return Outcome(stdout, stderr, exit_code, cast("Ending", ending), detail, note)


class Engine(Protocol):
    """Holds the files of one sandbox and runs its commands. File methods are those of `flue.ports.Sandbox`."""

    @property
    def about(self) -> str:
        """Return what a model should know about commands here, beside what holds for every engine; empty as a rule."""
        ...

    async def read_file(self, path: str) -> bytes:
        """Return the whole file; symlinks are followed."""
        ...

    async def write_file(self, path: str, content: bytes) -> None:
        """Write the whole file and create missing parent directories."""
        ...

    async def stat(self, path: str) -> FileStat:
        """Describe a path without following a final symlink."""
        ...

    async def readdir(self, path: str) -> list[str]:
        """Return the names in a directory, sorted."""
        ...

    async def exists(self, path: str) -> bool:
        """Say whether the path leads to something; never raises."""
        ...

    async def mkdir(self, path: str, *, recursive: bool) -> None:
        """Create a directory."""
        ...

    async def rm(self, path: str, *, recursive: bool, force: bool) -> None:
        """Remove a file or a tree."""
        ...

    async def run(self, command: Command) -> Outcome:
        """Run a command. Cancelling the awaiting task ends it. Raises `OSError` when its directory is missing."""
        ...

    async def close(self) -> None:
        """Give back what the engine holds: its files are gone. Closing twice is fine."""
        ...


class OpenEngine(Protocol):
    """Starts an engine."""

    async def __call__(self, options: EngineOptions) -> Engine:
        """Return an engine that holds just the given files. Raises `SandboxError` when it cannot start."""
        ...
