"""The journal of a prompt over the journal of its submission: written step by step, read when the work goes on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from flue.definitions.budget import Budget, as_budget
from flue.definitions.tool import ToolResult
from flue.durable.records import JournalRecord
from flue.engine.attempt import Attempt
from flue.engine.messages import BUDGET
from flue.events import Emitter
from flue.harness.history import History
from flue.harness.journal import Paused
from flue.harness.meter import Meter
from flue.messages import Json, ToolCall, Usage, content_from_json

INPUT = "input"


class PromptJournal:
    """Notes the steps of one attempt, and knows those of the attempts before it.

    `applied` says whether the message is in the session. `open_request` is the turn, and the index of the event log,
    at which a request began whose answer was not recorded.
    """

    parks = True

    def __init__(self, attempt: Attempt, records: Iterable[JournalRecord] = ()) -> None:
        self.applied = False
        self.open_request: tuple[str, int] | None = None
        self.history: History | None = None
        self.meter: Meter | None = None
        self._emitter: Emitter | None = None
        self._attempt = attempt
        self._before: Usage | None = None
        self._budget: Budget | None = None
        self._spent: dict[str, Any] = {}
        self._started: set[str] = set()
        self._results: dict[str, ToolResult] = {}
        for record in records:
            self._read(record)

    def _read(self, record: JournalRecord) -> None:
        match record.kind:
            case "note" if record.key == INPUT:
                self.applied = True
                self._before = Usage.from_json(json.loads(record.body))
            case "note" if record.key == BUDGET:
                self._budget = as_budget(json.loads(record.body))
            case "request":
                self.open_request = record.key, json.loads(record.body)["index"]
            case "answer":
                self.open_request = None
                self._spent = json.loads(record.body)
                # Some providers count the ids of calls anew in each answer.
                self._started.clear()
                self._results.clear()
            case "tool_started":
                self._started.add(record.key)
            case "tool_result":
                self._results[record.key] = _decode(json.loads(record.body))

    def attach(self, history: History, meter: Meter, emitter: Emitter) -> None:
        """Be told on which session the prompt works, what counts the agent's spending, and what numbers its events."""
        self.history, self.meter, self._emitter = history, meter, emitter
        if meter.turns < self._spent.get("turns", 0):
            meter.restore(self._spent)
        if self._budget is not None:
            meter.budget = self._budget

    @property
    def usage(self) -> Usage:
        """Return what the prompt has used over all its attempts."""
        assert self.history is not None
        return self.history.usage - (self._before or self.history.usage)

    # ------------------------------------------------------------------------------ told by the turn loop

    def input_applied(self) -> None:
        """Note what the session had used before, once."""
        if not self.applied:
            assert self.history is not None
            self.applied, self._before = True, self.history.usage
            self._add("note", INPUT, self._before.to_json())

    def request_begun(self, turn_id: str) -> None:
        """Note the request, to be written with whatever comes next."""
        assert self._emitter is not None
        self._add("request", turn_id, {"index": self._emitter.next_index})

    def answer_recorded(self, turn_id: str, usage: Usage) -> None:
        """Note the answer, and what the agent has spent with it."""
        assert self.meter is not None
        spent = replace(self.meter, usage=self.meter.usage + usage, turns=self.meter.turns + 1)
        self._add("answer", turn_id, spent.to_json())

    def budget_raised(self, budget: Json) -> None:
        """Let the prompt go on within another budget, in later attempts, too."""
        assert self.meter is not None
        self.meter.budget = as_budget(budget)
        self._add("note", BUDGET, budget)

    def tool_started(self, call: ToolCall) -> None:
        """Note that the call may have had its effect."""
        self._add("tool_started", call.id, {"tool": call.name})

    def tool_ended(self, call: ToolCall, result: ToolResult) -> None:
        """Note the result and have it written."""
        self._add("tool_result", call.id, _encode(result))
        self._attempt.outbox.write()

    async def durable(self) -> None:
        """Wait until all notes are on disk."""
        await self._attempt.outbox.flush()

    def was_started(self, call_id: str) -> bool | None:
        """Say whether the call was begun before this attempt; the journal knows."""
        return call_id in self._started

    def result_of(self, call_id: str) -> ToolResult | None:
        """Return the result of a call that its session does not hold yet."""
        return self._results.get(call_id)

    def at_boundary(self) -> None:
        """Stop when the process is about to end."""
        if self._attempt.pause_wanted:
            raise Paused("stop")

    def _add(self, kind: Any, key: str, body: dict[str, Any]) -> None:
        text = json.dumps(body, separators=(",", ":"))
        self._attempt.outbox.add(journal=[JournalRecord(kind, key, text)])


def _encode(result: ToolResult) -> dict[str, Any]:
    return {**result.to_json(), "isError": result.is_error}


def _decode(data: dict[str, Any]) -> ToolResult:
    content = tuple(content_from_json(block) for block in data["content"])
    return ToolResult(
        content,  # type: ignore[arg-type]  # a result holds text and images alone
        data["details"],
        data["isError"],
        data.get("terminate", False),
    )
