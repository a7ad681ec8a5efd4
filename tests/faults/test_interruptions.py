"""The four rows of the table of interruptions: the server is killed at exactly that point, and started again."""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError

from flue.durable.records import Submission
from flue.engine.admissions import session_lane
from flue.harness.interrupted import GO_ON
from flue.harness.left_open import UNKNOWN
from flue.stores import SqliteStore
from flue.testing import ProviderServer, call
from flue.testing.provider.http import ProviderRequest
from flue.testing.provider.reply import Failure, Reply, reply
from tests.faults.checker import read_conversation, text_of
from tests.faults.clients import BEARER, GONE, SSE, Event, events_of
from tests.faults.fleet import Fleet, Server, fleet
from tests.faults.model import Model
from tests.faults.office import Setting
from tests.faults.outside import happened

pytestmark = [pytest.mark.faults, pytest.mark.timeout(60)]

TEXT = "Once there was a server that was killed in the middle of a sentence, "
HANGS = reply(TEXT, failure=Failure("hang"))


@dataclass
class Desk:
    """A server that can be killed, a model that is told what to say, and a look into the store."""

    servers: Fleet
    store: SqliteStore
    outside: Path
    http: httpx2.AsyncClient
    says: deque[Reply]
    asked: list[ProviderRequest]
    server: Server | None = None

    async def begin(self) -> None:
        """Start a server."""
        self.server = await self.servers.start()

    async def kill(self) -> None:
        """Kill it, and start another."""
        assert self.server is not None
        self.server.kill()
        await self.server.ended
        await self.begin()

    async def requests(self, count: int) -> None:
        """Wait until the model has been asked so often."""
        await until(lambda: _now(len(self.asked) >= count))

    async def effects(self, count: int) -> list[list[str]]:
        """Wait until so much has happened outside."""
        await until(lambda: _now(len(happened(self.outside)) >= count))
        return happened(self.outside)

    async def submission(self, id: str) -> Submission:
        """Return work as the store has it."""
        found = await self.store.get_submission(id)
        assert found is not None
        return found

    async def settled(self, id: str) -> Submission:
        """Wait until work has settled."""

        async def has() -> bool:
            return (await self.submission(id)).state == "settled"

        await until(has)
        assert [record.kind for record in await self.store.load_journal(id)].count("settled") == 1
        return await self.submission(id)

    async def partial_text(self, id: str) -> None:
        """Wait until all that has arrived of the sentence is on disk."""
        path = f"/agents/clerk/ann/submissions/{id}/events?types=text_delta&limit=1000"

        async def has() -> bool:
            events = (await self.http.get(path)).json()["events"]
            return "a server" in "".join(event["text"] for event in events)

        await until(has)

    async def said(self, session: str = "default") -> list[str]:
        """Return the conversation with ann."""
        messages = await read_conversation(self.store, session_lane("clerk", "ann", session))
        return [f"{message.role}: {text_of(message)}" for message in messages]


