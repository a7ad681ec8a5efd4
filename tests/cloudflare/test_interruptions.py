"""The four rows of the table of interruptions: the object is evicted at exactly that point, and its alarm rings."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flue.durable.records import Submission
from flue.harness.interrupted import GO_ON
from flue.harness.left_open import UNKNOWN
from flue.testing import RecordedRequest, call, hang
from tests.cloudflare.office import CLERK, SSE, STEPS, at_rest, happened, submissions, the_submission, until
from tests.cloudflare.site import Site, model
from tests.cloudflare.standin.values import JsException
from tests.cloudflare.standin.world import Answer
from tests.cloudflare.test_sockets_of_objects import UPGRADE, Client
from tests.engine.scenes import texts

BEGINNING = "Once there was an object that was evicted in the middle of a sentence, "
UNREACHABLE = 503


@pytest.fixture(autouse=True)
def _nothing_happened() -> None:
    happened.clear()


@pytest.fixture
async def desk(cloud: Site) -> Site:
    await cloud.deploy_project({"agents/clerk.py": CLERK, "workflows/steps.py": STEPS})
    return cloud


async def settled(cloud: Site, instance: str, id: str) -> Submission:
    """Wait until work has settled, once."""
    store = cloud.store(cloud.agent("clerk", instance))

    async def is_settled() -> Submission | None:
        found = await store.get_submission(id)
        return found if found is not None and found.state == "settled" else None

    submission: Submission = await until(is_settled)
    assert [record.kind for record in await store.load_journal(id)].count("settled") == 1
    return submission


async def partial(cloud: Site, instance: str) -> None:
    """Wait until some of the sentence is on disk."""
    id = (await the_submission(cloud, instance)).id
    store = cloud.store(cloud.agent("clerk", instance))

    async def has() -> bool:
        return any("Once there" in row.row.body for row in await store.read_events(id))

    await until(has)


async def said(cloud: Site, instance: str) -> list[str]:
    return texts(await cloud.said("clerk", instance))


# ------------------------------------------------------------------------------------------------------------- prompts


async def test_a_prompt_evicted_in_the_middle_of_its_answer_goes_on_where_it_was(desk: Site) -> None:
    model().add(["Looking.", call("work", {"token": "t1"})], [BEGINNING, hang()], "but the sentence went on.")
    asking = asyncio.create_task(desk.call("POST", "/agents/clerk/ann", json={"message": "Tell me."}))
    await partial(desk, "ann")
    id = (await the_submission(desk, "ann")).id
    desk.evict("Clerk", "ann")
    assert (await asking).status == UNREACHABLE
    submission = await settled(desk, "ann", id)
    assert (submission.outcome, submission.interruptions) == ("completed", 1)
    # What had arrived was kept, and the model asked to go on; the tool was not called again.
    assert happened == ["t1"]
    *_, kept, signal, rest = await said(desk, "ann")
    assert (signal, rest) == (f"user: {GO_ON}", "assistant: but the sentence went on.")
    assert BEGINNING.startswith(kept.removeprefix("assistant: ").rstrip())
    await at_rest(desk.agent("clerk", "ann"))


async def test_a_stream_that_broke_off_is_resumed_without_a_gap(desk: Site) -> None:
    model().add([BEGINNING, hang()], "but the sentence went on.")
    async with desk.open("POST", "/agents/clerk/ann", json={"message": "Tell me."}, headers=SSE) as stream:
        await stream.until("text_delta")
        await partial(desk, "ann")
        id = stream.headers["x-flue-submission-id"]
        desk.evict("Clerk", "ann")
        with pytest.raises(JsException, match="is gone"):
            await stream.read()
    seen = [line for line in stream.seen.decode().split("\n\n") if line]
    last = int(seen[-1].split("id: ")[1].split("\n")[0])
    path = f"/agents/clerk/ann/submissions/{id}/stream"
    resumed = await desk.call("GET", path, headers={"last-event-id": str(last)})
    whole = await desk.call("GET", path)
    frames = [frame for frame in whole.body.decode().split("\n\n") if frame]
    assert resumed.body.decode().split("\n\n")[:-1] == [
        frame for frame in frames if int(frame.split("id: ")[1].split("\n")[0]) > last
    ]
    assert frames[-1].startswith("event: idle")


async def test_a_prompt_evicted_in_a_tool_is_told_that_the_outcome_is_unknown(desk: Site) -> None:
    calls = [call("work", {"token": "t1"}), call("stall", {"token": "t2"})]
    model().add(["Both at once.", *calls], "I shall find out.")
    asking = asyncio.create_task(desk.call("POST", "/agents/clerk/ann", json={"message": "Go."}))
    id = (await the_submission(desk, "ann")).id
    store = desk.store(desk.agent("clerk", "ann"))

    async def recorded() -> bool:
        kinds = [record.kind for record in await store.load_journal(id)]
        return "tool_result" in kinds and len(happened) == 2

    await until(recorded)
    desk.evict("Clerk", "ann")
    assert (await asking).status == UNREACHABLE
    assert (await settled(desk, "ann", id)).outcome == "completed"
    assert (await said(desk, "ann"))[-3:] == [
        "toolResult: done t1",
        f"toolResult: {UNKNOWN}",
        "assistant: I shall find out.",
    ]
    assert sorted(happened) == ["t1", "t2"]


async def test_the_prompt_of_a_socket_that_sleeps_is_answered_after_an_eviction(desk: Site) -> None:
    model().add([BEGINNING, hang()], "but the sentence went on.")
    client = Client(await desk.call("GET", "/agents/clerk/ann", headers=UPGRADE))
    client.send(type="prompt", requestId="1", message="Tell me.")
    await partial(desk, "ann")
    desk.evict("Clerk", "ann")
    result = await client.next("result")
    assert result["result"]["text"].endswith("but the sentence went on.")
    assert not client.closed.done()


# ----------------------------------------------------------------------------------------------------------- dispatches


async def test_a_dispatch_evicted_at_any_point_is_delivered_once(cloud: Site) -> None:
    cloud.variables["FLUE_DISPATCH_TOKEN"] = "t0ken"
    await cloud.deploy_project({"agents/clerk.py": CLERK})
    model().add([hang()], [BEGINNING, hang()], "but the sentence went on.")
    body = {"input": {"order": "A-1"}, "dispatchId": "d-1"}

    async def dispatch(**more: Any) -> Answer:
        headers = {"authorization": "Bearer t0ken"}
        return await cloud.call("POST", "/agents/clerk/ann/dispatch", json=body | more, headers=headers)

    receipt = await dispatch()
    assert receipt.status == 202
    await until(lambda: len(model().requests) == 1)
    cloud.evict("Clerk", "ann")
    id = (await the_submission(cloud, "ann")).id
    await partial(cloud, "ann")
    cloud.evict("Clerk", "ann")
    submission = await settled(cloud, "ann", id)
    assert (submission.outcome, submission.interruptions) == ("completed", 2)
    cloud.evict("Clerk", "ann")
    assert (await dispatch()).json == receipt.json
    assert (await dispatch(input="other")).status == 409
    assert sum("[Dispatch Input]" in line for line in await said(cloud, "ann")) == 1
    assert len(model().requests) == 3


# ------------------------------------------------------------------------------------------------------------ workflows


async def accepted(cloud: Site, begun: asyncio.Event) -> str:
    answer = await cloud.call("POST", "/workflows/steps", json={"a": 1})
    assert answer.status == 202
    begun.set()
    return str(answer.json["runId"])


async def waiting(cloud: Site, begun: asyncio.Event) -> str:
    begun.set()
    answer = await cloud.call("POST", "/workflows/steps?wait=result", json={"a": 1})
    assert answer.status == UNREACHABLE
    return answer.headers["x-flue-run-id"]


async def streaming(cloud: Site, begun: asyncio.Event) -> str:
    async with cloud.open("POST", "/workflows/steps", json={"a": 1}, headers=SSE) as stream:
        await stream.until("run_start")
        begun.set()
        with pytest.raises(JsException, match="is gone"):
            await stream.read()
        return stream.headers["x-flue-run-id"]


async def on_socket(cloud: Site, begun: asyncio.Event) -> str:
    client = Client(await cloud.call("GET", "/workflows/steps", headers=UPGRADE))
    client.send(type="invoke", requestId="1", payload={"a": 1})
    run_id = (await client.next("started"))["runId"]
    begun.set()
    # Here the socket stays; what it is told is how its run ended.
    assert (await client.next("error"))["runId"] == run_id
    return str(run_id)


@pytest.mark.parametrize("begin", [accepted, waiting, streaming, on_socket])
async def test_a_workflow_evicted_however_it_was_started_is_replaced_once_by_a_linked_run(
    desk: Site, begin: Any
) -> None:
    model().add([BEGINNING, hang()], "Well.")
    begun = asyncio.Event()
    beginning = asyncio.create_task(begin(desk, begun))
    await until(lambda: len(model().requests) == 1 and begun.is_set())
    (name,) = desk.names("FLUE_WORKFLOW_STEPS")
    desk.evict("FLUE_WORKFLOW_STEPS", name)
    first = await beginning
    assert first == name
    await at_rest(desk.workflow("steps", name))
    second = (await desk.call("GET", f"/runs/{first}")).json["restartedAsRunId"]
    old, new = [(await desk.call("GET", f"/runs/{run}")).json for run in (first, second)]
    assert (old["status"], old["isError"]) == ("errored", True)
    assert old["error"]["message"] == f'Flue workflow execution was interrupted and restarted as run "{second}".'
    assert (new["status"], new["restartedFromRunId"]) == ("completed", first)
    assert new["result"] == {"lineage": first, "said": "Well.", "payload": {"a": 1}}
    # In the same object, where the steps that were recorded are found.
    assert happened == ["s0", "s1", "last"]
    assert desk.names("FLUE_WORKFLOW_STEPS") == [first]
    assert len(await submissions(desk, desk.workflow("steps", first))) == 2


# ------------------------------------------------------------------------------------------------------ ended, not told


async def test_a_run_that_ended_without_the_registrys_knowing_is_told_when_the_alarm_rings(desk: Site) -> None:
    gate = asyncio.Event()

    async def answer(request: RecordedRequest) -> str:
        await gate.wait()
        return "Well."

    model().add(answer)
    run_id = (await desk.call("POST", "/workflows/steps", json={})).json["runId"]
    place = desk.workflow("steps", run_id)
    assert told(desk) == [(run_id, "active")]
    desk.unreachable["FlueRegistry"] = "overloaded"
    gate.set()
    await until(lambda: desk.store(place).get_run(run_id))
    await until(lambda: place.disk.inner.execute("SELECT 1 FROM flue_submissions WHERE status <> 'active'").fetchone())
    desk.evict("FLUE_WORKFLOW_STEPS", run_id)
    rung = place.alarms
    await until(lambda: place.alarms > rung + 1)
    assert told(desk) == [(run_id, "active")]
    del desk.unreachable["FlueRegistry"]
    await at_rest(place)
    assert told(desk) == [(run_id, "completed")]
    assert happened == ["s0", "s1", "last"]


def told(cloud: Site) -> list[tuple[str, str]]:
    """Return the runs that the registry knows, and how they stand there."""
    registry = cloud.place("FLUE_REGISTRY", "default")
    found: list[tuple[str, str]] = registry.disk.inner.execute("SELECT id, status FROM flue_pointers").fetchall()
    return found
