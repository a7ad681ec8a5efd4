"""`/runs/:runId`: spec 4, abort, and events for a run that waits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flue.durable.records import Run
from flue.engine.json_text import WITHHELD
from flue.engine.log_settings import LogSettings
from tests.server.asgi_client import Client, frames
from tests.server.conftest import Site

STARTED, ENDED = 1_795_187_565_859, 1_795_187_565_872
RUN_ID = "workflow:noop:01M7WR8S93PM5MVMZWF8J3MTRS"
RUN = Run(RUN_ID, "workflow", "noop", "", "active", STARTED, RUN_ID, payload='{"text":"Hello"}')


@pytest.fixture
async def run(site: Site) -> str:
    """Have a run with three events."""
    answer = await site.client.post("/workflows/noop")
    run_id = answer.json["runId"]
    ticket = site.service.tickets[run_id]
    await ticket.outcome()
    for type in ("run_start", "log", "run_end"):
        await ticket.log(type, runId=run_id)
    return str(run_id)


async def test_an_active_run_has_no_end(site: Site) -> None:
    site.service.runs[RUN_ID] = RUN
    answer = await site.client.get(f"/runs/{RUN_ID}")
    assert answer.status == 200
    assert answer.json == {
        "runId": RUN_ID,
        "owner": {"kind": "workflow", "workflowName": "noop", "instanceId": RUN_ID},
        "status": "active",
        "startedAt": "2026-11-20T15:12:45.859Z",
        "payload": {"text": "Hello"},
    }


async def test_a_completed_run_has_its_result_in_the_recorded_order(site: Site) -> None:
    site.service.runs[RUN_ID] = replace(RUN, status="completed", ended_at=ENDED, result='{"confidence":"high"}')
    answer = await site.client.get(f"/runs/{RUN_ID}")
    assert list(answer.json) == [
        *("runId", "owner", "status", "startedAt", "payload"),
        *("endedAt", "isError", "durationMs", "result"),
    ]
    assert answer.json["endedAt"] == "2026-11-20T15:12:45.872Z"
    assert (answer.json["isError"], answer.json["durationMs"]) == (False, 13)
    assert answer.json["result"] == {"confidence": "high"}


async def test_an_errored_run_has_name_and_message_alone(site: Site) -> None:
    error = '{"name":"ValueError","message":"kaboom","code":"x","hint":"y"}'
    site.service.runs[RUN_ID] = replace(RUN, status="errored", ended_at=ENDED, error=error)
    answer = await site.client.get(f"/runs/{RUN_ID}")
    assert answer.json["isError"] is True
    assert answer.json["error"] == {"name": "ValueError", "message": "kaboom"}
    assert "result" not in answer.json


async def test_linked_runs_name_each_other(site: Site) -> None:
    site.service.runs[RUN_ID] = replace(RUN, restarted_from="workflow:noop:A", restarted_as="workflow:noop:B")
    answer = await site.client.get(f"/runs/{RUN_ID}")
    assert answer.json["restartedFromRunId"] == "workflow:noop:A"
    assert answer.json["restartedAsRunId"] == "workflow:noop:B"


async def test_a_run_of_a_function_agent_names_agent_and_instance(site: Site) -> None:
    site.service.runs["run_1"] = replace(RUN, run_id="run_1", kind="agent", target="reporter", instance="acme")
    assert (await site.client.get("/runs/run_1")).json == {
        "runId": "run_1",
        "agentName": "reporter",
        "instanceId": "acme",
        "status": "active",
        "startedAt": "2026-11-20T15:12:45.859Z",
    }


@pytest.mark.parametrize("path", ["", "/events", "/stream"])
@pytest.mark.parametrize("id", ["nope", "workflow%3Anoop%3A1", "x" * 5000, "%2e%2e"])
async def test_an_unknown_run_is_404(site: Site, id: str, path: str) -> None:
    answer = await site.client.get(f"/runs/{id}{path}")
    assert (answer.status, answer.error["type"]) == (404, "run_not_found")


# ---------------------------------------------------------------------------------------------------- events


async def test_events_come_in_pages(site: Site, run: str) -> None:
    async def indices(query: str) -> list[int]:
        answer = await site.client.get(f"/runs/{run}/events{query}")
        assert answer.status == 200
        assert list(answer.json) == ["events"]
        return [event["eventIndex"] for event in answer.json["events"]]

    assert await indices("") == [0, 1, 2]
    assert await indices("?after=0") == [1, 2]
    assert await indices("?after=2") == []
    assert await indices("?after=" + "9" * 5000) == []
    assert await indices("?limit=1000&after=00") == [1, 2]
    assert await indices("?limit=1") == [0]
    assert await indices("?types=run_end,log&limit=1") == [1]
    assert await indices("?types=turn") == []


@pytest.mark.parametrize(
    ("query", "name"),
    [
        *[(f"?limit={limit}", "limit") for limit in ("0", "1001", "-1", "1.5", "", "x", "\u0661", "9" * 5000)],
        *[(f"?after={after}", "after") for after in ("-1", "x", "", "1e3", "%D9%A1")],
        *[(f"?types={types}", "types") for types in ("", "nope", "log,", "log,nope", "LOG", "log%00")],
    ],
)
async def test_wrong_queries_of_events_are_400(site: Site, run: str, query: str, name: str) -> None:
    answer = await site.client.get(f"/runs/{run}/events{query.replace(chr(0x661), '%D9%A1')}")
    assert (answer.status, answer.error["type"]) == (400, "validation_failed")
    assert answer.error["meta"]["issues"][0]["path"] == [name]


# ---------------------------------------------------------------------------------------------------- stream


async def ids(site: Site, run: str, **headers: str) -> list[str]:
    async with site.client.stream("GET", f"/runs/{run}/stream", headers=headers) as stream:
        return [frame["id"] for frame in frames(await stream.end())]


async def test_the_stream_of_an_ended_run_is_replayed_and_closed(site: Site, run: str) -> None:
    assert await ids(site, run) == ["0", "1", "2"]


async def test_a_stream_goes_on_after_the_last_event_id(site: Site, run: str) -> None:
    assert await ids(site, run, last_event_id="0") == ["1", "2"]
    assert await ids(site, run, last_event_id="2") == []
    assert await ids(site, run, last_event_id="9" * 5000) == []


@pytest.mark.parametrize("malformed", ["", "x", "-1", "1.0", "0x1", "\u00b2"])
async def test_a_malformed_last_event_id_is_ignored(site: Site, run: str, malformed: str) -> None:
    assert await ids(site, run, last_event_id=malformed) == ["0", "1", "2"]


async def test_head_of_a_stream_ends_at_once(site: Site, run: str) -> None:
    answer = await site.client.request("HEAD", f"/runs/{run}/stream")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"] == "text/event-stream"


# ---------------------------------------------------------------------------------------------- abort, events


async def test_a_run_is_aborted_with_a_reason(site: Site, run: str) -> None:
    answer = await site.client.post(f"/runs/{run}/abort", {"reason": "enough"})
    assert answer.status == 202
    assert answer.json["runId"] == run
    assert site.service.asked[-1] == ("abort", run, "enough")
    site.service.runs[run] = replace(site.service.runs[run], status="errored", ended_at=ENDED)
    assert (await site.client.post(f"/runs/{run}/abort")).status == 200


async def test_an_aborted_runs_error_is_withheld_where_the_project_says_so(site: Site, run: str) -> None:
    site.service.log_settings = LogSettings(errors="redacted")
    error = '{"name":"E","message":"canary-77aa"}'
    site.service.runs[run] = replace(site.service.runs[run], status="errored", ended_at=ENDED, error=error)
    answer = await site.client.post(f"/runs/{run}/abort")
    assert answer.json["error"] == {"name": "E", "message": WITHHELD}


@pytest.mark.parametrize("body", [[], "x", {"reason": 1}, {"reason": None}])
async def test_a_wrong_reason_is_400(site: Site, run: str, body: Any) -> None:
    answer = await site.client.post(f"/runs/{run}/abort", body)
    assert (answer.status, answer.error["type"]) == (400, "invalid_request")


async def test_an_event_is_sent_to_a_run(site: Site, run: str) -> None:
    answer = await site.client.post(f"/runs/{run}/events/paid%2Fnow", {"amount": 1}, idempotency_key="k")
    assert (answer.status, answer.json) == (202, {"status": "accepted"})
    assert site.service.asked[-1] == ("send_event", run, "paid/now", {"amount": 1}, {"id": "k"})


async def test_nothing_is_done_to_unknown_or_hidden_runs(site: Site) -> None:
    site.service.runs["workflow:hidden:1"] = replace(RUN, run_id="workflow:hidden:1", target="hidden")
    site.service.submissions["sub_1"] = None  # type: ignore[assignment]
    for run_id, type in (
        ("nope", "run_not_found"),
        ("sub_1", "run_not_found"),
        ("workflow:hidden:1", "workflow_not_http"),
    ):
        for path in ("abort", "events/e"):
            answer = await site.client.post(f"/runs/{run_id}/{path}")
            assert (answer.status, answer.error["type"]) == (404, type)
    assert not [asked for asked in site.service.asked if asked[0] in {"abort", "send_event"}]


async def test_the_routes_below_runs_can_be_closed_or_guarded(site: Site, run: str) -> None:
    from starlette.responses import PlainTextResponse

    async def guard(request: Any, call_next: Any) -> Any:
        if request.headers.get("authorization") != "Bearer me":
            return PlainTextResponse("who?", 401)
        return await call_next(request)

    guarded, closed = Client(site.app(runs=guard)), Client(site.app(runs=None))
    for path in ("", "/events", "/stream"):
        assert (await guarded.get(f"/runs/{run}{path}")).status == 401
        assert (await guarded.get(f"/runs/{run}{path}", authorization="Bearer me")).status == 200
        answer = await closed.get(f"/runs/{run}{path}")
        assert (answer.status, answer.error["type"]) == (404, "route_not_found")
    assert (await guarded.post(f"/runs/{run}/abort")).status == 401
    assert (await closed.post(f"/runs/{run}/abort")).status == 404