async def _now(value: bool) -> bool:
    return value


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is the case."""
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110 - it is another process's
            await asyncio.sleep(0.01)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with opened(tmp_path) as desk:
        yield desk


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Desk]:
    usual = Model(random.Random(1), pace=0.0)  # noqa: S311

    says: deque[Reply] = deque()
    asked: list[ProviderRequest] = []

    def answer(request: ProviderRequest) -> Reply:
        asked.append(request)
        return says.popleft() if says else usual(request)

    async with aclosing(SqliteStore(folder / "flue.db")) as store, ProviderServer(answer) as provider:
        outside = folder / "outside"
        setting = Setting(str(store.path), provider.base_url("anthropic-messages"), str(outside))
        async with (
            fleet(setting, folder / "errors.log") as servers,
            httpx2.AsyncClient(base_url=f"http://{servers.address}", timeout=30) as http,
        ):
            desk = Desk(servers, store, outside, http, says, asked)
            await desk.begin()
            yield desk
        assert "Traceback" not in servers.errors.read_text()


async def broken(events: AsyncIterator[Event], seen: list[Event]) -> None:
    """Read events until the connection breaks."""
    with pytest.raises(GONE):
        async for event in events:
            seen.append(event)  # noqa: PERF401 - what was seen before it broke counts


# ------------------------------------------------------------------------------------------------------------- prompts


# DUR-29
async def test_a_prompt_over_http_killed_in_the_middle_of_its_answer_goes_on_where_it_was(desk: Desk) -> None:
    desk.says += [reply("Looking.", calls=[call("work", {"token": "t1"})]), HANGS]
    seen: list[Event] = []
    told: list[httpx2.Response] = []
    request = events_of(desk.http, "POST", "/agents/clerk/ann", SSE, {"message": "Tell me."}, told.append)
    reading = asyncio.create_task(broken(request, seen))
    await desk.requests(2)
    id = told[0].headers["x-flue-submission-id"]
    await desk.partial_text(id)
    desk.says.append(reply("but the sentence went on."))
    await desk.kill()
    await reading
    assert seen[-1][1] in ("message_update", "text_delta")
    submission = await desk.settled(id)
    assert submission.outcome == "completed"
    assert json.loads(submission.result or "")["text"].endswith("but the sentence went on.")
    # What had arrived was kept, and the model asked to go on; the tool was not called again.
    assert [words[1] for words in happened(desk.outside)] == ["t1"]
    *_, partial, signal, rest = await desk.said()
    assert (signal, rest) == (f"user: {GO_ON}", "assistant: but the sentence went on.")
    assert TEXT.startswith(partial.removeprefix("assistant: ").rstrip())
    assert len(desk.asked) == 3
    # The stream is resumed after the last event that was seen, without a gap and without repetition.
    last = {"last-event-id": seen[-1][0]}
    path = f"/agents/clerk/ann/submissions/{id}/stream"
    resumed = [event async for event in events_of(desk.http, "GET", path, last)]
    whole = [event async for event in events_of(desk.http, "GET", path, {})]
    assert resumed == [event for event in whole if int(event[0]) > int(seen[-1][0])]
    durable = [event for event in seen if event[1] not in ("message_update", "text_delta")]
    assert durable == [event for event in whole if event in durable]
    assert resumed[-1][1] == "idle"


# DUR-28
async def test_a_prompt_over_http_killed_in_a_tool_is_told_that_the_outcome_is_unknown(desk: Desk) -> None:
    calls = [call("work", {"token": "t1"}), call("stall", {"token": "t2"})]
    desk.says += [reply("Both at once.", calls=calls), reply("I shall find out.")]
    asking = asyncio.create_task(desk.http.post("/agents/clerk/ann", json={"message": "Go."}))

    async def recorded() -> bool:
        (submission,) = await desk.store.list_lane(session_lane("clerk", "ann", "default")) or (None,)
        records = await desk.store.load_journal(submission.id) if submission else []
        return "tool_result" in [record.kind for record in records] and len(happened(desk.outside)) == 2

    await until(recorded)
    (submission,) = await desk.store.list_lane(session_lane("clerk", "ann", "default"))
    await desk.kill()
    with pytest.raises(GONE):
        await asking
    assert (await desk.settled(submission.id)).outcome == "completed"
    assert (await desk.said())[-3:] == ["toolResult: done t1", f"toolResult: {UNKNOWN}", "assistant: I shall find out."]
    assert sorted(words[1] for words in happened(desk.outside)) == ["t1", "t2"]


# DUR-29
async def test_a_prompt_on_a_socket_killed_in_the_middle_of_its_answer_goes_on_without_it(desk: Desk) -> None:
    desk.says += [HANGS, reply("but the sentence went on."), reply("Good evening.")]
    async with await greeted(desk, "/agents/clerk/ann") as ws:
        await ws.send(json.dumps({"version": 1, "type": "prompt", "requestId": "r1", "message": "Tell me."}))
        assert json.loads(await ws.recv())["type"] == "started"
        while json.loads(await ws.recv())["event"]["type"] != "text_delta":
            pass
        (submission,) = await desk.store.list_lane(session_lane("clerk", "ann", "default"))
        await desk.partial_text(submission.id)
        await desk.kill()
        with pytest.raises(ConnectionClosedError):
            while True:
                await ws.recv()
    settled = await desk.settled(submission.id)
    assert settled.outcome == "completed"
    async with await greeted(desk, "/agents/clerk/ann") as ws:
        # Nothing of the old prompt is replayed here; the instance's stream has it.
        await ws.send(json.dumps({"version": 1, "type": "prompt", "requestId": "r2", "message": "Good morning."}))
        while (frame := json.loads(await ws.recv()))["type"] != "result":
            assert frame["requestId"] == "r2"
        assert frame["result"]["text"] == "Good evening."
    events = (await desk.http.get(f"/agents/clerk/ann/submissions/{submission.id}/events?limit=1000")).json()["events"]
    assert events[-1]["type"] == "idle"
    assert [line for line in await desk.said() if line.startswith("user: ")] == [
        "user: Tell me.",
        f"user: {GO_ON}",
        "user: Good morning.",
    ]


async def greeted(desk: Desk, path: str) -> ClientConnection:
    """Connect a socket and read its greeting."""
    ws = await connect(f"ws://{desk.servers.address}{path}")
    assert json.loads(await ws.recv())["type"] == "ready"
    return ws


# ----------------------------------------------------------------------------------------------------------- dispatches


# DUR-30
async def test_a_dispatch_killed_at_any_point_is_delivered_once(desk: Desk) -> None:
    desk.says += [reply(failure=Failure("silence")), HANGS, reply("but the sentence went on.")]
    body = {"input": {"order": "A-1"}, "dispatchId": "d-1"}
    receipt = (await desk.http.post("/agents/clerk/ann/dispatch", json=body, headers=BEARER)).json()
    await desk.requests(1)
    await desk.kill()
    (submission,) = await desk.store.list_lane(session_lane("clerk", "ann", "default"))
    await desk.partial_text(submission.id)
    await desk.kill()
    assert (await desk.settled(submission.id)).outcome == "completed"
    await desk.kill()
    again = await desk.http.post("/agents/clerk/ann/dispatch", json=body, headers=BEARER)
    assert (again.status_code, again.json()) == (202, receipt)
    other = await desk.http.post("/agents/clerk/ann/dispatch", json=body | {"input": "other"}, headers=BEARER)
    assert other.status_code == 409
    assert sum("[Dispatch Input]" in line for line in await desk.said()) == 1
    assert len(desk.asked) == 3
    assert (await desk.submission(submission.id)).interruptions == 2


# ------------------------------------------------------------------------------------------------------------ workflows

Begin = Callable[[Desk], Coroutine[Any, Any, str]]
"""Starts the run in one of the ways; waits for the end of what the caller sees, and returns the run's id."""


