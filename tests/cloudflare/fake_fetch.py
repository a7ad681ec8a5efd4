"""The platform's `fetch`, played over real HTTP by httpx2, with the habits that matter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx2

_T = TypeVar("_T")


class FakeFetch:
    """Begins requests. `pieces` of a body are buffers, as in Pyodide, and not bytes."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client
        self.exchanges: list[FakeExchange] = []

    def __call__(self, url: str, *, method: str, headers: Mapping[str, str], body: bytes | None) -> FakeExchange:
        if body is not None and method in ("GET", "HEAD"):
            raise TypeError("Request with a GET or HEAD method cannot have a body.")
        self.exchanges.append(
            FakeExchange(
                self._client, self._client.build_request(method, url, headers=dict(headers), content=body, timeout=None)
            )
        )
        return self.exchanges[-1]


class FakeExchange:
    """One request. As with a promise, giving up waiting stops nothing: only `abort` does."""

    def __init__(self, client: httpx2.AsyncClient, request: httpx2.Request) -> None:
        self._client = client
        self._request = request
        self._response: httpx2.Response | None = None
        self._pieces: AsyncIterator[bytes] | None = None
        self._task: asyncio.Task[Any] | None = None
        self.aborted = False
        self.over = False

    async def answer(self) -> tuple[int, Iterable[tuple[str, str]]]:
        self._response = await self._promise(self._client.send(self._request, stream=True, follow_redirects=False))
        self._pieces = self._response.aiter_bytes()
        return self._response.status_code, self._response.headers.multi_items()

    async def read(self) -> memoryview | None:
        assert self._pieces is not None
        piece = await self._promise(_next(self._pieces))
        self.over = piece is None
        return None if piece is None else memoryview(bytearray(piece))

    def abort(self) -> None:
        if self.over or self.aborted:
            return
        self.aborted = True
        if self._task is not None and not self._task.done():
            self._task.cancel()
        elif self._response is not None:
            self._task = asyncio.ensure_future(self._response.aclose())

    async def _promise(self, work: Coroutine[Any, Any, _T]) -> _T:
        self._task = task = asyncio.ensure_future(work)
        await asyncio.wait({task})
        if task.cancelled() or self.aborted:
            raise OSError("AbortError: This operation was aborted")
        try:
            return task.result()
        except httpx2.HTTPError as error:
            raise OSError(f"TypeError: fetch failed at {self._request.url}") from error


async def _next(pieces: AsyncIterator[bytes]) -> bytes | None:
    return await anext(pieces, None)


@asynccontextmanager
async def fake_fetch() -> AsyncIterator[FakeFetch]:
    """Open connections for a `FakeFetch`; what it left open is closed."""
    async with httpx2.AsyncClient(limits=httpx2.Limits(max_connections=None), verify=False) as client:
        fetch = FakeFetch(client)
        yield fetch
        for exchange in fetch.exchanges:
            exchange.abort()
            if exchange._task is not None:
                await asyncio.wait({exchange._task})
