"""The turn loop: ask the model, run the tools it calls, give it their results, until it is done.

    add the user's message
    repeat:
        ask the model                      (retried on transient failures)
        record its answer
        wait until the answer is on disk   (a tool is an outside effect)
        run its tool calls in parallel     (those that need a person's approval wait for it)
        record their results, in call order
        if there were none, or every result says `terminate`: stop
        between turns: check budgets, compact what has grown too long, add messages that steer

Aborting cancels the task that runs this loop. Whatever was under way is recorded first: a partial answer as aborted,
every unfinished tool call with an error result, so that the conversation is always one a model can continue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import count

from flue.definitions.tool import Tool, ToolContext, ToolResult
from flue.errors import ProviderError, error_message
from flue.events import (
    AgentEnd,
    AgentStart,
    ApprovalEnd,
    ApprovalRequest,
    Emitter,
    ErrorInfo,
    Log,
    MessageEnd,
    MessageStart,
    MessageUpdate,
    Scope,
    TextDelta,
    ThinkingDelta,
    ThinkingEnd,
    ThinkingStart,
    ToolCallEnd,
    ToolExecutionEnd,
    ToolExecutionStart,
    ToolStart,
    Turn,
    TurnEnd,
    TurnRequest,
    TurnStart,
)
from flue.harness.answer import PartialAnswer
from flue.harness.approvals import Approvals
from flue.harness.arguments import ArgumentsError, check_arguments
from flue.harness.call import cancellations
from flue.harness.compaction.compact import Compactor
from flue.harness.entries import Source
from flue.harness.history import History
from flue.harness.journal import UNJOURNALED, Journal, Paused
from flue.harness.left_open import UNKNOWN, left_open
from flue.harness.meter import Meters
from flue.harness.retry import Retry
from flue.harness.tool_values import to_result
from flue.messages import (
    AssistantMessage,
    Message,
    ThinkingContent,
    ThinkingLevel,
    ToolCall,
    ToolResultMessage,
    ToolSpecs,
    UserMessage,
)
from flue.ports import Clock, Delta, Ids, Model, ModelInfo, ModelRequest, OffLoop

ABORTED = "Operation aborted"
CUT_OFF = (
    "This call was not run: the answer reached its length limit while the call was being written, so its arguments "
    "may be incomplete. Call the tool again with shorter arguments."
)


class ToolSet:
    """The tools of one call: by name for the loop, as specs for the model."""

    __slots__ = ("by_name", "specs")

    def __init__(self, tools: Sequence[Tool]) -> None:
        self.by_name: Mapping[str, Tool] = {tool.name: tool for tool in tools}
        self.specs = ToolSpecs.of([tool.spec for tool in tools])


@dataclass(slots=True, kw_only=True)
class TurnLoop:
    """One run of the loop over one session's history."""

    model: Model
    system: str
    tools: ToolSet
    thinking: ThinkingLevel
    affinity: str
    history: History
    tool_context: Callable[[str], ToolContext]
    emitter: Emitter
    scope: Scope
    clock: Clock
    ids: Ids
    off_loop: OffLoop
    retry: Retry
    meters: Meters
    compactor: Compactor
    approvals: Approvals
    journal: Journal = UNJOURNALED
    steering: list[UserMessage] = field(default_factory=list)
    """Messages that join at the next turn boundary."""
    notice: UserMessage | None = None
    """What the model is told with the next request, if there is one."""
    failure: ProviderError | None = None
    """Why the last answer has stop reason `error`."""
    parked: bool = False
    """Set when calls that wait for approval are to stay open, to be resumed later."""
    turns: int = 0
    """How many requests the model has answered."""
    _added: list[Message] = field(default_factory=list)

    async def run(self, message: UserMessage | None, source: Source) -> AssistantMessage:
        """Add the message, run turns until the model is done, and return its last answer.

        Without a message the loop goes on where it was left: with tool calls that have no result yet, or with the next
        request. A provider's failure is not raised: it is the answer, with stop reason `error`. Raises
        `BudgetExceededError` between turns, `Paused` where the journal wants it, and `DurabilityError` when the history
        cannot be written before a tool runs.
        """
        self._added = []
        incoming: list[tuple[UserMessage, Source]] = [] if message is None else [(message, source)]
        if message is None and not left_open(self.history.transcript.messages):
            incoming = self._take_notice()
        self._emit(AgentStart)
        try:
            while True:
                answer, done = await self._turn(incoming)
                if answer.stop_reason == "error" or (done and not self.steering):
                    return answer
                await self.between_turns()
                incoming = [*self._take_notice(), *((joined, "steer") for joined in self.steering)]
                self.steering.clear()
        finally:
            self._emit(AgentEnd, tuple(self._added))

    def _take_notice(self) -> list[tuple[UserMessage, Source]]:
        notice, self.notice = self.notice, None
        return [] if notice is None else [(notice, "signal")]

    async def between_turns(self) -> None:
        """Raise `BudgetExceededError` when a budget is used up; compact the conversation when it is too long."""
        self.meters.check(self.clock.monotonic())
        self.journal.at_boundary()
        await self.compactor.compact_if_needed()

    async def _turn(self, incoming: Sequence[tuple[UserMessage, Source]]) -> tuple[AssistantMessage, bool]:
        """Run one turn; return its answer and whether the model is done."""
        session_scope = self.scope
        started = self.clock.monotonic()
        self.scope = replace(session_scope, turn_id=f"turn_{self.ids.ulid()}")
        left = None if incoming else left_open(self.history.transcript.messages)
        try:
            with self.meters.running(self.clock):
                self._emit(TurnStart, "agent")
                for message, source in incoming:
                    self._record(message, source)
                    self.journal.input_applied()
                self.history.write()
                answer = left[0] if left else await self._ask()
                results, terminate = await (self._finish_left(*left) if left else self._act(answer))
                self._emit(TurnEnd, "agent", answer, results)
        finally:
            turn_scope, self.scope = self.scope, session_scope
        if left is None:
            self.turns += 1
            self.meters.add(answer.usage, turns=1)
        info = self.model.info
        failed = answer.stop_reason in ("error", "aborted")
        self.emitter.emit(
            turn_scope,
            Turn,
            "agent",
            round((self.clock.monotonic() - started) * 1000),
            info.id,
            info.provider,
            info.api,
            answer,
            failed,
            answer.error_message,
        )
        return answer, failed or terminate or not results

    # ------------------------------------------------------------------------------------------- the model

    async def _ask(self) -> AssistantMessage:
        """Return the model's answer, already recorded."""
        info = self.model.info
        request = ModelRequest(
            self.system, self.history.transcript, self.tools.specs, self.thinking, affinity=self.affinity
        )
        length = len(self.history.transcript)
        self.journal.request_begun(self.scope.turn_id or "")
        self._emit(
            TurnRequest,
            "agent",
            info.id,
            info.provider,
            info.api,
            self.system,
            self.history.transcript,
            length,
            self.tools.specs,
            self.thinking if info.reasoning else None,
            self.history.key,
            self.history.leaf_id,
        )
        for attempt in count(1):
            partial = PartialAnswer(info, self.clock.now_ms())
            self._emit(MessageStart, partial.message())
            try:
                return self._finish_answer(await self._stream(request, partial))
            except asyncio.CancelledError:
                self._finish_answer(partial.message("aborted", ABORTED))
                raise
            except Exception as raised:  # noqa: BLE001 - whatever a model raises must not break the conversation
                error = _provider_error(raised, info)
                delay = self.retry.delay(error, attempt)
                failed = partial.message("error", str(error))
                if delay is None:
                    self.failure = error
                    return self._finish_answer(failed)
            self._emit(MessageEnd, failed)
            facts = {"error": ErrorInfo.of(error).to_json()}
            self._emit(Log, "warn", f"The model request failed; trying again in {delay:g} s.", facts)
            await self.clock.sleep(delay)
        raise AssertionError("unreachable")

    async def _stream(self, request: ModelRequest, partial: PartialAnswer) -> AssistantMessage:
        answer: AssistantMessage | None = None
        async with aclosing(self.model.stream(request)) as stream:  # type: ignore[type-var]
            async for item in stream:
                if isinstance(item, AssistantMessage):
                    answer = item
                else:
                    partial.add(item)
                    if self.emitter.active:
                        self._emit_delta(item, partial)
        if answer is None:
            raise ProviderError(
                f"{self.model.info.specifier} ended its stream without an answer.", code="stream_cut", retryable=True
            )
        return answer if answer.timestamp else replace(answer, timestamp=self.clock.now_ms())

    def _finish_answer(self, answer: AssistantMessage) -> AssistantMessage:
        self.journal.answer_recorded(self.scope.turn_id or "", answer.usage)
        self.history.append(answer)
        self._added.append(answer)
        self._emit(MessageEnd, answer)
        return answer

    def _emit_delta(self, delta: Delta, partial: PartialAnswer) -> None:
        self._emit(MessageUpdate, delta, partial.message)
        match delta.type:
            case "text_delta":
                self._emit(TextDelta, delta.delta)
            case "thinking_start":
                self._emit(ThinkingStart)
            case "thinking_delta":
                self._emit(ThinkingDelta, delta.delta)
            case "thinking_end":
                self._emit(ThinkingEnd, delta.content.thinking if isinstance(delta.content, ThinkingContent) else "")

    # ------------------------------------------------------------------------------------------- the tools

    async def _act(self, answer: AssistantMessage) -> tuple[tuple[ToolResultMessage, ...], bool]:
        """Run the tool calls of an answer; return their results, recorded, and whether all of them terminate."""
        calls = answer.tool_calls
        if not calls or answer.stop_reason in ("error", "aborted"):
            return (), False
        cut_off = ToolResult.from_text(CUT_OFF, is_error=True) if answer.stop_reason == "length" else None
        return await self._settle(calls, [cut_off] * len(calls))

    async def _finish_left(
        self, answer: AssistantMessage, calls: tuple[ToolCall, ...]
    ) -> tuple[tuple[ToolResultMessage, ...], bool]:
        """Settle the calls that an interruption left open; what may have run is not run again."""
        return await self._settle(calls, [self._known_result(answer, call) for call in calls])

    def _known_result(self, answer: AssistantMessage, call: ToolCall) -> ToolResult | None:
        """Return the result of a call from before the interruption; None when it is still to be run (DUR-28)."""
        noted = self.journal.result_of(call.id)
        if noted is not None:
            return noted
        started = self.journal.was_started(call.id)
        if started or (started is None and self.approvals.find(call.id) is None):
            return ToolResult.from_text(UNKNOWN, is_error=True)
        return ToolResult.from_text(CUT_OFF, is_error=True) if answer.stop_reason == "length" else None

    async def _settle(
        self, calls: tuple[ToolCall, ...], results: list[ToolResult | None]
    ) -> tuple[tuple[ToolResultMessage, ...], bool]:
        """Run the calls that have no result yet; record and return all results."""
        messages: list[ToolResultMessage] = []
        try:
            for call, result in zip(calls, results, strict=True):
                if result is None and not self._may_wait(call):
                    self.journal.tool_started(call)
            await self._durable()
            await self._run_calls(calls, results)
        finally:
            # Also on the way out of an abort: a call without a result is one that no provider accepts.
            waiting = []
            for call, result in zip(calls, results, strict=True):
                if result is None and self.parked and self._is_pending(call):
                    waiting.append(call.id)
                    continue
                messages.append(self._record_result(call, result or ToolResult.from_text(ABORTED, is_error=True)))
                self.approvals.forget(call)
        self.history.write()
        if waiting:
            raise Paused("approval", tuple(waiting))
        return tuple(messages), all(result is not None and result.terminate for result in results)

    async def _durable(self) -> None:
        await self.history.durable()
        await self.journal.durable()

    async def _run_calls(self, calls: Sequence[ToolCall], results: list[ToolResult | None]) -> None:
        """Fill in the results that are missing; those of calls that wait for approval may stay so."""
        missing = [position for position, result in enumerate(results) if result is None]
        while missing:
            if len(missing) == 1:
                results[missing[0]] = await self._run_call(calls[missing[0]])
            else:
                async with asyncio.TaskGroup() as group:
                    for position in missing:
                        group.create_task(self._run_into(results, position, calls[position]))
            # What was decided while other calls ran goes on here.
            missing = [at for at in missing if results[at] is None and not self._is_pending(calls[at])]

    async def _run_into(self, results: list[ToolResult | None], position: int, call: ToolCall) -> None:
        result = results[position] = await self._run_call(call)
        if result is not None:
            self.journal.tool_ended(call, result)

    async def _run_call(self, call: ToolCall) -> ToolResult | None:
        started = self.clock.monotonic()
        self._emit(ToolExecutionStart, call.name, call.id, call.arguments)
        self._emit(ToolStart, call.name, call.id, call.arguments)
        result: ToolResult | None = ToolResult.from_text(ABORTED, is_error=True)
        try:
            result = await self._result_of(call)
        finally:
            if result is not None:
                milliseconds = round((self.clock.monotonic() - started) * 1000)
                self._emit(ToolExecutionEnd, call.name, call.id, result, result.is_error)
                self._emit(ToolCallEnd, call.name, call.id, result.is_error, result, milliseconds)
        return result

    def _may_wait(self, call: ToolCall) -> bool:
        tool = self.tools.by_name.get(call.name)
        return tool is not None and tool.may_need_approval

    async def _result_of(self, call: ToolCall) -> ToolResult | None:
        """Run a tool. Return None for a call that is left open, to wait for approval elsewhere."""
        tool = self.tools.by_name.get(call.name)
        if tool is None:
            return ToolResult.from_text(f"Tool {call.name} not found", is_error=True)
        context = self.tool_context(call.id)
        before = cancellations()
        try:
            arguments = check_arguments(tool.name, tool.parameters, call.arguments)
            if await tool.needs_approval(arguments, context):
                if not await self._may_go_on(call):
                    return None
                if denial := await self._await_approval(call):
                    return denial
            if tool.may_need_approval:
                self.journal.tool_started(call)
                await self.journal.durable()
            return await to_result(await tool.run(arguments, context, self.off_loop), context)
        except ArgumentsError as error:
            return ToolResult.from_text(str(error), is_error=True)
        except asyncio.CancelledError:
            if cancellations() > before:
                raise
            return ToolResult.from_text(f"The tool {call.name} was cancelled.", is_error=True)
        except SystemExit as stop:
            return ToolResult.from_text(f"The tool {call.name} ended with exit status {stop.code}.", is_error=True)
        except Exception as error:  # noqa: BLE001 - what a tool raises is for the model to read
            failed = ToolResult.from_text(_for_model(error), {}, is_error=True)
            return await to_result(failed, context)

    async def _may_go_on(self, call: ToolCall) -> bool:
        """Ask for approval unless that was done before; say whether to wait for the decision here."""
        if (await self.approvals.request(call)).state != "pending":
            return True
        self._emit(ApprovalRequest, call.name, call.id, call.arguments)
        self.parked = self.parked or self.journal.parks
        return not self.journal.parks

    def _is_pending(self, call: ToolCall) -> bool:
        approval = self.approvals.find(call.id)
        return approval is not None and approval.state == "pending"

    async def _await_approval(self, call: ToolCall) -> ToolResult | None:
        """Wait for a person's word on a call; return what the model is told when it is no."""
        decided = await self.approvals.decision(call.id)
        self._emit(ApprovalEnd, call.name, call.id, decided.state == "approved", decided.reason)
        if decided.state == "approved":
            return None
        reason = f" Reason: {decided.reason}" if decided.reason else ""
        return ToolResult.from_text(f"A person denied this call; it was not run.{reason}", is_error=True)

    # ------------------------------------------------------------------------------------------- recording

    def _record(self, message: Message, source: Source | None = None) -> None:
        self.history.append(message, source)
        self._added.append(message)
        self._emit(MessageStart, message)
        self._emit(MessageEnd, message)

    def _record_result(self, call: ToolCall, result: ToolResult) -> ToolResultMessage:
        message = ToolResultMessage(
            call.id, call.name, result.content, result.details, result.is_error, self.clock.now_ms()
        )
        self._record(message)
        return message

    def _emit(self, kind: Callable[..., object], *values: object) -> None:
        self.emitter.emit(self.scope, kind, *values)  # type: ignore[arg-type]


def _for_model(error: Exception) -> str:
    """Return what the model reads of what a tool raised. The text of a KeyError is nothing but the key."""
    text = error_message(error)
    named = isinstance(error, KeyError) or not text
    return f"{type(error).__name__}: {text}".removesuffix(": ") if named else text


def _provider_error(raised: Exception, info: ModelInfo) -> ProviderError:
    """Return the failure of a model; what a model raises by mistake ends the call, not the conversation."""
    if isinstance(raised, ProviderError):
        return raised
    error = ProviderError(f"{info.specifier} failed: {type(raised).__name__}: {raised}", code="model_failure")
    error.__cause__ = raised
    return error
