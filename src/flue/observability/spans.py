"""Events turned into spans and metrics. Needs the package opentelemetry-api; imported by `instrument`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Token
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider, get_meter
from opentelemetry.trace import Span, SpanKind, StatusCode, TracerProvider, get_tracer

from flue import __version__
from flue.events import (
    Compaction,
    CompactionStart,
    ErrorInfo,
    Event,
    MessageEnd,
    MessageStart,
    MessageUpdate,
    Operation,
    OperationStart,
    RunEnd,
    RunStart,
    TaskStart,
    ToolCallEnd,
    ToolStart,
    Turn,
    TurnRequest,
)
from flue.messages import AssistantMessage
from flue.observability import genai
from flue.observability.genai import Attributes

_SCOPE = "flue"
# What `error.type` is where no class of error is known; the convention's word for the unknown is `_OTHER`.
_ABORTED, _TOOL_FAILED, _OTHER = "aborted", "tool_error", "_OTHER"
_AGENT_KINDS = ("prompt", "skill")


@dataclass(slots=True)
class _Open:
    """A span under way, current in the task that began it."""

    span: Span
    began_ms: int
    known: Attributes
    """Attributes that its metrics share."""
    task: asyncio.Task[Any] | None = None
    token: Token[Context] | None = None
    first_chunk: bool = False

    def end(self) -> None:
        """End the span and make the one around it current again."""
        # A token is worth something only where it was given.
        if self.token is not None and self.task is _current_task():
            otel_context.detach(self.token)
        self.token = None
        self.span.end()


@dataclass(slots=True)
class _Work:
    """The spans of one operation, and what was asked in each turn."""

    operation: _Open | None = None
    inner: dict[str, _Open] = field(default_factory=dict)
    requests: dict[str | None, TurnRequest] = field(default_factory=dict)
    compaction: CompactionStart | None = None

    def end(self) -> None:
        """End what an abort or a failure has left open."""
        for left in self.inner.values():
            _fail(left.span, _OTHER)
            left.end()
        self.inner.clear()


@dataclass(slots=True)
class _Trace:
    """What is under way in one context."""

    runs: dict[str | None, _Open] = field(default_factory=dict)
    work: dict[str | None, _Work] = field(default_factory=dict)
    agents: dict[str | None, str] = field(default_factory=dict)
    """The names of the agents that tasks were given to."""


class Spans:
    """A subscriber that keeps a tree of spans for every context."""

    def __init__(
        self, tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None, *, capture_content: bool
    ) -> None:
        self._tracer = get_tracer(_SCOPE, __version__, tracer_provider)
        self._metrics = _Metrics(meter_provider)
        self._content = capture_content
        self._traces: WeakKeyDictionary[Any, _Trace] = WeakKeyDictionary()
        self._handlers: dict[type[Event], Callable[[Any, _Trace], None]] = {
            RunStart: self._run_start,
            RunEnd: self._run_end,
            OperationStart: self._operation_start,
            Operation: self._operation_end,
            TurnRequest: self._request,
            MessageStart: self._message_start,
            MessageUpdate: self._message_update,
            MessageEnd: self._message_end,
            Turn: self._turn_end,
            ToolStart: self._tool_start,
            ToolCallEnd: self._tool_end,
            TaskStart: self._task_start,
            CompactionStart: self._compaction_start,
            Compaction: self._compaction_end,
        }

    def __call__(self, event: Event, context: Any) -> None:
        """Take in an event."""
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event, self._traces.setdefault(context, _Trace()))

    def close(self) -> None:
        """End every span that is under way."""
        for found in list(self._traces.values()):
            for work in list(found.work.values()):
                work.end()
                if work.operation is not None:
                    work.operation.end()
            for run in list(found.runs.values()):
                run.end()
        self._traces.clear()

    # ------------------------------------------------------------------------------------ runs and operations

    def _run_start(self, event: RunStart, found: _Trace) -> None:
        kind, name = "invoke_workflow", event.workflow_name
        known: Attributes = {"gen_ai.workflow.name": name}
        if name is None:
            kind, name = "invoke_agent", event.agent_name
            known = {"gen_ai.agent.name": name, "gen_ai.agent.id": event.scope.instance_id}
        more = {"flue.run.id": event.scope.run_id, "flue.run.restarted_from": event.restarted_from_run_id}
        found.runs[event.scope.run_id] = self._open(
            f"{kind} {name}", event, {"gen_ai.operation.name": kind, **known}, more
        )

    def _run_end(self, event: RunEnd, found: _Trace) -> None:
        run = found.runs.pop(event.scope.run_id, None)
        if run is not None:
            self._fail_with(run.span, event.error)
            run.end()

    def _operation_start(self, event: OperationStart, found: _Trace) -> None:
        scope, kind = event.scope, event.operation_kind
        agent = found.agents.pop(scope.task_id, None)
        is_agent = kind in _AGENT_KINDS
        known: Attributes = {"gen_ai.operation.name": "invoke_agent"} if is_agent else {}
        if is_agent and agent:
            known["gen_ai.agent.name"] = agent
        conversation = "/".join(filter(None, (scope.instance_id or scope.run_id, scope.harness, scope.session)))
        more = {
            "gen_ai.agent.id": scope.instance_id if is_agent else None,
            "gen_ai.conversation.id": conversation,
            "flue.operation.kind": kind,
            "flue.operation.id": scope.operation_id,
            "flue.run.id": scope.run_id,
            "flue.task.id": scope.task_id,
        }
        name = " ".join(filter(None, ("invoke_agent", agent))) if is_agent else f"flue.{kind}"
        opened = self._open(name, event, known, more, around=found.runs.get(scope.run_id))
        found.work[scope.operation_id] = _Work(opened)

    def _operation_end(self, event: Operation, found: _Trace) -> None:
        work = found.work.pop(event.scope.operation_id, None)
        if work is None or work.operation is None:
            return
        work.end()
        opened = work.operation
        opened.span.set_attributes(genai.usage_attributes(event.usage) if event.usage else {})
        failure = self._fail_with(opened.span, event.error)
        if event.operation_kind in _AGENT_KINDS:
            known = {name: value for name, value in opened.known.items() if name == "gen_ai.agent.name"}
            self._metrics.agent_seconds.record(event.duration_ms / 1000, {**known, **failure})
        opened.end()

    def _task_start(self, event: TaskStart, found: _Trace) -> None:
        if event.agent:
            found.agents[event.scope.task_id] = event.agent

    # ----------------------------------------------------------------------------------- requests to models

    def _request(self, event: TurnRequest, found: _Trace) -> None:
        self._work(event, found).requests[event.scope.turn_id] = event
        if event.purpose != "agent":
            # Summaries announce no messages, and several are written at once.
            self._chat_start(event, found, event.provider, event.model)

    def _message_start(self, event: MessageStart, found: _Trace) -> None:
        if isinstance(event.message, AssistantMessage):
            self._chat_start(event, found, event.message.provider, event.message.model)

    def _chat_start(self, event: Event, found: _Trace, provider: str, model: str) -> None:
        work = self._work(event, found)
        request = work.requests.get(event.scope.turn_id)
        known = genai.chat_attributes(provider, model)
        more: Attributes = {"gen_ai.request.stream": True}
        if request is not None:
            more |= {"flue.turn.purpose": request.purpose, "flue.turn.thinking": request.reasoning}
        opened = self._open(f"chat {model}", event, known, more, kind=SpanKind.CLIENT)
        if self._content and request is not None and opened.span.is_recording():
            opened.span.set_attributes(genai.request_content(request))
        self._keep(work, _chat(event), opened)
        if work.operation is not None:
            work.operation.span.set_attribute("gen_ai.provider.name", known["gen_ai.provider.name"])
            work.operation.span.set_attribute("gen_ai.request.model", model)

    def _message_update(self, event: MessageUpdate, found: _Trace) -> None:
        opened = self._work(event, found).inner.get(_chat(event))
        if opened is not None and not opened.first_chunk:
            opened.first_chunk = True
            seconds = (event.at_ms - opened.began_ms) / 1000
            opened.span.set_attribute("gen_ai.response.time_to_first_chunk", seconds)

    def _message_end(self, event: MessageEnd, found: _Trace) -> None:
        if isinstance(event.message, AssistantMessage):
            self._chat_end(event, found, event.message, failed=event.message.stop_reason in ("error", "aborted"))

    def _turn_end(self, event: Turn, found: _Trace) -> None:
        self._work(event, found).requests.pop(event.scope.turn_id, None)
        if event.purpose != "agent":
            self._chat_end(event, found, event.output, failed=event.is_error)

    def _chat_end(self, event: Event, found: _Trace, answer: AssistantMessage, *, failed: bool) -> None:
        opened = self._work(event, found).inner.pop(_chat(event), None)
        if opened is None:
            return
        opened.span.set_attributes(genai.answer_attributes(answer))
        if self._content and opened.span.is_recording():
            opened.span.set_attributes(genai.answer_content(answer))
        failure: Attributes = {}
        if failed:
            kind = _ABORTED if answer.stop_reason == "aborted" else _OTHER
            failure = _fail(opened.span, kind, answer.error_message if self._content else None)
        self._metrics.chat(opened.known, answer, (event.at_ms - opened.began_ms) / 1000, failure)
        opened.end()

    # ---------------------------------------------------------------------------------------------- the rest

    def _tool_start(self, event: ToolStart, found: _Trace) -> None:
        known = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": event.tool_name}
        more: Attributes = {"gen_ai.tool.call.id": event.tool_call_id, "gen_ai.tool.type": "function"}
        if self._content:
            more["gen_ai.tool.call.arguments"] = genai.as_text(event.args)
        opened = self._open(f"execute_tool {event.tool_name}", event, known, more)
        self._keep(self._work(event, found), f"tool {event.tool_call_id}", opened)

    def _tool_end(self, event: ToolCallEnd, found: _Trace) -> None:
        work = self._work(event, found)
        opened = work.inner.pop(f"tool {event.tool_call_id}", None)
        if opened is None:
            return
        if self._content and opened.span.is_recording():
            opened.span.set_attributes(genai.tool_result_content(event.result))
        failure = _fail(opened.span, _TOOL_FAILED) if event.is_error else {}
        self._metrics.tool_seconds.record(event.duration_ms / 1000, {"gen_ai.tool.name": event.tool_name, **failure})
        opened.end()
        if work.operation is None and not work.inner:
            # A command of the harness itself: no operation will end and clear this away.
            found.work.pop(event.scope.operation_id, None)

    def _compaction_start(self, event: CompactionStart, found: _Trace) -> None:
        self._work(event, found).compaction = event

    def _compaction_end(self, event: Compaction, found: _Trace) -> None:
        # A compaction that fails has no end: so the span is made when it is over, beside those of its requests.
        began = self._work(event, found).compaction
        if began is None:
            return
        attributes: Attributes = {
            "flue.compaction.reason": began.reason,
            "flue.compaction.messages_before": event.messages_before,
            "flue.compaction.messages_after": event.messages_after,
            **(genai.usage_attributes(event.usage) if event.usage else {}),
        }
        span = self._tracer.start_span("flue.compaction", attributes=attributes, start_time=began.at_ms * 1_000_000)
        span.end(event.at_ms * 1_000_000)

    def _work(self, event: Event, found: _Trace) -> _Work:
        return found.work.setdefault(event.scope.operation_id, _Work())

    def _keep(self, work: _Work, key: str, opened: _Open) -> None:
        twin = work.inner.pop(key, None)
        if twin is not None:
            twin.end()
        work.inner[key] = opened

    def _open(
        self,
        name: str,
        event: Event,
        known: Attributes,
        more: Attributes,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        around: _Open | None = None,
    ) -> _Open:
        """Begin a span inside the current one and make it current; `around` stands in where none is current."""
        attributes = {name: value for name, value in {**known, **more}.items() if value is not None}
        parent = otel_context.get_current()
        if around is not None and not trace.get_current_span().get_span_context().is_valid:
            parent = trace.set_span_in_context(around.span, parent)
        span = self._tracer.start_span(name, parent, kind, attributes)
        token = otel_context.attach(trace.set_span_in_context(span, parent))
        return _Open(span, event.at_ms, known, _current_task(), token)

    def _fail_with(self, span: Span, error: ErrorInfo | None) -> Attributes:
        if error is None:
            return {}
        kind = _ABORTED if error.name in ("CancelledError", "AbortError") else error.name
        return _fail(span, kind, error.message if self._content else None)


class _Metrics:
    """The instruments. Their names, units and buckets are the conventions', but for the cost."""

    def __init__(self, provider: MeterProvider | None) -> None:
        meter = get_meter(_SCOPE, __version__, provider)
        self.tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=genai.TOKEN_BUCKETS,
        )
        self.chat_seconds = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "GenAI operation duration.",
            explicit_bucket_boundaries_advisory=genai.SECONDS_BUCKETS,
        )
        self.agent_seconds = meter.create_histogram(
            "gen_ai.invoke_agent.duration",
            "s",
            "Duration of one prompt to an agent.",
            explicit_bucket_boundaries_advisory=genai.AGENT_SECONDS_BUCKETS,
        )
        self.tool_seconds = meter.create_histogram(
            "gen_ai.execute_tool.duration",
            "s",
            "Duration of one tool call.",
            explicit_bucket_boundaries_advisory=genai.SECONDS_BUCKETS,
        )
        self.cost = meter.create_counter("flue.cost", "{USD}", "US dollars spent on models with known prices.")

    def chat(self, known: Attributes, answer: AssistantMessage, seconds: float, failure: Attributes) -> None:
        """Record one request to a model."""
        attributes = {**known, "gen_ai.response.model": answer.model}
        self.chat_seconds.record(seconds, {**attributes, **failure})
        usage = answer.usage
        if usage.total_tokens:
            self.tokens.record(genai.input_tokens(usage), {**attributes, "gen_ai.token.type": "input"})
            self.tokens.record(usage.output, {**attributes, "gen_ai.token.type": "output"})
        if usage.cost.total:
            self.cost.add(usage.cost.total, attributes)


def _chat(event: Event) -> str:
    return f"chat {event.scope.turn_id}"


def _fail(span: Span, kind: str, description: str | None = None) -> Attributes:
    failure = {"error.type": kind}
    span.set_attributes(failure)
    span.set_status(StatusCode.ERROR, description)
    return failure


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
