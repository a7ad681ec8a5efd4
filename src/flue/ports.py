"""The ports: everything the harness needs from the world outside, as protocols.

Models, sandboxes, stores and hosts implement them. The core (definitions, harness, durable) reaches threads,
subprocesses, clocks, randomness and the network through these alone, so the same code runs in a Worker.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from flue.messages import AssistantContent, AssistantMessage, Json, ThinkingLevel, ToolSpecs, Transcript, Usage

T = TypeVar("T")

# ---------------------------------------------------------------------------------------------------- models


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is known of a model. Limits are in tokens, 0 = unknown; prices in US dollars per million tokens."""

    provider: str
    id: str
    api: str
    context_window: int = 0
    max_tokens: int = 0
    reasoning: bool = False
    input: tuple[Literal["text", "image"], ...] = ("text",)
    price_input: float = 0.0
    price_output: float = 0.0
    price_cache_read: float = 0.0
    price_cache_write: float = 0.0

    @property
    def specifier(self) -> str:
        """Return `provider/model-id`."""
        return f"{self.provider}/{self.id}"

    def to_json(self) -> Json:
        """Return the form that responses carry: `{"provider", "id"}`."""
        return {"provider": self.provider, "id": self.id}


DeltaType = Literal[
    "text_start",
    "text_delta",
    "text_end",
    "thinking_start",
    "thinking_delta",
    "thinking_end",
    "toolcall_start",
    "toolcall_delta",
    "toolcall_end",
]


@dataclass(slots=True)
class Delta:
    """A piece of an answer while it streams.

    `index` is the position of the block in the answer; `delta` the new text (of a tool call: of its JSON
    arguments); `content` the finished block, on `*_end`, and for `toolcall_start` a `ToolCall` with its id and name.
    """

    type: DeltaType
    index: int
    delta: str = ""
    content: AssistantContent | None = None


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One request to a model. `affinity` is stable per session: providers route it to a warm prompt cache."""

    system: str
    transcript: Transcript
    tools: ToolSpecs
    thinking: ThinkingLevel = "medium"
    max_tokens: int | None = None
    affinity: str | None = None


@runtime_checkable
class Model(Protocol):
    """A language model. Implementations keep no conversation."""

    @property
    def info(self) -> ModelInfo:
        """Return what is known of the model."""
        ...

    def stream(self, request: ModelRequest) -> AsyncIterator[Delta | AssistantMessage]:
        """Yield deltas while the answer arrives, then, last and exactly once, the whole `AssistantMessage`.

        Raises `ProviderError`; never retries by itself. Closing the iterator closes the connection.
        """
        ...


class ModelSource(Protocol):
    """Turns a specifier into a model."""

    def resolve(self, specifier: str, env: Mapping[str, Any]) -> Model:
        """Return the model for `provider/model-id`; `env` is where API keys are looked up.

        Raises `ModelSetupError` when the specifier is unknown or no key is to be found.
        """
        ...


# ------------------------------------------------------------------------------------------------- sandboxes


@dataclass(frozen=True, slots=True)
class ExecResult:
    """What a command gave. A non-zero `exit_code` is a result, not an error; 124 means that it timed out."""

    stdout: str
    stderr: str
    exit_code: int

    def to_json(self) -> Json:
        """Return the wire form."""
        return {"stdout": self.stdout, "stderr": self.stderr, "exitCode": self.exit_code}


@dataclass(frozen=True, slots=True)
class FileStat:
    """What a path is. `size` in bytes, `mtime` in seconds since the epoch (0 where the sandbox knows none)."""

    is_file: bool
    is_directory: bool
    is_symbolic_link: bool
    size: int
    mtime: float = 0.0


class Sandbox(Protocol):
    """What a sandbox provider implements. Every path it is given is absolute and normalised.

    File errors are the built-in `OSError` family with the path in the message; infrastructure failures are
    `SandboxError`. A provider never creates or deletes the resource behind it.
    """

    async def read_file(self, path: str) -> bytes:
        """Return the whole file; symlinks are followed."""
        ...

    async def write_file(self, path: str, content: bytes) -> None:
        """Write the whole file and create missing parent directories."""
        ...

    async def stat(self, path: str) -> FileStat:
        """Describe a path without following a final symlink; `FileNotFoundError` when it is missing."""
        ...

    async def readdir(self, path: str) -> list[str]:
        """Return the names in a directory, dotfiles included, sorted."""
        ...

    async def exists(self, path: str) -> bool:
        """Say whether the path exists; never raises."""
        ...

    async def mkdir(self, path: str, *, recursive: bool = False) -> None:
        """Create a directory; with `recursive` create parents and accept an existing directory."""
        ...

    async def rm(self, path: str, *, recursive: bool = False, force: bool = False) -> None:
        """Remove a file, or with `recursive` a tree; with `force` a missing path is fine."""
        ...

    async def exec(
        self,
        command: str,
        *,
        cwd: str,
        env: Mapping[str, str] | None = None,
        stdin: str | bytes | None = None,
        timeout: float | None = None,
    ) -> ExecResult:
        """Run a shell command. A timeout (seconds) gives exit code 124 and what was printed so far.

        Cancelling the awaiting task ends the command.
        """
        ...


# ----------------------------------------------------------------------------------------------------- store

SESSION_FORMAT = 3


@dataclass(frozen=True, slots=True)
class SessionHead:
    """A session without its entries. Times are ISO 8601 in UTC with milliseconds.

    `start` is the position of the first entry that what the model sees needs, counted from 0; `usage` is what the whole
    session has used. They are what a session is loaded with at a cost that does not grow with its history. A head that
    was written without them has `start` 0 and `usage` None: then all entries have to be read.
    """

    leaf_id: str | None
    metadata: Json
    created_at: str
    updated_at: str
    version: int = SESSION_FORMAT
    start: int = 0
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class EntryRow:
    """One entry of a session as a store keeps it: `body` is the entry's JSON text, opaque to the store."""

    id: str
    body: str


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session as loaded: its head, and its entries from position `first` on in the order they were appended."""

    head: SessionHead
    entries: tuple[EntryRow, ...]
    first: int = 0

    @property
    def count(self) -> int:
        """Return the number of all entries of the session, loaded or not."""
        return self.first + len(self.entries)


class Store(Protocol):
    """Where sessions live. Every method is one atomic transition."""

    @property
    def can_list(self) -> bool:
        """Say whether `list_sessions` works: a user's own session store need not be able to."""
        ...

    async def load_session(self, key: str, *, start: int | None = None) -> StoredSession | None:
        """Return the session with its entries from position `start` on (None: the head's `start`), or None.

        Entries before that cost nothing. Where there are fewer, none are returned, and `first` is their number.
        """
        ...

    def append_entries(
        self, key: str, head: SessionHead, entries: Sequence[EntryRow], *, expected: int, after: str | None = None
    ) -> Awaitable[None]:
        """Queue entries and the new head, in call order, creating the session when `expected` is 0.

        Awaiting the result waits until the write is durable. `expected` is the number of entries the caller has
        seen, `after` the id of the last of them: when the session has another number, or another entry there, the
        await raises `DurabilityError` (code `session_conflict`) and nothing is written. The number alone would let
        a second write in after a first one was refused, when somebody else had added just as many entries.
        """
        ...

    async def delete_sessions(self, keys: Sequence[str]) -> None:
        """Delete sessions and their entries; missing ones are fine."""
        ...

    async def list_sessions(self, prefix: str = "") -> list[str]:
        """Return the keys that start with `prefix`, sorted."""
        ...

    async def aclose(self) -> None:
        """Write what is queued and release the store."""
        ...


