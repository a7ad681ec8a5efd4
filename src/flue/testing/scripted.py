"""A model that answers from a script."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from flue.errors import UsageError
from flue.messages import (
    AssistantContent,
    AssistantMessage,
    ImageContent,
    Message,
    StopReason,
    TextContent,
    ThinkingContent,
    ThinkingLevel,
    ToolCall,
    ToolSpec,
    Usage,
)
from flue.models.cost import priced_usage
from flue.ports import Delta, DeltaType, ModelInfo, ModelRequest

# Like a real provider's: a few tokens at a time.
_CHUNK = 12
_IMAGE_TOKENS = 1200

INFO = ModelInfo(
    "scripted",
    "model",
    "scripted",
    context_window=200_000,
    max_tokens=8192,
    reasoning=True,
    input=("text", "image"),
    price_input=1.0,
    price_output=4.0,
)


@dataclass(frozen=True, slots=True)
class Hang:
    """Marks where an answer stops coming."""


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """What a model was asked: `messages` and `tools` as they were at that time."""

    system: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    thinking: ThinkingLevel
    max_tokens: int | None
    affinity: str | None


Part = str | ThinkingContent | ToolCall | TextContent | Hang | Exception
FixedStep = Part | AssistantMessage | Sequence[Part]
Step = FixedStep | Callable[[RecordedRequest], FixedStep | Awaitable[FixedStep]]
UsageRule = Callable[[RecordedRequest, Sequence[AssistantContent]], Usage]


def thinking(text: str, signature: str | None = None) -> ThinkingContent:
    """Return reasoning, as a part of a step."""
    return ThinkingContent(text, signature)


def hang() -> Hang:
    """Return the mark of an answer that never ends: whoever waits for it must abort."""
    return Hang()


class ScriptedModel:
    """A `Model` for tests that answers request after request from `steps`.

    A step is a text, `call(name, arguments)`, `thinking(text)`, a list of these in order, an exception to raise, a
    whole `AssistantMessage`, `hang()`, or a callable from the `RecordedRequest` to one of these, which may be async.
    A list may end in an exception or `hang()`: the answer breaks off there. `steps` may be endless
    (`itertools.repeat("ok")`); each request takes one step, concurrent requests in the order of their start.

    Answers stream in pieces of 12 characters, and other tasks run between them. Tool calls without an id get
    `call_1`, `call_2`, …. `usage` is the same for each answer, or a callable from request and content; by default it
    is estimated as one token for four characters and priced by `info`.

    `requests` holds what was asked. A request after the last step raises `UsageError` (code `script_exhausted`).
    """

    def __init__(
        self,
        steps: Iterable[Step] = (),
        *,
        info: ModelInfo | None = None,
        usage: Usage | UsageRule | None = None,
    ) -> None:
        if isinstance(steps, str):
            raise UsageError(
                f"ScriptedModel needs a list of steps, got the text {steps!r}.", hint=f"Write [{steps!r}]."
            )
        self.info = info or INFO
        self.requests: list[RecordedRequest] = []
        self._steps: Iterator[Step] = iter(steps)
        self._taken = 0
        self._calls = 0
        self._usage = usage

    def add(self, *steps: Step) -> None:
        """Add steps after those that are left."""
        self._steps = chain(self._steps, steps)

    def stream(self, request: ModelRequest) -> AsyncIterator[Delta | AssistantMessage]:
        """Record the request and answer it with the next step. See `flue.ports.Model`."""
        recorded = RecordedRequest(
            request.system,
            tuple(request.transcript),
            tuple(request.tools),
            request.thinking,
            request.max_tokens,
            request.affinity,
        )
        self.requests.append(recorded)
        return self._answer(self._take(), recorded)

    def _take(self) -> Step:
        try:
            step = next(self._steps)
        except StopIteration:
            raise UsageError(
                f"The script of ScriptedModel {self.info.specifier} is used up: it had {self._taken} "
                f"{'step' if self._taken == 1 else 'steps'}, and request {len(self.requests)} came.",
                code="script_exhausted",
                hint="Add a step, or look in `requests` for why the model was asked again.",
            ) from None
        self._taken += 1
        return step

    async def _answer(self, step: Step, request: RecordedRequest) -> AsyncIterator[Delta | AssistantMessage]:
        if callable(step):
            given = step(request)
            step = await given if inspect.isawaitable(given) else given
        parts = _parts(step)
        content: list[AssistantContent] = []
        for part in parts:
            if isinstance(part, Exception):
                raise part
            if isinstance(part, Hang):
                await asyncio.Event().wait()
            else:
                block = self._block(part)
                for delta in _deltas(block, len(content)):
                    yield delta
                    await asyncio.sleep(0)
                content.append(block)
        yield self._message(step, request, tuple(content))

    def _block(self, part: str | AssistantContent) -> AssistantContent:
        if isinstance(part, str):
            return TextContent(part)
        if isinstance(part, ToolCall) and not part.id:
            self._calls += 1
            return replace(part, id=f"call_{self._calls}")
        return part

    def _message(
        self, step: FixedStep, request: RecordedRequest, content: tuple[AssistantContent, ...]
    ) -> AssistantMessage:
        if isinstance(step, AssistantMessage):
            return replace(step, content=content)
        reason: StopReason = "toolUse" if any(isinstance(block, ToolCall) for block in content) else "stop"
        info = self.info
        return AssistantMessage(content, info.api, info.provider, info.id, self._usage_of(request, content), reason)

    def _usage_of(self, request: RecordedRequest, content: Sequence[AssistantContent]) -> Usage:
        if isinstance(self._usage, Usage):
            return self._usage
        if self._usage is not None:
            return self._usage(request, content)
        tools = json.dumps([tool.to_json() for tool in request.tools]) if request.tools else ""
        asked = _tokens(request.system) + _tokens(tools)
        asked += sum(_size(block) for message in request.messages for block in message.content)
        return priced_usage(self.info, input=asked, output=sum(map(_size, content)))


def _parts(step: FixedStep) -> Sequence[Part]:
    if isinstance(step, AssistantMessage):
        return step.content
    if isinstance(step, list | tuple):
        return step
    if isinstance(step, str | TextContent | ThinkingContent | ToolCall | Hang | Exception):
        return (step,)
    raise UsageError(
        f"A step of ScriptedModel cannot be {step!r}.",
        hint="Use a text, call(…), thinking(…), hang(), an exception, a list of these, an AssistantMessage, or a "
        "callable that returns one of them.",
    )


def _deltas(block: AssistantContent, index: int) -> Iterator[Delta]:
    kind, opened, text = _streamed(block)
    yield Delta(_type(kind, "start"), index, content=opened)
    for start in range(0, len(text), _CHUNK):
        yield Delta(_type(kind, "delta"), index, text[start : start + _CHUNK])
    yield Delta(_type(kind, "end"), index, content=block)


def _streamed(block: AssistantContent) -> tuple[str, ToolCall | None, str]:
    """Return the kind of a block, what opens it, and the text that then streams."""
    match block:
        case TextContent(text):
            return "text", None, text
        case ThinkingContent(text):
            return "thinking", None, text
        case ToolCall():
            return "toolcall", replace(block, arguments={}), json.dumps(block.arguments)


def _type(kind: str, phase: str) -> DeltaType:
    return f"{kind}_{phase}"  # type: ignore[return-value]  # the nine combinations are what `DeltaType` lists


def _size(block: AssistantContent | ImageContent) -> int:
    if isinstance(block, ImageContent):
        return _IMAGE_TOKENS
    _, call, text = _streamed(block)
    return _tokens(text) + (_tokens(call.name) if call is not None else 0)


def _tokens(text: str) -> int:
    return -(-len(text) // 4)
