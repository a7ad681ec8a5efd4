"""Compacting a session: choose the cut, have the older part summarised, put the summary in its place."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import count
from typing import Literal

from flue.errors import FlueError, OperationError, ProviderError
from flue.events import (
    Compaction,
    CompactionStart,
    Emitter,
    ErrorInfo,
    Log,
    Scope,
    Turn,
    TurnPurpose,
    TurnRequest,
    TurnStart,
)
from flue.harness.compaction import summary as text
from flue.harness.compaction.cut import Cut, find_cut
from flue.harness.compaction.sizes import CHARS_PER_TOKEN, Limits, context_tokens
from flue.harness.entries import CompactionEntry
from flue.harness.history import History
from flue.harness.meter import Meters
from flue.harness.retry import Retry
from flue.messages import (
    AssistantMessage,
    Message,
    TextContent,
    ThinkingLevel,
    ToolSpecs,
    Transcript,
    Usage,
    UserMessage,
)
from flue.ports import Clock, Ids, Model, ModelRequest

Reason = Literal["threshold", "overflow", "manual"]
SUMMARY_TOKENS = 16_000
SUMMARY_SHARE = 0.8
PREFIX_SHARE = 0.5
PROMPT_TOKENS = 600  # what the instructions take beside the conversation
LEAST_PIECE = 1_000  # characters; a summariser whose window holds less is of no use


@dataclass(frozen=True, slots=True, kw_only=True)
class Compactor:
    """Compacts one history. `model` writes the summaries; `limits` are those of the model that reads them."""

    model: Model
    limits: Limits
    history: History
    emitter: Emitter
    scope: Scope
    clock: Clock
    ids: Ids
    retry: Retry
    meters: Meters

    async def compact(self, reason: Reason, wishes: str | None = None) -> bool:
        """Compact now; return False when there is nothing to summarise. `wishes` tell the summariser what matters.

        Raises `OperationError` (code `compaction_failed`) when no summary could be had; the history is then as before.
        """
        messages = self.history.transcript.messages
        previous = self.history.path[0] if self.history.path else None
        start = 1 if isinstance(previous, CompactionEntry) else 0
        cut = find_cut(messages, self.limits.keep_recent, start=start)
        if cut is None:
            return False
        before, started = len(messages), self.clock.monotonic()
        tokens = context_tokens(messages)
        self.emitter.emit(self.scope, CompactionStart, reason, tokens)
        try:
            earlier = previous if isinstance(previous, CompactionEntry) else None
            written, usage = await self._summarise(messages[start:], cut.counted_from(start), earlier, wishes)
        except FlueError as error:
            raise OperationError(f"compaction failed: {error}", code="compaction_failed") from error
        files = _files_before(earlier).and_those_of(messages[start : cut.kept])
        self.meters.add(usage)
        self.history.compact(
            cut.kept,
            summary=written + files.as_text(),
            tokens_before=tokens,
            details={"readFiles": list(files.read), "modifiedFiles": list(files.modified)},
            usage=usage,
        )
        milliseconds = round((self.clock.monotonic() - started) * 1000)
        self.emitter.emit(self.scope, Compaction, before, len(self.history.transcript), milliseconds, usage)
        return True

    async def compact_if_needed(self) -> None:
        """Compact when the conversation has grown past the threshold; a failure is logged and the call goes on."""
        if not self.limits.exceeded_by(context_tokens(self.history.transcript.messages)):
            return
        try:
            await self.compact("threshold")
        except OperationError as error:
            facts = {"error": ErrorInfo.of(error).to_json()}
            self.emitter.emit(self.scope, Log, "warn", "The conversation could not be compacted.", facts)

    async def _summarise(
        self, messages: Sequence[Message], cut: Cut, earlier: CompactionEntry | None, wishes: str | None
    ) -> tuple[str, Usage]:
        history, prefix = messages[: cut.turn_start], messages[cut.turn_start : cut.kept]
        if not prefix:
            return await self._history_summary(history, earlier, wishes)
        both = [
            asyncio.create_task(self._history_summary(history, earlier, wishes)),
            asyncio.create_task(self._prefix_summary(prefix)),
        ]
        try:
            (written, usage), (beginning, more) = await asyncio.gather(*both)
        finally:
            for task in both:
                task.cancel()
        return written + text.SPLIT_HEADING + beginning, usage + more

    async def _history_summary(
        self, messages: Sequence[Message], earlier: CompactionEntry | None, wishes: str | None
    ) -> tuple[str, Usage]:
        previous = earlier.summary if earlier else None
        if not messages:
            return previous or text.NO_HISTORY, Usage()
        return await self._in_pieces(
            text.as_text(messages), "compaction", share=SUMMARY_SHARE, previous=previous, wishes=wishes
        )

    async def _prefix_summary(self, messages: Sequence[Message]) -> tuple[str, Usage]:
        return await self._in_pieces(text.as_text(messages), "compaction_prefix", share=PREFIX_SHARE)

    async def _in_pieces(
        self, rest: str, purpose: TurnPurpose, *, share: float, previous: str | None = None, wishes: str | None = None
    ) -> tuple[str, Usage]:
        """Summarise a text; one that does not fit the summariser's window in pieces, each updating the summary."""
        limit = min(int(share * self.limits.reserve), SUMMARY_TOKENS)
        usage = Usage()
        while rest or previous is None:
            room = self._room(limit, previous)
            piece, rest = rest[:room], rest[room:]
            instruction = text.PREFIX if purpose == "compaction_prefix" else text.instruction(previous)
            previous, spent = await self._ask(text.request_text(piece, instruction, previous, wishes), limit, purpose)
            usage += spent
        return previous, usage

    def _room(self, answer_tokens: int, previous: str | None) -> int:
        """Return how many characters of conversation fit a request; estimates are rough, so a quarter stays free."""
        window = self.model.info.context_window
        if not window:
            return sys.maxsize
        free = window - answer_tokens - PROMPT_TOKENS - len(previous or "") // CHARS_PER_TOKEN
        return max(free * CHARS_PER_TOKEN * 3 // 4, LEAST_PIECE)

    async def _ask(self, asked: str, max_tokens: int, purpose: TurnPurpose) -> tuple[str, Usage]:
        """Return what the summariser wrote. Raises `ProviderError` when that is nothing."""
        info = self.model.info
        scope = replace(self.scope, turn_id=f"turn_{self.ids.ulid()}")
        thinking: ThinkingLevel = "high" if info.reasoning else "off"
        transcript = Transcript([UserMessage((TextContent(asked),), self.clock.now_ms())])
        request = ModelRequest(text.SYSTEM, transcript, ToolSpecs(), thinking, max_tokens)
        started = self.clock.monotonic()
        self.emitter.emit(scope, TurnStart, purpose)
        self.emitter.emit(
            scope, TurnRequest, purpose, info.id, info.provider, info.api, text.SYSTEM, transcript, 1, request.tools
        )
        answer = await self._stream(request)
        milliseconds = round((self.clock.monotonic() - started) * 1000)
        failed = answer.stop_reason == "error" or not answer.text.strip()
        self.emitter.emit(
            scope,
            Turn,
            purpose,
            milliseconds,
            info.id,
            info.provider,
            info.api,
            answer,
            failed,
            answer.error_message,
        )
        if failed:
            raise ProviderError(answer.error_message or f"{info.specifier} wrote no summary.", code="empty_summary")
        return answer.text, answer.usage

    async def _stream(self, request: ModelRequest) -> AssistantMessage:
        for attempt in count(1):
            try:
                async with aclosing(self.model.stream(request)) as stream:  # type: ignore[type-var]
                    async for item in stream:
                        if isinstance(item, AssistantMessage):
                            return item
                raise ProviderError(f"{self.model.info.specifier} ended its stream without an answer.", retryable=True)
            except ProviderError as error:
                delay = self.retry.delay(error, attempt)
                if delay is None:
                    raise
            await self.clock.sleep(delay)
        raise AssertionError("unreachable")


def _files_before(earlier: CompactionEntry | None) -> text.Files:
    details = earlier.details if earlier else {}
    return text.Files(tuple(details.get("readFiles", ())), tuple(details.get("modifiedFiles", ())))
