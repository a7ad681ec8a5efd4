"""Encode-once history: each message becomes wire bytes once per target, and requests are spliced from them.

    Transcript ──History──▶ settled bytes │ open group │ missing results
                            (never touched  (rendered for this request: it carries the moving
                             again)          cache mark and may still grow)

`History` lives in `Transcript.cache`. It applies the replay rules that every provider shares; an `Encoder` knows one
wire protocol's shapes. The cost of a request is that of its new messages, plus one copy of the bytes.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from flue.messages import (
    AssistantContent,
    AssistantMessage,
    TextContent,
    ToolCall,
    ToolResultMessage,
    ToolSpecs,
    Transcript,
    UserContent,
    UserMessage,
)
from flue.ports import ModelInfo

EMPTY_USER = TextContent("(This message has no text.)")
EMPTY_RESULT = TextContent("(The tool succeeded and returned nothing.)")
EMPTY_ERROR = TextContent("(The tool failed and gave no reason.)")
MISSING_RESULT = TextContent("No result: this call was interrupted before its outcome was recorded.")
UNSEEN_IMAGE = TextContent("[An image was here; this model cannot see images.]")

Part = TypeVar("Part")
_write = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def dumps(value: Any) -> bytes:
    """Return compact UTF-8 JSON. Lone surrogates, which no provider reads, become question marks."""
    return _write(value).encode("utf-8", "replace")


class Encoder(ABC, Generic[Part]):
    """One wire protocol's shapes for one target. Holds no conversation.

    `Part` is an encoded piece of a group: `user` and `result` make parts, and once the group is complete `users` and
    `results` join its parts into wire messages (bytes without surrounding commas; several separated by commas).
    What they are given is already fit for the target: no blank text, no image a model cannot see, no foreign
    signature, tool call ids as the provider accepts them.
    """

    id_pattern: ClassVar[re.Pattern[str]] = re.compile(r"[^A-Za-z0-9_-]")
    id_limit: ClassVar[int] = 64

    @abstractmethod
    def user(self, content: Sequence[UserContent]) -> list[Part]:
        """Encode a user message's blocks; there is at least one."""

    @abstractmethod
    def users(self, parts: Sequence[Part], *, last: bool) -> bytes:
        """Join the parts of one user message; `last` when it ends the request (it then carries the cache mark)."""

    @abstractmethod
    def assistant(self, content: Sequence[AssistantContent]) -> bytes:
        """Encode an answer, or return `b""` to leave it out."""

    @abstractmethod
    def result(self, result: ToolResultMessage) -> list[Part]:
        """Encode one tool result; its content has at least one block."""

    @abstractmethod
    def results(self, parts: Sequence[Part], *, last: bool) -> bytes:
        """Join the parts of consecutive tool results; `last` as in `users`."""

    def clean_id(self, id: str) -> str:
        """Return the id in the provider's alphabet and length; `History` resolves collisions."""
        return self.id_pattern.sub("_", id)[: self.id_limit] or "call"


