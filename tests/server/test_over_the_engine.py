"""The whole way from a request to the engine and back, on each kind of store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from flue import FlueContext, create_agent, tool
from flue.server.app import admin, asgi
from flue.stores import MemoryStore, SqliteStore
from flue.testing import ScriptedModel, call, hang
from tests.server.asgi_client import JSON, Answer, Client, frames

SSE = {"accept": "text/event-stream"}
TOKEN = {"authorization": "Bearer t0ken"}


@tool(approval=True)
def refund(order: str) -> str:
    """Refund an order."""
    return f"{order} is refunded"


@tool
def look_up(order: str) -> str:
    """Look an order up."""
    return f"{order} is on its way"


async def echo(ctx: FlueContext) -> Any:
    ctx.log.info("echoing")
    return ctx.payload


async def boom(ctx: FlueContext) -> None:
    raise ValueError("kaboom")


async def payment(ctx: FlueContext) -> Any:
    return {"paid": await ctx.wait_for_event("paid")}


async def forever(ctx: FlueContext) -> None:
    await asyncio.Event().wait()


async def report(ctx: FlueContext) -> str:
    return f"{ctx.id}: {ctx.payload}"


class Shop:
    """One of everything, over one model."""

    def __init__(self, store: Any) -> None:
        self.model = ScriptedModel()
        agents = {
            "chat": create_agent(model=self.model, tools=[look_up, refund]),
            "thrifty": create_agent(model=self.model, tools=[look_up], budget={"turns": 1}),
            "reporter": report,
        }
        workflows = {"echo": echo, "boom": boom, "payment": payment, "forever": forever}
        self.app = asgi(agents=agents, workflows=workflows, store=store)
        self.client = Client(self.app)
        self.admin = Client(admin(self.app))

    async def streamed(self, method: str, path: str, body: Any = None, **headers: str) -> list[dict[str, Any]]:
        """Return the events of a stream that ends."""
        data = b"" if body is None else json.dumps(body).encode()
        given = {**SSE, **(JSON if body is not None else {}), **headers}
        async with self.client.stream(method, path, data, headers=given) as stream:
            return frames(await stream.end())

    async def until(self, path: str, **wanted: Any) -> Any:
        """Ask until the answer has these values."""
        async with asyncio.timeout(10):
            while True:
                answer = (await self.client.get(path)).json
                if all(answer[key] == value for key, value in wanted.items()):
                    return answer
                await asyncio.sleep(0.005)


@pytest.fixture(params=["memory", "sqlite"])
async def shop(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
    monkeypatch.setenv("FLUE_DISPATCH_TOKEN", "t0ken")
    store: Any = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "flue.db")
    shop = Shop(store)
    yield shop
    await shop.app.application.drain()
    await store.aclose()


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["event"] for event in events]


# ------------------------------------------------------------------------------------------------- workflows


async def test_a_run_is_the_same_in_all_its_views(shop: Shop) -> None:
    answer = await shop.client.post("/workflows/echo", {"a": 1})
    assert answer.status == 202
    run_id = answer.json["runId"]
    streamed = await shop.streamed("GET", f"/runs/{run_id}/stream")
    assert types(streamed) == ["run_start", "log", "idle", "run_end"]
    assert [event["id"] for event in streamed] == ["0", "1", "2", "3"]
    paged = (await shop.client.get(f"/runs/{run_id}/events")).json["events"]
    assert paged == [event["data"] for event in streamed]
    assert {"runId", "owner", "instanceId", "workflowName", "startedAt", "payload"} <= set(paged[0])
    record = (await shop.client.get(f"/runs/{run_id}")).json
    assert (record["status"], record["payload"], record["result"]) == ("completed", {"a": 1}, {"a": 1})
    listed = (await shop.admin.get("/runs")).json["items"]
    assert [item["runId"] for item in listed] == [run_id]
    for place in range(4):
        rest = await shop.streamed("GET", f"/runs/{run_id}/stream", last_event_id=str(place))
        assert rest == streamed[place + 1 :]


async def test_a_failed_run_tells_its_record_and_not_its_caller(shop: Shop) -> None:
    answer = await shop.client.post("/workflows/boom?wait=result")
    assert (answer.status, answer.error["type"]) == (500, "internal_error")
    record = (await shop.client.get(f"/runs/{answer.headers['x-flue-run-id']}")).json
    assert (record["status"], record["isError"]) == ("errored", True)
    assert record["error"] == {"name": "ValueError", "message": "kaboom"}
    streamed = await shop.streamed("POST", "/workflows/boom")
    assert streamed[-1]["data"]["isError"] is True


async def test_a_waiting_run_gets_its_event(shop: Shop) -> None:
    run_id = (await shop.client.post("/workflows/payment")).json["runId"]
    answer = await shop.client.post(f"/runs/{run_id}/events/paid", {"amount": 3}, idempotency_key="k")
    assert answer.status == 202
    record = await shop.until(f"/runs/{run_id}", status="completed")
    assert record["result"] == {"paid": {"amount": 3}}
    answer = await shop.client.post(f"/runs/{run_id}/events/paid", {"amount": 4})
    assert (answer.status, answer.error["type"]) == (404, "run_not_found")


async def test_nobody_waits_for_the_answer_to_a_client_that_has_left(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a client that gives up and asks again would leave one behind each time, for as long as the work takes."""
    monkeypatch.setattr("flue.server.call.UNWATCHED_SECONDS", 0)
    shop.model.add([hang()])
    engine = (await shop.app.application.service()).engine
    paths = {"/workflows/forever?wait=result": b"{}", "/agents/chat/ann": b'{"message": "Hello?"}'}
    for running, (path, body) in enumerate(paths.items(), 1):
        async with shop.client.stream("POST", path, body, headers=JSON):
            while engine.running < running:  # noqa: ASYNC110 - the engine tells nobody
                await asyncio.sleep(0)
        # Leaving the block waits for the end of the application's answer.
    assert engine.running == len(paths)


