"""Requests to the outside whose answer streams in, and that can be dropped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import js
from pyodide.ffi import JsException, to_js

from flue.cloudflare.platform.js_bindings import bindings
from flue.cloudflare.platform.js_http import Native


class _Exchange:
    """A response that is awaited, and what drops it; see `flue.cloudflare.platform.fetch_transport.Exchange`."""

    def __init__(self, begin: Callable[[Native], Native]) -> None:
        self._controller = js.AbortController.new()
        self._promise = begin(self._controller.signal)
        self._reader: Native = None

    async def answer(self) -> tuple[int, list[tuple[str, str]]]:
        """Return status and headers."""
        try:
            response = await self._promise
        except JsException as error:
            raise OSError(str(error)) from None
        self._reader = response.body and response.body.getReader()
        return response.status, [(name, value) for name, value in response.headers]

    async def read(self) -> bytes | None:
        """Return the next piece of the body, None at its end."""
        if not self._reader:
            return None
        try:
            result = await self._reader.read()
        except JsException as error:
            raise OSError(str(error)) from None
        return None if result.done else result.value.to_bytes()

    def abort(self) -> None:
        """Drop the connection."""
        self._controller.abort()


class Exchange(_Exchange):
    """One request through `fetch`, under way."""

    def __init__(self, url: str, *, method: str, headers: Mapping[str, str], body: bytes | None) -> None:
        options: dict[str, Any] = {"method": method, "headers": dict(headers), "redirect": "manual"}
        if body is not None:
            options["body"] = body
        super().__init__(lambda signal: js.fetch(url, _object({**options, "signal": signal})))


class Inference(_Exchange):
    """One question to Workers AI through a binding, under way; `inputs` is JSON."""

    def __init__(self, binding: str, model: str, inputs: bytes, options: Mapping[str, Any]) -> None:
        ai, asked = getattr(bindings(), binding), js.JSON.parse(inputs.decode())
        given = {**options, "returnRawResponse": True}
        super().__init__(lambda signal: ai.run(model, asked, _object({**given, "signal": signal})))


def _object(value: Mapping[str, Any]) -> Native:
    return to_js(dict(value), dict_converter=js.Object.fromEntries)
