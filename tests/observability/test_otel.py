from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flue import (
    AbortError,
    FlueContext,
    OperationError,
    Session,
    create_agent,
    define_agent_profile,
    open_context,
    tool,
)
from flue.errors import ProviderError, UsageError
from flue.events import RunEnd, RunStart
from flue.harness.runs import run_agent, run_workflow
from flue.messages import AssistantMessage, Cost, ImageContent, Usage
from flue.observability import instrument
from flue.registrations import Registrations
from flue.testing import ScriptedModel, VirtualClock, call, hang, thinking
from tests.harness.scene import until

SPENT = Usage(100, 20, 1000, 50, Cost(0.5, 0.25))


@dataclass
class Telemetry:
    """An SDK that keeps everything."""

    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)

    def __post_init__(self) -> None:
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)

    def instrument(self, **options: Any) -> Any:
        return instrument(tracer_provider=self.tracers, meter_provider=self.meters, **options)

    @property
    def spans(self) -> list[ReadableSpan]:
        """Return the spans in the order they began."""
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def span(self, name: str) -> ReadableSpan:
        """Return the first span of that name."""
        return next(span for span in self.spans if span.name == name)

    def tree(self) -> list[str]:
        """Return the names of all spans, indented below their parents."""
        spans = self.spans

        def below(parent: int | None, depth: int) -> list[str]:
            found = []
            for span in spans:
                if (span.parent.span_id if span.parent else None) == parent:
                    assert span.context is not None
                    found += ["  " * depth + span.name, *below(span.context.span_id, depth + 1)]
            return found

        return below(None, 0)

    def points(self, name: str) -> list[Any]:
        """Return the data points of a metric."""
        data = self.reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def everything(self) -> str:
        """Return all that was recorded, as text."""
        data = self.reader.get_metrics_data()
        return "".join(span.to_json() for span in self.spans) + (data.to_json() if data else "")


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@tool
def look(place: str) -> str:
    """Look somewhere."""
    if place == "nowhere":
        raise LookupError(f"there is no {place}")
    return f"something in {place}"


async def opened(context: FlueContext, model: ScriptedModel, **config: Any) -> Session:
    agent = create_agent(**{"model": model, "tools": [look], **config})
    return await (await context.init(agent)).session()


async def talk(registrations: Registrations, *steps: Any, text: str = "a question", **config: Any) -> None:
    """Run one prompt; a failure of it is what some tests are about."""
    clock = VirtualClock(auto=True)
    model = ScriptedModel(list(steps), usage=SPENT)
    async with open_context(registrations=registrations, id="i1", env={}, clock=clock) as context:
        session = await opened(context, model, **config)
        with suppress(OperationError):
            await session.prompt(text)


async def test_a_prompt_is_a_span_with_its_requests_and_tool_calls_inside(
    registrations: Registrations, telemetry: Telemetry
) -> None:
    telemetry.instrument()
    await talk(registrations, call("look", {"place": "here"}), "found it")
    assert telemetry.tree() == ["invoke_agent", "  chat model", "  execute_tool look", "  chat model"]


async def test_a_request_tells_model_tokens_cost_and_why_it_ended(
    registrations: Registrations, telemetry: Telemetry
) -> None:
    telemetry.instrument()
    await talk(registrations, call("look", {"place": "here"}), "found it")
    span = telemetry.span("chat model")
    attributes = dict(span.attributes or {})
    assert attributes.pop("gen_ai.response.time_to_first_chunk") >= 0  # type: ignore[operator]
    assert span.kind is trace.SpanKind.CLIENT
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "model",
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "model",
        "gen_ai.response.finish_reasons": ("tool_call",),
        "gen_ai.usage.input_tokens": 1150,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 1000,
        "gen_ai.usage.cache_creation.input_tokens": 50,
        "flue.cost.usd": 0.75,
        "flue.turn.purpose": "agent",
        "flue.turn.thinking": "medium",
    }


async def test_the_prompt_tells_conversation_and_the_sum_of_usage(
    registrations: Registrations, telemetry: Telemetry
) -> None:
    telemetry.instrument()
    await talk(registrations, call("look", {"place": "here"}), "found it")
    attributes = dict(telemetry.span("invoke_agent").attributes or {})
    assert attributes.pop("flue.operation.id").startswith("op_")  # type: ignore[union-attr]
    assert attributes == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.id": "i1",
        "gen_ai.conversation.id": "i1/default/default",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "model",
        "gen_ai.usage.input_tokens": 2300,
        "gen_ai.usage.output_tokens": 40,
        "gen_ai.usage.cache_read.input_tokens": 2000,
        "gen_ai.usage.cache_creation.input_tokens": 100,
        "flue.cost.usd": 1.5,
        "flue.operation.kind": "prompt",
    }


