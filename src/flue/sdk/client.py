"""The client."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Self

from flue.sdk.admin import Admin
from flue.sdk.agents import Agents
from flue.sdk.connections import Connect, WebSocketFactory, WebSocketUrl
from flue.sdk.requests import Headers, Requests
from flue.sdk.runs import Runs
from flue.sdk.workflows import Workflows

if TYPE_CHECKING:
    import httpx2


class AsyncClient:
    """Talks to a deployed app: `agents`, `workflows`, `runs` and `admin`. Belongs to one event loop.

    `base_url` may have a path, when the app is mounted at one. `token` is sent as a bearer token and `headers` (a
    mapping, or a function that gives one) with each HTTP request, never with WebSockets: for those, `websocket_url`
    may change the address, and `websocket` may open the connection. `websocket_base_path` takes the place of the base
    URL's path for WebSockets, `admin_base_path` for `admin`. `timeout` is how many seconds the answer to a request may
    take; None waits for as long as an agent works. `http_client` is used in place of one of its own, and stays open.
    """

    def __init__(
        self,
        *,
        base_url: str,
        token: str | None = None,
        headers: Headers | None = None,
        admin_base_path: str = "/admin",
        websocket_base_path: str = "",
        websocket_url: WebSocketUrl | None = None,
        websocket: WebSocketFactory | None = None,
        timeout: float | None = None,
        http_client: httpx2.AsyncClient | None = None,
    ) -> None:
        self._requests = Requests(base_url, token=token, headers=headers, timeout=timeout, http_client=http_client)
        self._connect = Connect(
            self._requests.base_url, base_path=websocket_base_path, rewrite=websocket_url, factory=websocket
        )
        self.runs = Runs(self._requests)
        self.agents = Agents(self._requests, self.runs, self._connect)
        self.workflows = Workflows(self._requests, self.runs, self._connect)
        self.admin = Admin(self._requests, admin_base_path)

    async def close(self) -> None:
        """Close its WebSockets and connections. What was accepted goes on."""
        await asyncio.gather(*(socket.close() for socket in tuple(self._connect.sockets)))
        await self._requests.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def create_flue_client(
    *,
    base_url: str,
    token: str | None = None,
    headers: Headers | None = None,
    admin_base_path: str = "/admin",
    websocket_base_path: str = "",
    websocket_url: WebSocketUrl | None = None,
    websocket: WebSocketFactory | None = None,
    timeout: float | None = None,
    http_client: httpx2.AsyncClient | None = None,
) -> AsyncClient:
    """Return an `AsyncClient` of the same arguments: the name that the JavaScript client has for it."""
    return AsyncClient(
        base_url=base_url,
        token=token,
        headers=headers,
        admin_base_path=admin_base_path,
        websocket_base_path=websocket_base_path,
        websocket_url=websocket_url,
        websocket=websocket,
        timeout=timeout,
        http_client=http_client,
    )
