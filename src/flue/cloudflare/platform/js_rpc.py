"""Methods of other Workers' objects, called by RPC: what `js_bindings.ask` is for requests."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any

from pyodide.ffi import JsException, JsProxy
from workers import python_from_rpc, python_to_rpc

from flue.cloudflare.container.stub import StubError
from flue.cloudflare.platform.js_http import Native, read_chunks


async def call(stub: Native, method: str, arguments: Iterable[Any]) -> Any:
    """Call a method with what JSON can hold. Returns such a thing, or a `Native`. Raises `StubError`."""
    try:
        return python_from_rpc(await getattr(_unwrapped(stub), method)(*map(python_to_rpc, arguments)))
    except JsException as error:
        told = getattr(error, "errorResponse", None)
        raise StubError(error.name, error.message, str(getattr(told, "code", "") or "")) from error


async def call_stream(stub: Native, method: str, arguments: Iterable[Any]) -> AsyncGenerator[bytes, None]:
    """Call a method that returns a stream, and yield what comes. Raises `StubError`."""
    async with aclosing(read_chunks(await call(stub, method, arguments))) as chunks:
        try:
            async for chunk in chunks:
                yield chunk
        except ConnectionError as error:
            raise StubError("Error", f"Network connection lost: {error}") from error


def is_object_stub(value: Any) -> bool:
    """Say whether something is the stub of a Durable Object. Such a thing answers to every name."""
    native = _unwrapped(value)
    return isinstance(native, JsProxy) and native.constructor.name == "DurableObject"


def _unwrapped(stub: Any) -> Native:
    # A stub without the SDK's wrapper would answer to `_binding`, too.
    return stub if isinstance(stub, JsProxy) else getattr(stub, "_binding", None)
