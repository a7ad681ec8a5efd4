"""The stub of a container's Durable Object, as the rest of this room sees it: plain Python in, plain Python out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Protocol


class StubError(Exception):
    """What a method of the object raised, or the platform on the way to it.

    `name` is that of the JavaScript error; `code` is what `@cloudflare/sandbox` calls the failure, empty where the
    platform sent none.
    """

    def __init__(self, name: str, message: str, code: str = "") -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message
        self.code = code

    @property
    def no_such_method(self) -> bool:
        """Say whether the object's class does not have the method that was called."""
        return self.name == "TypeError" and "does not implement the method" in self.message


class ObjectStub(Protocol):
    """Calls methods of one Durable Object. Arguments and results are what JSON can hold."""

    async def call(self, method: str, *arguments: Any) -> Any:
        """Call a method. Raises `StubError`."""
        ...

    def stream(self, method: str, *arguments: Any) -> AsyncGenerator[bytes, None]:
        """Call a method that returns a stream, and yield what comes. Raises `StubError`."""
        ...


class NativeStub:
    """Implements `ObjectStub` over stubs as the platform has them, with the SDK's wrapper around them or without.

    `make` gives the stub for one call: one that has been disconnected fails ever after
    (developers.cloudflare.com/durable-objects/best-practices/error-handling).
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    async def call(self, method: str, *arguments: Any) -> Any:
        """Call a method."""
        from flue.cloudflare.platform import js_rpc

        return await js_rpc.call(self._make(), method, arguments)

    async def stream(self, method: str, *arguments: Any) -> AsyncGenerator[bytes, None]:
        """Call a method that returns a stream, and yield what comes."""
        from flue.cloudflare.platform import js_rpc

        async with aclosing(js_rpc.call_stream(self._make(), method, arguments)) as chunks:
            async for chunk in chunks:
                yield chunk
