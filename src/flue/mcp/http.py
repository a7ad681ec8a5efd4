"""An MCP server behind a URL: streamable HTTP, or the older transport over server-sent events.

The SDK sends requests in task groups of its own, where a refused connection would end every call under way and an HTTP
status is reduced to a text. So our client turns failures into responses, and notes for each call what really happened:
only then can a call that was certainly not executed be told from one that may have been.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from flue.certificates import trusted
from flue.mcp.watched import Watched

if TYPE_CHECKING:
    import httpx2

Transport = Literal["streamable-http", "sse"]

MAX_EVENT = 64 * 1024 * 1024
"""Bytes of one message over streamable HTTP; the SDK's own limit of 1 MiB is less than one photograph."""
CONNECT_SECONDS = 30.0
SILENCE_SECONDS = 300.0


@dataclass(slots=True)
class Attempt:
    """What HTTP said to one call.

    `status` is a refusing answer's; `error` what kept a request from being answered; `unsent` says that the server
    never saw the call; `expired` that it no longer knows the session, and so did not execute it.
    """

    status: int | None = None
    error: Exception | None = None
    unsent: bool = False
    expired: bool = False

    @property
    def not_executed(self) -> bool:
        """Say whether sending the call again cannot execute it twice."""
        return self.unsent or self.expired


ATTEMPT: ContextVar[Attempt | None] = ContextVar("flue_mcp_attempt", default=None)
"""The call that is being sent: the SDK sends it in a task that inherits the caller's context."""


class HttpWire:
    """A URL that is a server."""

    def __init__(
        self, url: str, transport: Transport, headers: Mapping[str, str], auth: Any, timeout: float | None
    ) -> None:
        self._url = url
        self._transport = transport
        self._headers = dict(headers)
        self._auth = auth
        self._timeout = timeout

    @property
    def label(self) -> str:
        """Return the URL without user, query and fragment, which may hold secrets."""
        import httpx2

        return str(httpx2.URL(self._url).copy_with(userinfo=b"", query=None, fragment=None))

    def last_words(self) -> str:
        """Return nothing: a server behind a URL has no stderr."""
        return ""

    @asynccontextmanager
    async def open(self, lost: Callable[[], None]) -> AsyncIterator[Any]:
        """Make an HTTP client and give it to the SDK's transport."""
        from mcp.client.sse import sse_client
        from mcp.client.streamable_http import streamable_http_client

        def client(*_: Any, **__: Any) -> httpx2.AsyncClient:
            # Over SSE a request that fails ends the SDK's writer: nothing sent later would ever be answered.
            return _noting_client(self._headers, self._auth, self._limits(), lost if over_sse else None)

        over_sse = self._transport == "sse"
        if over_sse:
            async with sse_client(self._url, httpx_client_factory=client) as (read, write):
                yield Watched(read, lost), write
        else:
            async with (
                client() as http,
                streamable_http_client(self._url, http_client=http, max_sse_event_size=MAX_EVENT) as (read, write),
            ):
                yield Watched(read, lost), write

    def _limits(self) -> httpx2.Timeout:
        import httpx2

        silence = None if self._timeout is None else max(SILENCE_SECONDS, self._timeout * 2)
        return httpx2.Timeout(CONNECT_SECONDS, read=silence)


def _noting_client(
    headers: Mapping[str, str], auth: Any, limits: httpx2.Timeout, lost: Callable[[], None] | None
) -> httpx2.AsyncClient:
    import httpx2

    from flue.mcp.auth import AuthHookError

    never_sent = (
        httpx2.ConnectError,
        httpx2.ConnectTimeout,
        httpx2.PoolTimeout,
        httpx2.UnsupportedProtocol,
        AuthHookError,
    )

    class NotingClient(httpx2.AsyncClient):
        async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
            attempt = ATTEMPT.get() or Attempt()
            try:
                response = await super().send(request, **options)
            except Exception as error:  # noqa: BLE001 - see the module's first lines
                attempt.error, attempt.unsent = error, isinstance(error, never_sent)
                response = httpx2.Response(503, request=request)
            else:
                if response.status_code >= 400:
                    attempt.status = response.status_code
                    attempt.expired = response.status_code == 404 and "mcp-session-id" in request.headers
            if lost is not None and response.status_code >= 400:
                lost()
            return response

    return NotingClient(headers=dict(headers), auth=auth, timeout=limits, verify=trusted())
