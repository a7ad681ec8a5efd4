"""The model itself: from a transcript to the next message, streamed like any other model's."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from flue.messages import AssistantContent, AssistantMessage, Json, Message, TextContent, ToolCall, ToolSpec, Usage
from flue.models.librarian.answer import Reply, compose
from flue.models.librarian.evidence import Evidence, gather
from flue.models.librarian.fill import CannotFillError, fill
from flue.models.librarian.plan import Call, can_search, next_calls, own_tools
from flue.ports import Delta, ModelInfo, ModelRequest

_CHARACTERS_PER_TOKEN = 4
_ARGUMENT_PIECE = 24


class Librarian:
    """`demo/librarian`, an offline model made of rules: searches the workspace, quotes what it finds, fills a schema.

    It is not a language model and says so in every text it answers. It keeps no state: the same request always gives
    the same answer, at no cost and with estimated token counts (four characters a token).
    """

    info = ModelInfo(provider="demo", id="librarian", api="demo")

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | AssistantMessage]:
        """Yield the answer word by word, then the whole message. Never fails, needs no network."""
        content = _decide(request)
        for index, block in enumerate(content):
            for delta in _deltas(index, block):
                await asyncio.sleep(0)  # lets the application see each piece, and cancel between two
                yield delta
        calls = any(isinstance(block, ToolCall) for block in content)
        yield AssistantMessage(
            content,
            api=self.info.api,
            provider=self.info.provider,
            model=self.info.id,
            usage=_usage(request, content),
            stop_reason="toolUse" if calls else "stop",
        )


def _decide(request: ModelRequest) -> tuple[AssistantContent, ...]:
    specs = {spec.name: spec for spec in request.tools}
    messages = tuple(request.transcript)
    evidence = gather(messages, own_tools(request.tools))
    if evidence.question.kind == "search" and (calls := next_calls(evidence, specs)):
        return _blocks(_announce(evidence, calls), calls, len(messages))
    reply = compose(evidence, can_search(specs))
    if "finish" in specs:
        return _hand_in(evidence, reply, specs, len(messages))
    return (TextContent(reply.text),)


def _hand_in(
    evidence: Evidence, reply: Reply, specs: Mapping[str, ToolSpec], position: int
) -> tuple[AssistantContent, ...]:
    if not evidence.finish_error:
        try:
            value = fill(specs["finish"].parameters, reply.material)
            return _blocks(reply.remark, [("finish", value)], position)
        except CannotFillError as error:
            reason = f'Nothing that was found can honestly fill the field "{error}". {reply.remark}'
    else:
        reason = f"The result did not fit: {evidence.finish_error}"
    if "give_up" in specs:
        return _blocks("", [("give_up", {"reason": reason})], position)
    return (TextContent(reason),)


def _announce(evidence: Evidence, calls: Sequence[Call]) -> str:
    names = {name for name, _ in calls}
    if names <= {"read"} or any(str(arguments.get("command", "")).startswith("cat ") for _, arguments in calls):
        return "Reading the most promising files."
    if names & {"grep", "glob", "bash"}:
        words = ", ".join(keyword.word for keyword in evidence.question.keywords)
        return f"Searching the workspace for: {words}." if words else "Looking at the files in the workspace."
    return ""


def _blocks(text: str, calls: Sequence[Call], position: int) -> tuple[AssistantContent, ...]:
    """Return the message's blocks; call ids come from the position in the transcript, so they are unique in it."""
    numbered = (ToolCall(f"demo_{position}_{index}", name, arguments) for index, (name, arguments) in enumerate(calls))
    return ((TextContent(text),) if text else ()) + tuple(numbered)


def _deltas(index: int, block: AssistantContent) -> list[Delta]:
    if isinstance(block, ToolCall):
        arguments = json.dumps(block.arguments, ensure_ascii=False)
        pieces = [arguments[at : at + _ARGUMENT_PIECE] for at in range(0, len(arguments), _ARGUMENT_PIECE)]
        start = Delta("toolcall_start", index, content=ToolCall(block.id, block.name, {}))
        middle = [Delta("toolcall_delta", index, piece) for piece in pieces]
        return [start, *middle, Delta("toolcall_end", index, content=block)]
    assert isinstance(block, TextContent)
    words = re.findall(r"\s*\S+|\s+$", block.text)
    return [
        Delta("text_start", index),
        *(Delta("text_delta", index, word) for word in words),
        Delta("text_end", index, content=block),
    ]


def _usage(request: ModelRequest, content: Sequence[AssistantContent]) -> Usage:
    characters = len(request.system) + sum(_size(message) for message in request.transcript)
    characters += sum(len(spec.name) + len(spec.description) + _length(spec.parameters) for spec in request.tools)
    return Usage(input=_tokens(characters), output=_tokens(sum(_block_size(block) for block in content)))


def _size(message: Message) -> int:
    return sum(_block_size(block) for block in message.content)


def _block_size(block: Any) -> int:
    if isinstance(block, ToolCall):
        return len(block.name) + _length(block.arguments)
    return len(block.text) if isinstance(block, TextContent) else 0


def _length(value: Json) -> int:
    return len(json.dumps(value))


def _tokens(characters: int) -> int:
    return -(-characters // _CHARACTERS_PER_TOKEN)
