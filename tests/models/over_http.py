"""Models reached over real HTTP: one transport, one conversation, short words for both."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any, Literal

from flue.cloudflare.platform.fetch_transport import FetchTransport
from flue.messages import (
    AssistantMessage,
    Message,
    TextContent,
    ToolResultMessage,
    ToolSpec,
    ToolSpecs,
    Transcript,
    UserContent,
    UserMessage,
)
from flue.models import Httpx2Transport
from flue.models.compat import Compat
from flue.models.providers import APIS
from flue.models.wire import WireModel
from flue.ports import Delta, HttpResponse, HttpTransport, ModelInfo, ModelRequest
from flue.testing.provider_server import ProviderServer
from tests.cloudflare.fake_fetch import fake_fetch

Way = Literal["httpx2", "fetch"]
PNG = "iVBORw0KGgo="
LOOK = ToolSpec(
    "look", "Look somewhere.", {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]}
)


class ImpatientTransport:
    """Waits at most `patience` seconds for each read, on httpx2 unless told otherwise."""

    patience = 5.0

    def __init__(self, transport: HttpTransport | None = None) -> None:
        self._transport = transport or Httpx2Transport()

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str], content: bytes, read_timeout: float | None
    ) -> HttpResponse:
        return await self._transport.send(method, url, headers=headers, content=content, read_timeout=self.patience)

    async def aclose(self) -> None:
        await self._transport.aclose()


def model_at(
    server: ProviderServer,
    api: str,
    transport: HttpTransport,
    *,
    id: str = "m",
    provider: str = "fake",
    key: str = "test-key",
    compat: Compat | None = None,
    **facts: Any,
) -> WireModel:
    """Return a model of the fake provider; `facts` are fields of `ModelInfo`."""
    module, name = APIS[api]
    adapter: type[WireModel] = getattr(import_module(module), name)
    info = ModelInfo(provider, id, api, **facts)
    return adapter(info, transport, base_url=server.base_url(api), api_key=key, compat=compat)


class Conversation:
    """A conversation that grows with every answer; `deltas` are those of the last one."""

    def __init__(self, model: WireModel, *, tools: Sequence[ToolSpec] = (), **options: Any) -> None:
        self.model = model
        self.transcript = Transcript()
        self.tools = ToolSpecs(tools)
        self.options = options
        self.deltas: list[Delta] = []

    async def say(self, *content: str | UserContent) -> AssistantMessage:
        """Add a user message and return the model's answer."""
        blocks = tuple(TextContent(block) if isinstance(block, str) else block for block in content)
        return await self.add(UserMessage(blocks))

    async def answer_calls(self, *results: str | UserContent, is_error: bool = False) -> AssistantMessage:
        """Answer every call of the last answer with the same results and return what the model says to that."""
        last = self.transcript.messages[-1]
        assert isinstance(last, AssistantMessage)
        blocks = tuple(TextContent(block) if isinstance(block, str) else block for block in results)
        return await self.add(
            *(ToolResultMessage(call.id, call.name, blocks, None, is_error) for call in last.tool_calls)
        )

    async def add(self, *messages: Message) -> AssistantMessage:
        """Add messages and return the model's answer."""
        for message in messages:
            self.transcript.append(message)
        answer = await self.ask()
        self.transcript.append(answer)
        return answer

    async def ask(self) -> AssistantMessage:
        """Return the model's answer to the conversation as it is."""
        self.deltas = []
        found: AssistantMessage | None = None
        async for item in self.stream():
            assert found is None, "the whole answer comes last"
            if isinstance(item, AssistantMessage):
                found = item
            else:
                self.deltas.append(item)
        assert found is not None, "an answer without its message"
        return found

    def stream(self) -> AsyncGenerator[Delta | AssistantMessage]:
        """Ask, and return the stream itself."""
        options: dict[str, Any] = {"system": "Be brief.", **self.options}
        stream = self.model.stream(ModelRequest(transcript=self.transcript, tools=self.tools, **options))
        assert isinstance(stream, AsyncGenerator)
        return stream


@asynccontextmanager
async def transport_of(kind: Callable[[], HttpTransport] = Httpx2Transport) -> AsyncIterator[HttpTransport]:
    """Open a transport and close it."""
    transport = kind()
    try:
        yield transport
    finally:
        await transport.aclose()


@asynccontextmanager
async def transport_by(way: Way) -> AsyncIterator[HttpTransport]:
    """Open a transport over httpx2, or one for Workers over a `fetch`."""
    if way == "httpx2":
        async with transport_of() as transport:
            yield transport
    else:
        async with fake_fetch() as fetch, transport_of(lambda: FetchTransport(fetch)) as transport:
            yield transport