class History(Generic[Part]):
    """A transcript as wire bytes for one target; grows with the transcript."""

    def __init__(self, info: ModelInfo, encoder: Encoder[Part]) -> None:
        self._info = info
        self._encoder = encoder
        self._vision = "image" in info.input
        self._done = 0
        self._settled = bytearray()
        self._parts: list[Part] = []  # the open group
        self._group: str = ""  # "user", "results", or "" when no group is open
        self._waiting: list[tuple[str, str, str]] = []  # calls without a result: original id, wire id, tool name
        self._used_ids: set[str] = set()

    def render(self, transcript: Transcript) -> tuple[bytearray, bytes]:
        """Return the wire messages in two pieces, to be joined as they are: settled ones and this request's tail."""
        messages = transcript.messages
        while self._done < len(messages):
            self._take(messages[self._done])
            self._done += 1
        tail = self._render_tail()
        return self._settled, (b"," + tail if self._settled and tail else tail)

    def _take(self, message: UserMessage | AssistantMessage | ToolResultMessage) -> None:
        if isinstance(message, ToolResultMessage):
            self._take_result(message)
        elif isinstance(message, UserMessage):
            self._close_calls()
            self._settle()
            self._group = "user"
            self._parts.extend(self._encoder.user(self._shown(message.content) or [EMPTY_USER]))
        elif message.stop_reason not in ("error", "aborted"):
            self._close_calls()
            self._settle()
            self._append(self._encoder.assistant(self._replayed(message)))

    def _take_result(self, message: ToolResultMessage) -> None:
        call = next((call for call in self._waiting if call[0] == message.tool_call_id), None)
        if call is None:  # its call was in a skipped answer, or it has a result already
            return
        self._waiting.remove(call)
        self._add_result(call[1], message.tool_name, self._shown(message.content), message.is_error)

    def _add_result(self, wire_id: str, tool: str, content: Sequence[UserContent], is_error: bool) -> None:
        if self._group != "results":
            self._settle()
            self._group = "results"
        filled = tuple(content) or (EMPTY_ERROR if is_error else EMPTY_RESULT,)
        self._parts.extend(self._encoder.result(ToolResultMessage(wire_id, tool, filled, None, is_error)))

    def _close_calls(self) -> None:
        """Give every call that never got a result one, so that the conversation stays valid."""
        for _, wire_id, tool in self._waiting:
            self._add_result(wire_id, tool, (MISSING_RESULT,), True)
        self._waiting.clear()

    def _settle(self) -> None:
        if self._group:
            self._append(self._join(self._parts, self._group, last=False))
            self._parts = []
            self._group = ""

    def _append(self, encoded: bytes) -> None:
        if encoded:
            if self._settled:
                self._settled += b","
            self._settled += encoded

    def _join(self, parts: Sequence[Part], group: str, *, last: bool) -> bytes:
        encoder = self._encoder
        return encoder.users(parts, last=last) if group == "user" else encoder.results(parts, last=last)

    def _render_tail(self) -> bytes:
        """Return the open group, with results for calls that have none yet: those may still arrive."""
        parts, group = self._parts, self._group
        if self._waiting:
            parts, group = list(parts), "results"
            for _, wire_id, tool in self._waiting:
                parts += self._encoder.result(ToolResultMessage(wire_id, tool, (MISSING_RESULT,), None, True))
        return self._join(parts, group, last=True) if group else b""

    def _shown(self, content: Sequence[UserContent]) -> list[UserContent]:
        shown: list[UserContent] = []
        for block in content:
            if isinstance(block, TextContent):
                if block.text and not block.text.isspace():
                    shown.append(block)
            else:
                shown.append(block if self._vision else UNSEEN_IMAGE)
        return shown

    def _replayed(self, message: AssistantMessage) -> list[AssistantContent]:
        info = self._info
        own = message.model == info.id and message.provider == info.provider and message.api == info.api
        replayed: list[AssistantContent] = []
        for block in message.content:
            if isinstance(block, ToolCall):
                wire_id = self._wire_id(block.id)
                self._waiting.append((block.id, wire_id, block.name))
                replayed.append(ToolCall(wire_id, block.name, block.arguments, block.signature if own else None))
            elif isinstance(block, TextContent):
                if block.text and not block.text.isspace():
                    replayed.append(block if own else TextContent(block.text))
            elif own:
                replayed.append(block)
            elif not block.redacted and block.thinking and not block.thinking.isspace():
                replayed.append(TextContent(block.thinking))
        return replayed

    def _wire_id(self, original: str) -> str:
        clean = wire_id = self._encoder.clean_id(original)
        number = 1
        while wire_id in self._used_ids:
            number += 1
            suffix = f"_{number}"
            wire_id = clean[: self._encoder.id_limit - len(suffix)] + suffix
        self._used_ids.add(wire_id)
        return wire_id


def history_for(transcript: Transcript, key: Hashable, info: ModelInfo, encoder: Encoder[Part]) -> History[Part]:
    """Return the transcript's history for the target `key` names, made at first use."""
    history: History[Part] | None = transcript.cache.get(key)
    if history is None:
        history = transcript.cache[key] = History(info, encoder)
    return history


def encoded_tools(tools: ToolSpecs, key: Hashable, encoder: Any) -> bytes:
    """Return `encoder.tools(tools)`, computed once per `ToolSpecs` object and target."""
    encoded: bytes | None = tools.cache.get(key)
    if encoded is None:
        encoded = tools.cache[key] = encoder.tools(tools)
    return encoded
