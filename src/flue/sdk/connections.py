"""How a WebSocket is opened: its address, what a proxy adds to it, and by which package."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from weakref import WeakSet

from flue.errors import UsageError
from flue.sdk.errors import FlueSocketError
from flue.sdk.urls import BaseUrl, path_of

# Servers cut events at 1 MiB; a frame says a little more.
MAX_FRAME_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SocketTarget:
    """What a socket is for; `instance_id` is None for workflows."""

    target: Literal["agent", "workflow"]
    name: str
    instance_id: str | None = None

    @property
    def path(self) -> str:
        """Return its path below the app."""
        if self.instance_id is None:
            return path_of("workflows", self.name)
        return path_of("agents", self.name, self.instance_id)


class Connection(Protocol):
    """An open WebSocket: what a `websocket=` function gives. The connections of the package `websockets` are such."""

    async def send(self, message: str, /) -> None:
        """Send a text message."""

    async def recv(self) -> str | bytes:
        """Return the next message. Raises any exception when the connection has ended."""

    async def close(self, code: int = 1000, reason: str = "", /) -> None:
        """Close the connection."""


WebSocketFactory = Callable[[str], Any]
"""Opens a connection to an address; may be a coroutine function, or give something to await."""

WebSocketUrl = Callable[[str, SocketTarget], str | Awaitable[str]]
"""Returns the address to use in place of one: with a token in its query, for example."""


class Closable(Protocol):
    """A socket that the client closes at its own end."""

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close it."""


class Connect:
    """Opens WebSockets, and knows which there are. The token and headers of HTTP are not sent: a URL may be logged."""

    def __init__(
        self,
        base_url: BaseUrl,
        *,
        base_path: str = "",
        rewrite: WebSocketUrl | None = None,
        factory: WebSocketFactory | None = None,
    ) -> None:
        self._base_url = base_url
        self._base_path = base_path
        self._rewrite = rewrite
        self._factory = factory or _by_websockets
        self.sockets: WeakSet[Closable] = WeakSet()

    async def __call__(self, target: SocketTarget) -> Connection:
        """Open a connection. Raises `FlueSocketError` (`socket_refused`) when that fails."""
        url: Any = self._base_url.socket(target.path, self._base_path)
        if self._rewrite is not None:
            rewritten = self._rewrite(url, target)
            url = await rewritten if inspect.isawaitable(rewritten) else rewritten
        try:
            opening = self._factory(url)
            connection: Connection = await opening if inspect.isawaitable(opening) else opening
        except UsageError:
            raise
        except Exception as error:
            raise _refused(target, error) from error
        return connection


def _by_websockets(url: str) -> Any:
    try:
        from websockets.asyncio.client import connect
    except ImportError as error:
        raise UsageError(
            "WebSockets need a package that is not installed.",
            code="missing_package",
            hint="Install flue-agents[sdk], or pass websocket=.",
        ) from error
    return connect(url, max_size=MAX_FRAME_BYTES, compression=None)


def _refused(target: SocketTarget, error: Exception) -> FlueSocketError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    reason = f"HTTP {status}" if status else str(error).rstrip(".") or type(error).__name__
    hint = {
        401: "Sockets do not send token= or headers=: see websocket_url= and websocket=.",
        404: "Check the name, and that its module defines `websocket`.",
    }.get(status or 0, "")
    return FlueSocketError(
        f"The WebSocket to the {target.target} {target.name!r} was refused: {reason}.", code="socket_refused", hint=hint
    )
