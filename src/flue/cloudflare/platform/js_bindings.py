"""The platform's environment: variables, and the objects that it binds names to."""

from __future__ import annotations

from asyncio import Future, ensure_future
from collections.abc import Awaitable
from typing import Any

import js
from pyodide.ffi import JsException, JsProxy, create_proxy, jsnull
from workers import import_from_javascript

from flue.cloudflare.platform.js_http import Native, Request, Response


def bindings() -> Native:
    """Return the environment as the platform has it."""
    return import_from_javascript("cloudflare:workers").env


def environment(env: Native) -> dict[str, Any]:
    """Return the environment, as a handler is given it, by name.

    Variables are text or JSON values, bindings the SDK's objects.
    """
    return {name: _variable(getattr(env, name)) for name in js.Object.keys(bindings())}


def _variable(value: Native) -> Any:
    plain = isinstance(value, JsProxy) and value.constructor.name in ("Object", "Array")
    return _without_jsnull(value.to_py() if plain else value)


def _without_jsnull(value: Any) -> Any:
    """Return a JSON value with None for each null; `to_py` leaves them what they are (Pyodide 314.0.6)."""
    match value:
        case list():
            return [_without_jsnull(item) for item in value]
        case dict():
            return {name: _without_jsnull(item) for name, item in value.items()}
        case _:
            return None if value is jsnull else value


async def ask(binding: str, name: str, request: Request) -> Response:
    """Send a request to the object of a name. Raises `ConnectionError` when it cannot be reached, `KeyError`."""
    namespace = getattr(bindings(), binding, None)
    if namespace is None:
        raise KeyError(binding)
    try:
        return Response(await namespace.get(namespace.idFromName(name)).fetch(request.native))
    except JsException as error:
        raise ConnectionError(str(error)) from error


def has_binding(name: str) -> bool:
    """Say whether the environment binds something to a name."""
    return getattr(bindings(), name, None) is not None


def wait_until(work: Awaitable[Any]) -> Future[Any]:
    """Do something that may outlive the answer to the request at hand."""
    task = ensure_future(work)
    proxy = create_proxy(task)
    task.add_done_callback(lambda _: proxy.destroy())
    import_from_javascript("cloudflare:workers").waitUntil(proxy)
    return task
