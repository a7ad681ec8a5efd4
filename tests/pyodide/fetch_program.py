"""Runs inside Pyodide: the wire adapters ask a provider on loopback through JavaScript's own `fetch`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from flue.cloudflare.platform.fetch_transport import FetchedResponse, FetchTransport
from flue.errors import ProviderError
from flue.messages import AssistantMessage, TextContent, ToolSpec, ToolSpecs, Transcript, UserMessage
from flue.models.providers import APIS
from flue.ports import ModelInfo, ModelRequest

# The SDK of Workers has no part in `fetch`, and is not installed here.
sys.modules["workers"] = workers = ModuleType("workers")
vars(workers).update(dict.fromkeys(("DurableObject", "WorkerEntrypoint", "import_from_javascript"), object))
js_exchanges = import_module("flue.cloudflare.platform.js_exchanges")

LOOK = ToolSpec("look", "Look somewhere.", {"type": "object", "properties": {"at": {"type": "string"}}})
PATIENCE = 0.5  # seconds


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
        ModelInfo("fake", "m", api), Impatient(js_exchanges.Exchange), base_url=base_url, api_key="test-key"
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