async def test_a_run_is_aborted_by_its_id_and_who_waits_is_told(shop: Shop) -> None:
    waiting = asyncio.create_task(shop.client.post("/workflows/forever?wait=result"))
    page: list[Any] = []
    async with asyncio.timeout(10):
        while not page:
            page = (await shop.admin.get("/runs?status=active")).json["items"]
            await asyncio.sleep(0.005)
    run_id = page[0]["runId"]
    assert (await shop.client.post(f"/runs/{run_id}/abort", {"reason": "enough"})).status in {200, 202}
    answer: Answer = await waiting
    assert (answer.status, answer.error["type"]) == (409, "aborted")
    record = await shop.until(f"/runs/{run_id}", status="errored")
    assert record["error"]["name"] == "AbortError"
    assert (await shop.client.post(f"/runs/{run_id}/abort")).status == 200


async def test_the_same_key_starts_one_run_and_other_content_is_a_conflict(shop: Shop) -> None:
    first = await shop.client.post("/workflows/echo?wait=result", {"a": 1}, idempotency_key="k")
    again = await shop.client.post("/workflows/echo?wait=result", {"a": 1}, idempotency_key="k")
    assert first.json == again.json
    other = await shop.client.post("/workflows/echo", {"a": 2}, idempotency_key="k")
    assert (other.status, other.error["type"]) == (409, "idempotency_conflict")


# ---------------------------------------------------------------------------------------------------- agents


async def test_a_prompt_is_answered_and_streamed_in_the_recorded_order(shop: Shop) -> None:
    shop.model.add("Hello.", "Hello again.")
    answer = await shop.client.post("/agents/chat/ann", {"message": "hi"})
    assert answer.status == 200
    assert list(answer.json) == ["result"]
    assert list(answer.json["result"]) == ["text", "usage", "model"]
    events = await shop.streamed("POST", "/agents/chat/ann", {"message": "hi"})
    assert [kind for kind in types(events) if kind not in {"message_update", "text_delta"}] == [
        *("operation_start", "agent_start", "turn_start", "message_start", "message_end", "turn_request"),
        *("message_start", "message_end", "turn_end", "turn", "agent_end", "operation", "idle"),
    ]
    assert [event["id"] for event in events] == [str(index) for index in range(len(events))]
    assert all(event["data"]["instanceId"] == "ann" and "runId" not in event["data"] for event in events)
    assert events[-2]["data"]["result"]["text"] == "Hello again."
    assert (await shop.admin.get("/runs")).json["items"] == []


