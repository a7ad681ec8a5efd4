"""`POST /workflows/:name`: spec 2."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.server.asgi_client import frames
from tests.server.conftest import Site

SSE = {"accept": "text/event-stream"}


async def test_by_default_a_run_is_accepted(site: Site) -> None:
    answer = await site.client.post("/workflows/noop", {"text": "hi"})
    assert answer.status == 202
    assert list(answer.json) == ["status", "runId"]
    assert answer.json["status"] == "accepted"
    assert answer.json["runId"].startswith("workflow:noop:")
    assert answer.headers["x-flue-run-id"] == answer.json["runId"]


async def test_with_wait_the_result_is_returned_whatever_is_accepted(site: Site) -> None:
    async def translate(ticket: Any, payload: Any) -> Any:
        return {"translation": f"\u00ab{payload['text']}\u00bb"}

    site.service.doing = translate
    answer = await site.client.post("/workflows/noop?wait=result", {"text": "salut"}, **SSE)
    assert answer.status == 200
    run_id = answer.headers["x-flue-run-id"]
    assert answer.json == {"result": {"translation": "\u00absalut\u00bb"}, "_meta": {"runId": run_id}}


async def test_a_workflow_without_a_result_gives_null(site: Site) -> None:
    assert (await site.client.post("/workflows/noop?wait=result")).json["result"] is None


async def test_what_a_workflow_raised_is_not_told(site: Site) -> None:
    async def boom(ticket: Any, payload: Any) -> Any:
        raise ValueError("kaboom secret")

    site.service.doing = boom
    answer = await site.client.post("/workflows/noop?wait=result")
    assert answer.status == 500
    assert answer.error["type"] == "internal_error"
    assert answer.headers["x-flue-run-id"].startswith("workflow:noop:")
    assert b"kaboom" not in answer.body


async def test_events_are_streamed_until_the_run_ends(site: Site) -> None:
    async def work(ticket: Any, payload: Any) -> Any:
        await ticket.log("run_start", payload=payload)
        await ticket.log("log", message="zwei\u2028Zeilen")
        await ticket.log("run_end", isError=False)

    site.service.doing = work
    async with site.client.stream(
        "POST", "/workflows/noop", b"{}", headers={**SSE, "content-type": "application/json"}
    ) as stream:
        text = await stream.end()
        answer = await stream.answer()
    assert answer.status == 200
    assert answer.headers == {
        "content-type": "text/event-stream",
        "cache-control": "no-cache",
        "connection": "keep-alive",
        "x-flue-run-id": "workflow:noop:1",
    }
    assert [(frame["event"], frame["id"], frame["data"]["eventIndex"]) for frame in frames(text)] == [
        ("run_start", "0", 0),
        ("log", "1", 1),
        ("run_end", "2", 2),
    ]
    first = text.split("\n\n")[0]
    assert first == ("event: run_start\nid: 0\ndata: " + json.dumps(frames(text)[0]["data"]))
    assert text.endswith("\n\n")
    assert not text.endswith("\n\n\n")


async def test_an_unknown_workflow_is_404_and_in_local_mode_names_the_others(site: Site) -> None:
    answer = await site.client.post("/workflows/nope")
    assert (answer.status, answer.error["type"]) == (404, "workflow_not_found")
    assert "dev" not in answer.error
    assert "x-flue-run-id" not in answer.headers
    site.env["FLUE_MODE"] = "local"
    assert "noop" in (await site.client.post("/workflows/nope")).error["dev"]


async def test_a_hidden_workflow_is_404_and_says_that_it_is_not_for_http(site: Site) -> None:
    answer = await site.client.post("/workflows/hidden")
    assert (answer.status, answer.error["type"]) == (404, "workflow_not_http")


async def test_wait_is_checked_first_even_for_an_unknown_workflow(site: Site) -> None:
    for path in ("/workflows/noop?wait=yes", "/workflows/nope?wait=", "/workflows/hidden?wait=result2"):
        answer = await site.client.post(path)
        assert (answer.status, answer.error["type"]) == (400, "validation_failed")
        (issue,) = answer.error["meta"]["issues"]
        assert set(issue) == {"message", "path"}
        assert issue["path"] == ["wait"]
        assert "x-flue-run-id" not in answer.headers


async def test_other_parameters_are_ignored(site: Site) -> None:
    assert (await site.client.post("/workflows/noop?x=1&wait=result&wait2=%FF")).status == 200


async def test_a_key_of_the_clients_own_makes_starting_idempotent(site: Site) -> None:
    await site.client.post("/workflows/noop", idempotency_key="order-17")
    assert site.service.asked[-1] == ("start_workflow", "noop", {}, "order-17")
    answer = await site.client.post("/workflows/noop", idempotency_key="x" * 256)
    assert (answer.status, answer.error["type"]) == (400, "invalid_request")


async def test_a_client_that_leaves_does_not_stop_the_run(site: Site) -> None:
    go_on = asyncio.Event()

    async def work(ticket: Any, payload: Any) -> Any:
        await ticket.log("run_start")
        await go_on.wait()
        return "done"

    site.service.doing = work
    async with site.client.stream("POST", "/workflows/noop", headers=SSE) as stream:
        await stream.until("run_start")
    go_on.set()
    outcome = await site.service.tickets["workflow:noop:1"].outcome()
    assert (outcome.kind, outcome.result) == ("completed", '"done"')


async def test_a_run_that_was_aborted_is_409_for_who_waits(site: Site) -> None:
    from flue.durable.records import Outcome

    async def work(ticket: Any, payload: Any) -> Any:
        await ticket.end(Outcome.aborted("enough"))
        await asyncio.Event().wait()

    site.service.doing = work
    answer = await site.client.post("/workflows/noop?wait=result")
    assert (answer.status, answer.error["type"]) == (409, "aborted")
    assert answer.headers["x-flue-run-id"] == "workflow:noop:1"
