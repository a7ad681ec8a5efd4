"""Any event there is, for Hypothesis: what is emitted is a list of functions that tell a process something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from flue import events
from flue.definitions.tool import ToolResult
from flue.events import ErrorInfo, Scope
from flue.harness.answer import PartialAnswer
from flue.harness.responses import ModelRef, PromptResponse, ResultResponse
from flue.messages import (
    AssistantMessage,
    Cost,
    ImageContent,
    TextContent,
    ThinkingContent,
    ToolCall,
    ToolResultMessage,
    ToolSpec,
    ToolSpecs,
    Transcript,
    Usage,
    UserMessage,
)
from flue.ports import Delta
from flue.testing.scripted import INFO
from tests.engine.log_scene import Process

Telling = Callable[[Process], None]

# Half surrogate pairs, tabs and newlines included: models write what they like. Some are long enough to be shared.
texts = st.text(st.characters(), max_size=12) | st.sampled_from(["long " * 100, 'tab\t "#1.1" \n', "\ud83d", "\ude00"])
names = st.sampled_from(["default", "a", "ünïcode\t", "#1.1", "&{}"])
numbers = st.integers(0, 2**40)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(texts, json_values, max_size=3)
scopes = st.builds(
    Scope,
    run_id=st.none() | names,
    instance_id=st.none() | names,
    session=st.none() | names,
    turn_id=st.none() | names,
    task_id=st.none() | names,
)
usages = st.builds(Usage, numbers, numbers, cost=st.builds(Cost, st.floats(0, 9), st.floats(0, 9)))
texts_blocks = st.builds(TextContent, texts, st.none() | texts)
images = st.builds(ImageContent, texts, names)
calls = st.builds(ToolCall, names, names, objects, st.none() | texts)
thoughts = st.builds(ThinkingContent, texts, st.none() | texts, st.booleans())
users = st.builds(UserMessage, st.lists(texts_blocks | images, max_size=3).map(tuple), numbers)
answers = st.builds(
    AssistantMessage,
    st.lists(texts_blocks | thoughts | calls, max_size=3).map(tuple),
    names,
    names,
    names,
    usages,
    st.sampled_from(["stop", "error", "toolUse"]),
    st.none() | texts,
    st.none() | texts,
    numbers,
)
results = st.builds(
    ToolResultMessage, names, names, st.lists(texts_blocks | images, max_size=2).map(tuple), json_values, st.booleans()
)
messages = users | answers | results
tool_results = st.builds(ToolResult, st.lists(texts_blocks | images, max_size=2).map(tuple), json_values)
responses = st.builds(PromptResponse, texts, usages, st.builds(ModelRef, names, names)) | st.builds(
    ResultResponse, st.none(), usages, st.builds(ModelRef, names, names), json=json_values
)
errors = st.none() | st.builds(ErrorInfo, names, texts)
flags = st.booleans()
kinds = st.sampled_from(["prompt", "shell", "compact"])
purposes = st.sampled_from(["agent", "compaction"])
transcripts = st.lists(messages, max_size=4).map(Transcript)
specs = st.lists(st.builds(ToolSpec, names, texts, objects), max_size=2).map(ToolSpecs)
counts = st.integers(0, 4)

FIELDS: dict[type[events.Event], tuple[st.SearchStrategy[Any], ...]] = {
    events.RunStart: (names, json_values, objects, st.none() | names, st.none() | names, st.none() | names),
    events.RunResume: (names, objects, st.none() | names, st.none() | names),
    events.RunEnd: (flags, numbers, json_values, errors),
    events.OperationStart: (kinds,),
    events.Operation: (kinds, numbers, flags, errors, st.none() | responses, st.none() | usages),
    events.AgentStart: (),
    events.AgentEnd: (st.lists(messages, max_size=3).map(tuple),),
    events.TurnStart: (purposes,),
    events.TurnRequest: (purposes, names, names, names, texts, transcripts, counts, specs, st.none() | names),
    events.MessageStart: (messages,),
    events.MessageEnd: (messages,),
    events.ToolExecutionStart: (names, names, json_values),
    events.ToolExecutionEnd: (names, names, tool_results, flags),
    events.ToolStart: (names, names, json_values),
    events.ToolCallEnd: (names, names, flags, tool_results, numbers),
    events.ApprovalRequest: (names, names, json_values),
    events.ApprovalEnd: (names, names, flags, st.none() | texts),
    events.TurnEnd: (purposes, answers, st.lists(results, max_size=2).map(tuple)),
    events.Turn: (purposes, numbers, names, names, names, answers, flags, st.none() | texts),
    events.TaskStart: (texts, st.none() | names, st.none() | names),
    events.TaskEnd: (flags, numbers, st.none() | names, st.none() | responses),
    events.CompactionStart: (st.sampled_from(["threshold", "manual"]), numbers),
    events.Compaction: (numbers, numbers, numbers, st.none() | usages),
    events.Log: (st.sampled_from(["info", "error"]), texts, st.none() | objects),
    events.Idle: (),
    events.TextDelta: (texts,),
    events.ThinkingStart: (),
    events.ThinkingDelta: (texts,),
    events.ThinkingEnd: (texts,),
}


KINDS = ("text", "thinking", "toolcall")


@st.composite
def deltas(draw: st.DrawFn) -> Delta:
    """Return any delta, in an order that no provider would send them in; a block stays of one kind."""
    block = draw(st.integers(0, 4))
    kind = KINDS[block % 3]
    step = draw(st.sampled_from(["start", "delta", "delta", "end"]))
    text = draw(texts | st.sampled_from(['{"a":', '"b"}', "{}", " "])) if step != "end" else ""
    finished = {"text": texts_blocks, "thinking": thoughts, "toolcall": calls}[kind]
    content = draw(finished) if step == "end" else draw(st.none() | finished) if step == "start" else None
    return Delta(f"{kind}_{step}", block, text, content)  # type: ignore[arg-type]


beginnings = st.builds(
    lambda block, text: Delta(("text_delta", "thinking_delta")[block], block, text), st.integers(0, 1), names
)


class Storyteller:
    """What the events of one story share: scopes, and answers under way."""

    def __init__(self, scopes: list[Scope], begun: list[list[Delta]]) -> None:
        self.scopes = scopes
        self.partials = [PartialAnswer(INFO, 7) for _ in scopes]
        for partial, beginning in zip(self.partials, begun, strict=True):
            for delta in beginning:
                partial.add(delta)  # as an answer would be that somebody else began


@st.composite
def stories(draw: st.DrawFn, max_size: int = 25) -> list[Telling]:
    """Return things to tell a process, one after the other."""
    cast = draw(st.lists(scopes, min_size=1, max_size=3))
    begun = [draw(st.just([]) | st.lists(beginnings, max_size=2)) for _ in cast]
    teller = Storyteller(cast, begun)
    return [draw(_told(teller)) for _ in range(draw(st.integers(0, max_size)))]


@st.composite
def _told(draw: st.DrawFn, teller: Storyteller) -> Telling:
    scope = draw(st.sampled_from(teller.scopes))
    if draw(st.booleans()):
        kind = draw(st.sampled_from(sorted(FIELDS, key=lambda kind: kind.type)))
        fields = [draw(field) for field in FIELDS[kind]]
        return lambda process: process.emit(kind, *fields, scope=scope)
    place = draw(st.integers(0, len(teller.scopes) - 1))
    delta = draw(deltas())
    repeat = draw(st.booleans())

    def tell(process: Process) -> None:
        process.emit_delta(teller.partials[place], delta, teller.scopes[place])
        if repeat and delta.type == "text_delta":
            process.emit(events.TextDelta, delta.delta, scope=teller.scopes[place])
        if repeat and delta.type == "thinking_delta":
            process.emit(events.ThinkingDelta, delta.delta, scope=teller.scopes[place])

    return tell
