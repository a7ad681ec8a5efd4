"""Runs inside Pyodide: the wire adapters ask a provider on loopback through JavaScript's own `fetch`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import js
from pyodide.ffi import JsException, to_js

from flue.cloudflare.fetch_transport import FetchedResponse, FetchTransport
from flue.errors import ProviderError
from flue.messages import AssistantMessage, TextContent, ToolSpec, ToolSpecs, Transcript, UserMessage
from flue.models.providers import APIS
from flue.ports import ModelInfo, ModelRequest

LOOK = ToolSpec("look", "Look somewhere.", {"type": "object", "properties": {"at": {"type": "string"}}})
PATIENCE = 0.5  # seconds


class JsExchange:
    """One request through JavaScript's `fetch`."""

    def __init__(self, url: str, *, method: str, headers: Mapping[str, str], body: bytes | None) -> None:
        self._controller = js.AbortController.new()
        options = {"method": method, "headers": dict(headers), "redirect": "manual", "signal": self._controller.signal}
        if body is not None:
            options["body"] = body
        self._promise = js.fetch(url, to_js(options, dict_converter=js.Object.fromEntries))
        self._reader: Any = None

    async def answer(self) -> tuple[int, list[tuple[str, str]]]:
        """Return status and headers."""
        try:
            response = await self._promise
        except JsException as error:
            raise OSError(str(error)) from None
        self._reader = response.body and response.body.getReader()
        return response.status, [tuple(pair) for pair in response.headers]

    async def read(self) -> memoryview | None:
        """Return the next piece."""
        if not self._reader:
            return None
        try:
            result = await self._reader.read()
        except JsException as error:
            raise OSError(str(error)) from None
        return None if result.done else result.value.to_memoryview()

    def abort(self) -> None:
        """Drop the connection."""
        self._controller.abort()


class Impatient(FetchTransport):
    """Waits half a second for each piece."""

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str], content: bytes, read_timeout: float | None
    ) -> FetchedResponse:
        """Send a request."""
        return await super().send(method, url, headers=headers, content=content, read_timeout=PATIENCE)


async def ask(api: str, base_url: str, text: str) -> dict[str, Any]:
    """Return what the model said to one text, or how that failed."""
    module, name = APIS[api]
    model = getattr(import_module(module), name)(
        ModelInfo("fake", "m", api), Impatient(JsExchange), base_url=base_url, api_key="test-key"
    )
    transcript = Transcript()
    transcript.append(UserMessage((TextContent(text),)))
    deltas = 0
    try:
        async for item in model.stream(ModelRequest(system="", transcript=transcript, tools=ToolSpecs([LOOK]))):
            if isinstance(item, AssistantMessage):
                calls = [[one.name, one.arguments] for one in item.tool_calls]
                return {"text": item.text, "deltas": deltas, "calls": calls}
            deltas += 1
    except ProviderError as error:
        return {"code": error.code, "status": error.status, "retryable": error.retryable, "deltas": deltas}
    return {}


async def main(script: str) -> str:
    """Return the answers to `{api: {"base_url", "texts"}}`, in the same shape, as JSON."""
    asked: dict[str, Any] = json.loads(script)
    answers = {api: [await ask(api, one["base_url"], text) for text in one["texts"]] for api, one in asked.items()}
    return json.dumps(answers)
