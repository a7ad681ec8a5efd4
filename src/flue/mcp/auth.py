"""Authentication of HTTP requests to an MCP server."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

import httpx2

AuthHook = Callable[[], Mapping[str, str] | Awaitable[Mapping[str, str]]]
"""Returns the headers that authenticate a request, such as `{"Authorization": "Bearer …"}`."""


class AuthHookError(Exception):
    """The user's hook failed; no request was sent."""


class HookAuth(httpx2.Auth):
    """Asks the user's hook for headers once, and again whenever the server answers 401."""

    def __init__(self, hook: AuthHook) -> None:
        self._hook = hook
        self._headers: dict[str, str] | None = None
        self._lock = asyncio.Lock()

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Send the request, and once more with fresh headers when it was refused."""
        used = await self._current(None)
        request.headers.update(used)
        response = yield request
        if response.status_code == httpx2.codes.UNAUTHORIZED:
            request.headers.update(await self._current(used))
            yield request

    async def _current(self, refused: dict[str, str] | None) -> dict[str, str]:
        """Return the headers to use; parallel requests that were refused with the same ones refresh them once."""
        async with self._lock:
            if self._headers is None or self._headers is refused:
                self._headers = await self._ask()
            return self._headers

    async def _ask(self) -> dict[str, str]:
        try:
            answer = self._hook()
            return dict(await answer if inspect.isawaitable(answer) else answer)
        except Exception as error:
            raise AuthHookError(f"the auth hook failed: {type(error).__name__}: {error}") from error
