"""A transport's read stream that tells when it has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self


class Watched:
    """A read stream around the SDK's `inner`, which keeps it to itself that nothing more will come."""

    def __init__(self, inner: Any, lost: Callable[[], None]) -> None:
        self._inner = inner
        self._lost = lost

    @property
    def last_context(self) -> Any:
        """Return the sender's context variables, which the SDK restores."""
        return getattr(self._inner, "last_context", None)

    async def receive(self) -> Any:
        """Return the next message."""
        try:
            return await self._inner.receive()
        except Exception:
            self._lost()
            raise

    async def aclose(self) -> None:
        """Close the stream."""
        await self._inner.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._inner.__anext__()
        except Exception:
            self._lost()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
