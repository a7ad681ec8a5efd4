"""One connection to an MCP server, held by a task of its own.

The SDK is built of anyio task groups, which must be left by the task that entered them, in reverse order. A user opens
a server in one task and closes it in another, or while another server is still open. So one task enters, waits and
leaves; everybody else only signals it. Requests are safe from any task of the same event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

from flue.mcp.failure import describe, single_cause
from flue.mcp.http import ATTEMPT, Attempt

if TYPE_CHECKING:
    from mcp import types
    from mcp.client import ClientSession, Transport

logger = logging.getLogger("flue.mcp")

CLOSE_TIMEOUT = 10.0
"""Seconds that ending a connection may take. A child process gets about 6 of them before it is killed."""
PROBE_TIMEOUT = 5.0
"""Seconds that a server which let a call time out has to show that it still answers at all."""
MAX_PAGES = 200


class Wire(Protocol):
    """A way to reach one server, used again for every reconnection."""

    @property
    def label(self) -> str:
        """Return the address as messages show it: without secrets."""
        ...

    def open(self, lost: Callable[[], None]) -> AbstractAsyncContextManager[Any]:
        """Return the SDK's transport; `lost` is called when nothing more can come of it."""
        ...

    def last_words(self) -> str:
        """Return what the server said to a human before it went away, or an empty text."""
        ...


class ListingError(Exception):
    """The server's list of tools never ends."""


class Connection:
    """An open SDK client. `tools` is what the server listed; `failure` says why it could not be opened."""

    def __init__(self, wire: Wire, name: str, connect_timeout: float | None) -> None:
        self._wire = wire
        self._name = name
        self._connect_timeout = connect_timeout
        self._settled = asyncio.Event()
        self._stop = asyncio.Event()
        self._session: ClientSession | None = None
        self.tools: list[types.Tool] = []
        self.instructions = ""
        self.failure: BaseException | None = None
        self.attempt = Attempt()
        """What HTTP said while connecting."""
        self.broken_by = ""
        """What ended it after it had been open, when the SDK raised something."""
        self.suspect = False
        """Set after a call that timed out: whether the server is still there must be seen before the next."""
        self._task = asyncio.create_task(self._hold(), name=f"mcp server {name}")
        # Also of a task that was cancelled before its first step.
        self._task.add_done_callback(lambda _: self._settled.set())

    @property
    def is_open(self) -> bool:
        """Say whether requests may be sent."""
        return self._session is not None and not self._stop.is_set()

    async def opened(self) -> bool:
        """Wait until the connection is open (True) or has failed (False); being cancelled ends it."""
        try:
            await self._settled.wait()
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait([self._task])
            raise
        return self.is_open

    def lose(self) -> None:
        """Use it no more; it is closed in the background."""
        self._stop.set()

    def give_up(self) -> None:
        """End it if it is still being opened: nobody knows how long that may take."""
        if not self._settled.is_set():
            self._task.cancel()

    async def close(self) -> None:
        """End it and wait until it has ended: the child process is gone, the server knows."""
        self._stop.set()
        await asyncio.wait([self._task])

    async def call(self, tool: str, arguments: dict[str, Any], timeout: float | None) -> types.CallToolResult:
        """Send one call. Raises what the SDK raises: `MCPError`, pydantic's `ValidationError`."""
        from mcp import types

        # Not session.call_tool: that checks results with regular expressions which the server chose.
        request = types.CallToolRequest(params=types.CallToolRequestParams(name=tool, arguments=arguments))
        return await self._open_session().send_request(
            request, types.CallToolResult, request_read_timeout_seconds=timeout
        )

    async def list_tools(self) -> list[types.Tool]:
        """Return the tools of all pages. Raises `ListingError` when pages repeat or do not end."""
        from mcp import types

        found: list[types.Tool] = []
        seen: set[str] = set()
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await self._open_session().list_tools(params=types.PaginatedRequestParams(cursor=cursor))
            found += page.tools
            cursor = page.next_cursor
            if not cursor:
                return found
            if cursor in seen:
                raise ListingError(f"its list of tools comes back to the page {cursor[:100]!r}")
            seen.add(cursor)
        raise ListingError(f"its list of tools has more than {MAX_PAGES} pages")

    async def is_alive(self) -> bool:
        """Say whether the server still answers."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                await self._open_session().list_tools()
        except Exception:  # noqa: BLE001 - whatever it is, it is no answer
            return False
        self.suspect = False
        return True

    def _open_session(self) -> ClientSession:
        assert self._session is not None
        return self._session

    async def _hold(self) -> None:
        ATTEMPT.set(self.attempt)
        try:
            async with asyncio.timeout(self._connect_timeout) as limit:
                await self._live(limit)
        except Exception as error:  # noqa: BLE001 - reported by whoever opened it, or by the calls under way
            self._report(single_cause(error))
        except asyncio.CancelledError as error:
            self.failure = error
            raise
        finally:
            self._stop.set()
            self._settled.set()

    async def _live(self, limit: asyncio.Timeout) -> None:
        from mcp import Client

        async with Client(
            self._transport(), client_info=_ourselves(), cache=None, logging_callback=self._log
        ) as client:
            self._session = client.session
            self.instructions = client.instructions or ""
            if client.server_capabilities.tools is not None:
                self.tools = await self.list_tools()
            limit.reschedule(None)
            self._settled.set()
            await self._stop.wait()
            limit.reschedule(asyncio.get_running_loop().time() + CLOSE_TIMEOUT)

    def _transport(self) -> Transport:
        return self._wire.open(self.lose)

    def _report(self, error: BaseException) -> None:
        if not self._settled.is_set():
            self.failure = error
        elif not isinstance(error, TimeoutError):
            self.broken_by = describe(error)
            logger.warning("The connection to the MCP server %s broke: %s", self._name, describe(error))

    async def _log(self, params: types.LoggingMessageNotificationParams) -> None:
        level = {"debug": logging.DEBUG, "info": logging.INFO, "notice": logging.INFO}.get(
            params.level, logging.WARNING
        )
        logger.log(level, "%s: %s", self._name, str(params.data)[:2000])


def _ourselves() -> types.Implementation:
    from mcp import types

    from flue import __version__

    return types.Implementation(name="flue", version=__version__)