async def accepted(desk: Desk) -> str:
    answer = await desk.http.post("/workflows/steps", json={"token": "t", "steps": 2})
    assert answer.status_code == 202
    return str(answer.json()["runId"])


async def waiting(desk: Desk) -> str:
    with pytest.raises(GONE):
        await desk.http.post("/workflows/steps?wait=result", json={"token": "t", "steps": 2})
    return ""


async def streaming(desk: Desk) -> str:
    seen: list[Event] = []
    told: list[httpx2.Response] = []
    payload = {"token": "t", "steps": 2}
    await broken(events_of(desk.http, "POST", "/workflows/steps", SSE, payload, told.append), seen)
    assert seen[0][1] == "run_start"
    return str(told[0].headers["x-flue-run-id"])


async def on_socket(desk: Desk) -> str:
    async with await greeted(desk, "/workflows/steps") as ws:
        payload = {"token": "t", "steps": 2}
        await ws.send(json.dumps({"version": 1, "type": "invoke", "requestId": "r", "payload": payload}))
        started = json.loads(await ws.recv())
        assert started["type"] == "started"
        with pytest.raises(ConnectionClosedError):
            while True:
                await ws.recv()
        return str(started["runId"])


# DUR-31
@pytest.mark.parametrize("begin", [accepted, waiting, streaming, on_socket])
async def test_a_workflow_killed_however_it_was_started_is_replaced_by_a_linked_run(desk: Desk, begin: Begin) -> None:
    desk.says.append(HANGS)
    beginning = asyncio.create_task(begin(desk))
    await desk.requests(1)
    await desk.kill()
    told = await beginning
    ran = await desk.effects(4)
    runs = await desk.store._read(lambda tx: tx.rows("SELECT id FROM submissions ORDER BY sequence"))
    first, second = (row[0] for row in runs)
    assert told in (first, "")
    await desk.settled(second)
    old, new = [(await desk.http.get(f"/runs/{id}")).json() for id in (first, second)]
    assert (old["status"], old["restartedAsRunId"], old["isError"]) == ("errored", second, True)
    assert old["error"]["message"] == f'Flue workflow execution was interrupted and restarted as run "{second}".'
    assert (new["status"], new["restartedFromRunId"]) == ("completed", first)
    assert new["payload"] == old["payload"] == {"token": "t", "steps": 2}
    assert new["result"]["lineage"] == first
    # The steps that were recorded were not run again.
    steps = [words[2] for words in ran if words[0] == "step"]
    assert steps == ["0", "1", "2"]
    types = [event[1] async for event in events_of(desk.http, "GET", f"/runs/{first}/stream", {})]
    assert types[0] == "run_start"
    assert types[-2:] == ["run_resume", "run_end"]
    types = [event[1] async for event in events_of(desk.http, "GET", f"/runs/{second}/stream", {})]
    assert (types[0], types[-1], types.count("run_end")) == ("run_start", "run_end", 1)