async def test_a_failing_prompt_streams_idle_and_then_an_error(shop: Shop) -> None:
    shop.model.add(RuntimeError("the key is s3cret"))
    events = await shop.streamed("POST", "/agents/chat/ann", {"message": "hi"})
    assert types(events)[-2:] == ["idle", "error"]
    assert (events[-1]["id"], events[-1]["data"]["error"]["type"]) == ("0", "internal_error")


async def test_sessions_of_one_instance_are_independent_and_one_session_is_a_queue(shop: Shop) -> None:
    shop.model.add([hang()], "other session")
    busy = asyncio.create_task(shop.client.post("/agents/chat/ann", {"message": "slow"}))
    async with asyncio.timeout(10):
        while not shop.model.requests:  # noqa: ASYNC110 - the engine tells nobody
            await asyncio.sleep(0.005)
    other = await shop.client.post("/agents/chat/ann", {"message": "hi", "session": "b"})
    assert other.json["result"]["text"] == "other session"
    refused = await shop.client.post("/agents/chat/ann?busy=reject", {"message": "hi"})
    assert (refused.status, refused.error["type"]) == (400, "invalid_request")
    queued = asyncio.create_task(shop.client.post("/agents/chat/ann", {"message": "next"}))
    shop.model.add("after")
    stream_events = await shop.client.get("/agents/chat/ann/submissions/nope")
    assert stream_events.status == 404
    running = await _running(shop)
    aborted = await shop.client.post(f"/agents/chat/ann/submissions/{running}/abort", {"reason": "too slow"})
    assert aborted.status in {200, 202}
    assert (await busy).status == 409
    assert (await queued).json["result"]["text"] == "after"


async def _running(shop: Shop) -> str:
    """Return the id of the oldest prompt of ann's that has not ended."""
    service = await shop.app.application.service()
    lane = await service.store.list_lane('chat/agent-session:["ann","default","default"]')
    return lane[0].id


async def test_a_tool_call_waits_for_approval_over_http(shop: Shop) -> None:
    for approved, said in ((True, "A-1 is refunded"), (False, "too old")):
        shop.model.add([call("refund", {"order": "A-1"})], "Done.")
        answer = await shop.client.post("/agents/chat/ann", {"message": "refund A-1"})
        assert answer.status == 202
        assert answer.json["status"] == "waiting"
        (call_id,) = answer.json["waitingFor"]["toolCallIds"]
        path = f"/agents/chat/ann/submissions/{answer.json['submissionId']}"
        assert (await shop.client.get(path)).json["status"] == "waiting"
        decision = {"approved": approved, "reason": "too old"}
        mistyped = await shop.client.post("/agents/chat/ann/approvals/call_0", decision)
        assert (mistyped.status, mistyped.error["type"]) == (404, "approval_not_found")
        assert f"What waits: {call_id}." in mistyped.error["details"]
        assert (await shop.client.post(f"/agents/chat/ann/approvals/{call_id}", decision)).status == 202
        record = await shop.until(path, status="completed")
        assert record["result"]["text"] == "Done."
        assert said in str(shop.model.requests[-1].messages[-1])
        again = await shop.client.post(f"/agents/chat/ann/approvals/{call_id}", decision)
        assert (again.status, again.error["type"]) == (404, "approval_not_found")
        events = await shop.streamed("GET", f"{path}/stream")
        assert {"approval_request", "approval", "idle"} <= set(types(events))


async def test_a_used_up_budget_waits_for_a_larger_one(shop: Shop) -> None:
    shop.model.add([call("look_up", {"order": "A-1"})], "On its way.")
    answer = await shop.client.post("/agents/thrifty/ann", {"message": "where is A-1?"})
    assert (answer.status, answer.json["waitingFor"]) == (202, {"reason": "budget"})
    path = f"/agents/thrifty/ann/submissions/{answer.json['submissionId']}"
    wrong = await shop.client.post("/agents/thrifty/ann/budget", {"euros": 1}, **TOKEN)
    assert (wrong.status, wrong.error["type"]) == (400, "invalid_request")
    assert (await shop.client.post("/agents/thrifty/ann/budget", {"turns": 5}, **TOKEN)).status == 202
    assert (await shop.until(path, status="completed"))["result"]["text"] == "On its way."