async def test_providers_have_the_names_of_the_convention(registrations: Registrations, telemetry: Telemetry) -> None:
    telemetry.instrument()
    answer = AssistantMessage((), "api", "google", "gemini-3", response_id="resp_1")
    model = ScriptedModel([answer, "ok"])
    async with open_context(registrations=registrations) as context:
        from dataclasses import replace

        model.info = replace(model.info, provider="google", id="gemini-3")
        session = await opened(context, model)
        await session.prompt("x")
    attributes = telemetry.span("chat gemini-3").attributes or {}
    assert attributes["gen_ai.provider.name"] == "gcp.gemini"
    assert attributes["gen_ai.response.id"] == "resp_1"


async def test_the_calls_of_a_task_lie_inside_the_tool_call_that_gave_it(
    registrations: Registrations, telemetry: Telemetry
) -> None:
    telemetry.instrument()
    scout = define_agent_profile(name="scout", instructions="Look around.")
    steps = [call("task", {"prompt": "go", "agent": "scout"}), call("look", {"place": "here"}), "seen", "done"]
    await talk(registrations, *steps, subagents=[scout])
    assert telemetry.tree() == [
        "invoke_agent",
        "  chat model",
        "  execute_tool task",
        "    invoke_agent scout",
        "      chat model",
        "      execute_tool look",
        "      chat model",
        "  chat model",
    ]
    assert (telemetry.span("invoke_agent scout").attributes or {})["gen_ai.agent.name"] == "scout"


async def test_tool_calls_of_one_answer_lie_side_by_side(registrations: Registrations, telemetry: Telemetry) -> None:
    telemetry.instrument()
    both = [call("look", {"place": "here"}), call("look", {"place": "there"})]
    await talk(registrations, both, "ok")
    assert telemetry.tree().count("  execute_tool look") == 2


async def test_spans_of_a_tool_and_of_the_caller_join_the_same_trace(
    registrations: Registrations, telemetry: Telemetry
) -> None:
    telemetry.instrument()
    tracer = telemetry.tracers.get_tracer("mine")

    @tool
    async def fetch() -> str:
        """Fetch something."""
        with tracer.start_as_current_span("GET"):
            await asyncio.sleep(0)
        return "fetched"

    with tracer.start_as_current_span("handler"):
        await talk(registrations, call("fetch"), "ok", tools=[fetch])
        assert trace.get_current_span().is_recording()
    assert telemetry.tree() == [
        "handler",
        "  invoke_agent",
        "    chat model",
        "    execute_tool fetch",
        "      GET",
        "    chat model",
    ]


async def test_other_calls_of_a_session_are_spans_too(registrations: Registrations, telemetry: Telemetry) -> None:
    telemetry.instrument()
    async with open_context(registrations=registrations, id="i1") as context:
        session = await opened(context, ScriptedModel(["one", "child"]))
        await session.prompt("x")
        await session.shell("true")
        await session.harness.shell("true")
        assert await session.compact() is False
        await session.task("y")
    assert telemetry.tree() == [
        *("invoke_agent", "  chat model"),
        *("flue.shell", "  execute_tool bash"),
        "execute_tool bash",
        "flue.compact",
        *("flue.task", "  invoke_agent", "    chat model"),
    ]


async def test_a_compaction_is_a_span_beside_the_requests_for_its_summary(
    registrations: Registrations, telemetry: Telemetry
) -> None:
    telemetry.instrument()
    settings = {"keep_recent_tokens": 10}
    async with open_context(registrations=registrations, id="i1", clock=VirtualClock(auto=True)) as context:
        session = await opened(context, ScriptedModel(["a " * 200, "b " * 200, "summary"]), compaction=settings)
        await session.prompt("one " * 100)
        await session.prompt("two " * 100)
        assert await session.compact()
    spans = {span.name: span for span in telemetry.spans}
    compaction = dict(spans["flue.compaction"].attributes or {})
    assert compaction["flue.compaction.reason"] == "manual"
    assert compaction["flue.compaction.messages_before"] == 4
    assert "  chat model" in telemetry.tree()
    purposes = {(span.attributes or {}).get("flue.turn.purpose") for span in telemetry.spans}
    assert purposes >= {"agent"}
    assert purposes & {"compaction", "compaction_prefix"}