# DUR-31
async def test_a_workflow_that_asks_for_no_restart_fails_where_it_was_killed(desk: Desk) -> None:
    answer = await desk.http.post("/workflows/once", json={"token": "t", "stall": True})
    await desk.effects(1)
    await desk.kill()
    settled = await desk.settled(answer.json()["runId"])
    assert (settled.outcome, json.loads(settled.error or "")["code"]) == ("failed", "interrupted")
    assert len(happened(desk.outside)) == 1


# DUR-32
async def test_a_run_that_waits_for_an_event_is_not_interrupted_by_a_kill(desk: Desk) -> None:
    run_id = (await desk.http.post("/workflows/order", json={"token": "t"})).json()["runId"]

    async def parked() -> bool:
        return (await desk.submission(run_id)).state == "parked"

    await until(parked)
    await desk.kill()
    answer = await desk.http.post(f"/runs/{run_id}/events/paid", json=5)
    assert answer.status_code == 202
    settled = await desk.settled(run_id)
    assert json.loads(settled.result or "")["paid"] == 5
    assert (settled.interruptions, len(happened(desk.outside))) == (0, 2)


# DUR-33
async def test_an_approval_waits_over_kills_before_and_after_it(desk: Desk) -> None:
    desk.says += [reply(calls=[call("refund", {"token": "t1"})]), reply("Done.")]
    answer = await desk.http.post("/agents/clerk/ann", json={"message": "I want my money back."})
    (call_id,) = answer.json()["waitingFor"]["toolCallIds"]
    await desk.kill()
    assert happened(desk.outside) == []
    decided = await desk.http.post(f"/agents/clerk/ann/approvals/{call_id}", json={"approved": True})
    assert decided.status_code == 202
    await desk.kill()
    assert (await desk.settled(answer.json()["submissionId"])).outcome == "completed"
    assert len(happened(desk.outside)) <= 1
    assert (await desk.said())[-2] in ("toolResult: done t1", f"toolResult: {UNKNOWN}")