async def test_a_dispatch_is_worked_on_and_seen_in_the_instances_stream(shop: Shop) -> None:
    shop.model.add("Noted.")
    body = {"input": {"order": "A-1"}, "dispatchId": "d-1"}
    receipts = [await shop.client.post("/agents/chat/ann/dispatch", body, **TOKEN) for _ in range(2)]
    assert receipts[0].status == 202
    assert receipts[0].json == receipts[1].json
    assert receipts[0].json["dispatchId"] == "d-1"
    async with shop.client.stream("GET", "/agents/chat/ann/stream") as stream:
        text = await stream.until('"idle"')
    assert {event["data"]["dispatchId"] for event in frames(text)} == {"d-1"}
    assert len(shop.model.requests) == 1


# DUR-34
async def test_an_instances_stream_is_resumed_at_every_event_without_gap_or_repetition(shop: Shop) -> None:
    shop.model.add([call("look_up", {"order": "A-1"})], "It is on its way, and it will be there soon.", "Bye.")
    for message in ("where is A-1?", "bye"):
        assert (await shop.client.post("/agents/chat/ann", {"message": message})).status == 200

    async def read(count: int, **headers: str) -> list[dict[str, Any]]:
        async with shop.client.stream("GET", "/agents/chat/ann/stream", headers=headers) as stream:
            async with asyncio.timeout(10):
                while stream.taken.count(b"\n\n") < count:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            return frames(stream.taken.decode())

    service = await shop.app.application.service()
    total = len(await service.log.read(await _only(shop, 0), limit=1000)) + len(
        await service.log.read(await _only(shop, 1), limit=1000)
    )
    whole = await read(total)
    assert len({event["id"] for event in whole}) == total
    assert types(whole).count("idle") == 2
    for place, event in enumerate(whole[:-1]):
        assert await read(total - place - 1, last_event_id=event["id"]) == whole[place + 1 :]


async def _only(shop: Shop, number: int) -> str:
    """Return the log of the prompt of this number."""
    service = await shop.app.application.service()
    stored = await service.store.read_stream("chat/ann", limit=1000)
    return list(dict.fromkeys(each.row.log for each in stored))[number]


async def test_a_function_agents_run_is_recorded(shop: Shop) -> None:
    answer = await shop.client.post("/agents/reporter/acme", [1])
    assert answer.json["result"] == "acme: [1]"
    record = (await shop.client.get(f"/runs/{answer.headers['x-flue-run-id']}")).json
    assert (record["agentName"], record["instanceId"], record["status"]) == ("reporter", "acme", "completed")
    assert "owner" not in record


async def test_odd_ids_are_ids(shop: Shop) -> None:
    from urllib.parse import quote

    for id in ("..", "../../etc", "a/b", "\U0001f600", "%", "'; DROP TABLE x;--", "a" * 512, "\u202e"):
        shop.model.add("Hello.")
        path = f"/agents/chat/{quote(id, safe='')}"
        answer = await shop.client.post(path, {"message": "hi", "session": id[:100]})
        assert answer.status == 200, id
        submission = (await shop.client.get(f"{path}/submissions/{answer.headers['x-flue-submission-id']}")).json
        assert submission["instanceId"] == id


# ---------------------------------------------------------------------------------------- many loops, one store


def test_what_was_accepted_in_one_loop_is_seen_in_the_next(tmp_path: Path) -> None:
    app = asgi(workflows={"echo": echo}, store=tmp_path / "flue.db")
    client = TestClient(app)
    run_ids = [client.post("/workflows/echo", json=number).json()["runId"] for number in range(3)]
    for number, run_id in enumerate(run_ids):
        record = client.get(f"/runs/{run_id}").json()
        assert record["payload"] == number
        # The request that accepted it has ended, and its loop with it: the run was done then, or is taken up again.
        assert record["status"] in {"active", "completed", "errored"}
        last = record.get("restartedAsRunId", run_id)
        with client.stream("GET", f"/runs/{last}/stream") as stream:
            assert "run_end" in "".join(stream.iter_text())
        assert client.get(f"/runs/{last}").json()["result"] == number