class SessionStore(Protocol):
    """A user's own store for whole sessions (`persist=` of an agent), in exchange format version 3."""

    async def save(self, id: str, data: Json) -> None:
        """Keep the session."""
        ...

    async def load(self, id: str) -> Json | None:
        """Return the session, or None."""
        ...

    async def delete(self, id: str) -> None:
        """Forget the session."""
        ...


# ------------------------------------------------------------------------------------------------------ host


class HttpResponse(Protocol):
    """A response whose body is still to be read. Header names are lower case."""

    status: int
    headers: Mapping[str, str]

    def aiter_bytes(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives, decoded from its content encoding."""
        ...

    async def aread(self) -> bytes:
        """Return the rest of the body."""
        ...

    async def aclose(self) -> None:
        """Drop the connection."""
        ...


class HttpTransport(Protocol):
    """Sends HTTP requests; the only way the core and the models reach the network."""

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str], content: bytes, read_timeout: float | None
    ) -> HttpResponse:
        """Send a request and return once the response headers are there.

        Follows no redirect. `read_timeout` is the longest silence accepted while reading, in seconds. Raises
        `ProviderError` with `status=None` and `retryable=True` for connection failures.
        """
        ...

    async def aclose(self) -> None:
        """Close pooled connections."""
        ...


class Clock(Protocol):
    """Time."""

    def now_ms(self) -> int:
        """Return milliseconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class OffLoop(Protocol):
    """Where functions are called that are not async, and so may block."""

    async def __call__(self, function: Callable[[], T], /) -> T:
        """Call it, in the caller's context; return what it returns, or raise what it raises."""
        ...


async def here(function: Callable[[], T], /) -> T:
    """Call a function where the caller is: an `OffLoop` for where nothing blocks."""
    return function()


class Ids(Protocol):
    """Fresh identifiers."""

    def ulid(self) -> str:
        """Return a 26-character ULID."""
        ...

    def uuid(self) -> str:
        """Return a random UUID."""
        ...

    def entry(self) -> str:
        """Return 8 hexadecimal digits."""
        ...