async def test_each_attempt_at_a_request_is_a_span_and_the_failed_one_says_so(
    registrations: Registrations, telemetry: Telemetry
) -> None:
    telemetry.instrument()
    await talk(registrations, ProviderError("overloaded", retryable=True), "ok")
    first, second = (span for span in telemetry.spans if span.name == "chat model")
    assert first.status.status_code is trace.StatusCode.ERROR
    assert first.status.description is None
    assert (first.attributes or {})["error.type"] == "_OTHER"
    assert second.status.status_code is trace.StatusCode.UNSET


async def test_a_failed_prompt_has_the_class_of_its_error_and_nothing_else_of_it(
    registrations: Registrations, telemetry: Telemetry
) -> None:
    telemetry.instrument()
    await talk(registrations, call("look", {"place": "nowhere"}), ProviderError("canary"))
    prompt, tool_call = telemetry.span("invoke_agent"), telemetry.span("execute_tool look")
    assert (prompt.attributes or {})["error.type"] == "OperationError"
    assert prompt.status.description is None
    assert (tool_call.attributes or {})["error.type"] == "tool_error"
    assert "canary" not in telemetry.everything()
    assert "nowhere" not in telemetry.everything()


async def test_an_abort_ends_every_span(registrations: Registrations, telemetry: Telemetry) -> None:
    telemetry.instrument()
    async with open_context(registrations=registrations) as context:
        model = ScriptedModel([["some", hang()]])
        session = await opened(context, model)
        running = session.prompt("x")
        await until(lambda: model.requests)
        running.abort()
        with pytest.raises(AbortError):
            await running
    assert telemetry.tree() == ["invoke_agent", "  chat model"]
    assert [(span.attributes or {})["error.type"] for span in telemetry.spans] == ["aborted", "aborted"]


async def test_a_request_for_a_summary_that_fails_is_ended_with_its_call(
    registrations: Registrations, telemetry: Telemetry
) -> None:
    telemetry.instrument()
    async with open_context(registrations=registrations, clock=VirtualClock(auto=True)) as context:
        model = ScriptedModel(["a " * 200, "b " * 200, ProviderError("no"), ProviderError("no")])
        session = await opened(context, model, compaction={"keep_recent_tokens": 10})
        await session.prompt("one " * 100)
        await session.prompt("two " * 100)
        with pytest.raises(OperationError):
            await session.compact()
        await session.shell("true")
    failed = [span for span in telemetry.spans if (span.attributes or {}).get("error.type")]
    assert "flue.compact" in {span.name for span in failed}
    assert "chat model" in {span.name for span in failed}
    # What comes after does not hang below what failed.
    assert "flue.shell" in telemetry.tree()


async def test_a_run_is_a_span_around_its_calls(registrations: Registrations, telemetry: Telemetry) -> None:
    telemetry.instrument()

    async def run(context: FlueContext) -> None:
        session = await opened(context, ScriptedModel(["ok"]))
        await session.prompt("x")
        raise ValueError("canary")

    async with open_context(registrations=registrations, workflow="report", payload="canary") as context:
        with pytest.raises(ValueError, match="canary"):
            await run_workflow(context, run, name="report")
    assert telemetry.tree() == ["invoke_workflow report", "  invoke_agent", "    chat model"]
    attributes = telemetry.span("invoke_workflow report").attributes or {}
    assert attributes["error.type"] == "ValueError"
    assert attributes["gen_ai.workflow.name"] == "report"
    assert "canary" not in telemetry.everything()


async def test_a_run_of_a_function_agent_has_the_agents_name(
    registrations: Registrations, telemetry: Telemetry
) -> None:
    telemetry.instrument()
    async with open_context(registrations=registrations, id="i1", agent="clerk", run_id="run1") as context:
        await run_agent(context, lambda _: None, name="clerk")
    attributes = dict(telemetry.span("invoke_agent clerk").attributes or {})
    assert attributes == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "clerk",
        "gen_ai.agent.id": "i1",
        "flue.run.id": "run1",
    }


async def test_a_run_announced_in_another_task_still_holds_its_calls(
    registrations: Registrations, telemetry: Telemetry
) -> None:
    telemetry.instrument()
    async with open_context(registrations=registrations, workflow="report", id="run1") as context:

        async def announce(kind: Any, **fields: Any) -> None:
            context.emitter.emit(context.scope, kind, **fields)

        await asyncio.create_task(
            announce(RunStart, started_at="2026-01-01", payload=None, owner={}, workflow_name="report")
        )
        session = await opened(context, ScriptedModel(["ok"]))
        await session.prompt("x")
        await asyncio.create_task(announce(RunEnd, is_error=False, duration_ms=5))
    assert telemetry.tree() == ["invoke_workflow report", "  invoke_agent", "    chat model"]


