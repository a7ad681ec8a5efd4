"""A transport that replays bytes in chosen chunks and remembers what it was sent."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from flue.errors import ProviderError
from flue.messages import AssistantMessage, Message, TextContent, ToolSpec, ToolSpecs, Transcript, UserMessage
from flue.ports import Delta, HttpResponse, Model, ModelRequest

STREAM = {"content-type": "text/event-stream; charset=utf-8"}


@dataclass
class Replay:
    """One answer: `chunks` arrive as they are; `breaks` cuts the connection behind them; `hangs` keeps it open."""

    chunks: Sequence[bytes] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: dict(STREAM))
    breaks: bool = False
    read: int = 0
    ended: bool = False
    closed: bool = False

    async def aiter_bytes(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            self.read += 1
            yield chunk
        if self.breaks:
            raise ProviderError("the connection broke", retryable=True, code="provider_unreachable")
        self.ended = True

    async def aread(self) -> bytes:
        return b"".join([chunk async for chunk in self.aiter_bytes()])

    async def aclose(self) -> None:
        self.closed = True


@dataclass
class Sent:
    method: str
    url: str
    headers: dict[str, str]
    content: bytes
    read_timeout: float | None

    @property
    def body(self) -> Any:
        return json.loads(self.content)


class ReplayTransport:
    """Answers each request with the next replay; the last one answers all further ones."""

    def __init__(self, *replays: Replay) -> None:
        self._replays = list(replays) or [Replay()]
        self.sent: list[Sent] = []

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str], content: bytes, read_timeout: float | None
    ) -> HttpResponse:
        self.sent.append(Sent(method, url, dict(headers), content, read_timeout))
        return self._replays.pop(0) if len(self._replays) > 1 else self._replays[0]

    async def aclose(self) -> None:
        pass


def sse(*events: Mapping[str, Any] | str) -> bytes:
    """Return events as a stream; an event with a type carries it as its name, as Anthropic sends them."""
    blocks = []
    for event in events:
        if isinstance(event, str):
            blocks.append(f"data: {event}\n\n")
        else:
            name = f"event: {event['type']}\n" if "type" in event else ""
            blocks.append(f"{name}data: {json.dumps(event)}\n\n")
    return "".join(blocks).encode()


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Return `data` cut at the given places."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if end > start]


def ask(
    *messages: Message | str, system: str = "Be brief.", tools: Sequence[ToolSpec] = (), **options: Any
) -> ModelRequest:
    """Return a request; a string is a user message."""
    history = [UserMessage((TextContent(one),)) if isinstance(one, str) else one for one in messages or ("Hi",)]
    return ModelRequest(system, Transcript(history), ToolSpecs(tools), **options)


async def answer(model: Model, request: ModelRequest | None = None) -> tuple[list[Delta], AssistantMessage]:
    """Return the deltas and the message of one answer, which must come last and once."""
    items = [item async for item in model.stream(request or ask())]
    deltas = [item for item in items if isinstance(item, Delta)]
    message = items[-1]
    assert isinstance(message, AssistantMessage)
    assert len(deltas) == len(items) - 1
    return deltas, message