async def test_metrics_count_tokens_seconds_and_dollars(registrations: Registrations, telemetry: Telemetry) -> None:
    telemetry.instrument()
    await talk(registrations, call("look", {"place": "nowhere"}), "ok")
    chat = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "model",
        "gen_ai.response.model": "model",
    }
    tokens = {point.attributes["gen_ai.token.type"]: point for point in telemetry.points("gen_ai.client.token.usage")}
    assert {kind: (point.count, point.sum) for kind, point in tokens.items()} == {"input": (2, 2300), "output": (2, 40)}
    assert tokens["input"].attributes == {**chat, "gen_ai.token.type": "input"}
    assert tokens["input"].explicit_bounds[:3] == (1, 4, 16)
    (duration,) = telemetry.points("gen_ai.client.operation.duration")
    assert (duration.count, duration.attributes) == (2, chat)
    assert duration.explicit_bounds[:3] == (0.01, 0.02, 0.04)
    (cost,) = telemetry.points("flue.cost")
    assert (cost.value, cost.attributes) == (1.5, chat)
    (agent,) = telemetry.points("gen_ai.invoke_agent.duration")
    assert (agent.count, dict(agent.attributes)) == (1, {})
    (tool_call,) = telemetry.points("gen_ai.execute_tool.duration")
    assert dict(tool_call.attributes) == {"gen_ai.tool.name": "look", "error.type": "tool_error"}


async def test_a_failed_request_counts_seconds_and_no_tokens(
    registrations: Registrations, telemetry: Telemetry
) -> None:
    telemetry.instrument()
    await talk(registrations, ProviderError("no"))
    (duration,) = telemetry.points("gen_ai.client.operation.duration")
    assert duration.attributes["error.type"] == "_OTHER"
    assert telemetry.points("gen_ai.client.token.usage") == []
    assert telemetry.points("flue.cost") == []


async def test_content_is_recorded_when_asked_for(registrations: Registrations, telemetry: Telemetry) -> None:
    telemetry.instrument(capture_content=True)
    async with open_context(registrations=registrations) as context:
        session = await opened(
            context, ScriptedModel([[thinking("hm"), call("look", {"place": "cupboard"})], ProviderError("full text")])
        )
        with pytest.raises(OperationError):
            await session.prompt("a question", images=[ImageContent("aGk=", "image/png")])
    first, second = (span for span in telemetry.spans if span.name == "chat model")
    asked = json.loads(str((second.attributes or {})["gen_ai.input.messages"]))
    assert asked == [
        {
            "role": "user",
            "parts": [
                {"type": "text", "content": "a question"},
                {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "aGk="},
            ],
        },
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "hm"},
                {"type": "tool_call", "id": "call_1", "name": "look", "arguments": {"place": "cupboard"}},
            ],
        },
        {
            "role": "tool",
            "parts": [
                {
                    "type": "tool_call_response",
                    "id": "call_1",
                    "response": [{"type": "text", "content": "something in cupboard"}],
                }
            ],
        },
    ]
    (answer,) = json.loads(str((first.attributes or {})["gen_ai.output.messages"]))
    assert (answer["role"], answer["finish_reason"]) == ("assistant", "tool_call")
    assert json.loads(str((first.attributes or {})["gen_ai.system_instructions"]))[0]["type"] == "text"
    assert "look" in str((first.attributes or {})["gen_ai.tool.definitions"])
    tool_call = telemetry.span("execute_tool look").attributes or {}
    assert json.loads(str(tool_call["gen_ai.tool.call.arguments"])) == {"place": "cupboard"}
    assert "something in cupboard" in str(tool_call["gen_ai.tool.call.result"])
    assert "full text" in str(telemetry.span("invoke_agent").status.description)


async def test_ending_it_ends_open_spans_and_makes_no_more(registrations: Registrations, telemetry: Telemetry) -> None:
    uninstrument = telemetry.instrument()
    async with open_context(registrations=registrations) as context:
        model = ScriptedModel([["some", hang()], "later"])
        session = await opened(context, model)
        running = session.prompt("x")
        await until(lambda: model.requests)
        uninstrument()
        assert telemetry.tree() == ["invoke_agent", "  chat model"]
        running.abort()
        with pytest.raises(AbortError):
            await running
        await session.prompt("again")
    assert len(telemetry.spans) == 2


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "flue.observability.spans", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(UsageError, match=r"flue-agents\[otel\]") as caught:
        instrument()
    assert caught.value.code == "missing_package"
