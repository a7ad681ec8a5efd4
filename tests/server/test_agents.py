"""`POST /agents/:name/:id`: spec 3 for agents, spec 9 for function agents."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from flue.durable.records import Outcome
from flue.errors import SessionError, UsageError
from tests.server.asgi_client import JSON, frames
from tests.server.conftest import Site
from tests.server.fake_service import submission

PATH = "/agents/chat/customer-1"
SSE = {"accept": "text/event-stream"}
REPLY = {
    "text": "Echo: hello",
    "usage": {"input": 80, "output": 10, "cacheRead": 20, "cacheWrite": 0, "totalTokens": 110},
    "model": {"provider": "fake", "id": "m1"},
}


async def echo(ticket: Any, message: Any) -> Any:
    await ticket.log("operation_start", instanceId="customer-1")
    await ticket.log("operation", instanceId="customer-1", result=REPLY)
    await ticket.log("idle", instanceId="customer-1")
    return REPLY


async def fail(ticket: Any, message: Any) -> Any:
    await ticket.log("idle", instanceId="customer-1")
    raise ValueError("401 with a secret")


async def test_a_prompt_is_answered_with_its_result_alone(site: Site) -> None:
    site.service.doing = echo
    answer = await site.client.post(PATH, {"message": "hello", "session": "support", "extra": 1})
    assert answer.status == 200
    assert answer.json == {"result": REPLY}
    assert answer.headers["x-flue-submission-id"] == "sub_1"
    assert "x-flue-run-id" not in answer.headers
    assert site.service.asked[-1] == ("prompt", "chat", "customer-1", "hello", "support", "queue", None)


async def test_session_and_query_have_defaults(site: Site) -> None:
    await site.client.post(f"{PATH}?wait=anything", {"message": "hello"})
    assert site.service.asked[-1][4:] == ("default", "queue", None)


async def test_the_events_of_a_prompt_are_streamed_without_a_result_frame(site: Site) -> None:
    site.service.doing = echo
    async with site.client.stream("POST", PATH, b'{"message":"hi"}', headers={**JSON, **SSE}) as stream:
        text = await stream.end()
        answer = await stream.answer()
    assert [frame["event"] for frame in frames(text)] == ["operation_start", "operation", "idle"]
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["x-flue-submission-id"] == "sub_1"
    assert "x-flue-run-id" not in answer.headers


async def test_a_failure_in_the_stream_is_a_last_frame_that_gives_nothing_away(site: Site) -> None:
    site.service.doing = fail
    async with site.client.stream("POST", PATH, b'{"message":"hi"}', headers={**JSON, **SSE}) as stream:
        text = await stream.end()
    last = frames(text)[-1]
    assert (last["event"], last["id"]) == ("error", "0")
    assert list(last["data"]) == ["type", "instanceId", "error"]
    assert (last["data"]["type"], last["data"]["instanceId"]) == ("error", "customer-1")
    assert last["data"]["error"]["type"] == "internal_error"
    assert "secret" not in text


async def test_a_failed_prompt_is_500_and_gives_nothing_away(site: Site) -> None:
    site.service.doing = fail
    answer = await site.client.post(PATH, {"message": "hi"})
    assert (answer.status, answer.error["type"]) == (500, "internal_error")
    assert answer.headers["x-flue-submission-id"] == "sub_1"
    assert b"secret" not in answer.body


@pytest.mark.parametrize(
    "body",
    [
        [],
        "hi",
        None,
        {},
        {"message": 1},
        {"message": None},
        {"message": ["hi"]},
        {"message": "hi", "session": ""},
        {"message": "hi", "session": " "},
        {"message": "hi", "session": 1},
        {"message": "hi", "session": None},
        {"message": "hi", "session": "a\u0000b"},
        {"message": "hi", "session": "x" * 513},
    ],
)
async def test_a_wrong_body_is_400_with_details(site: Site, body: Any) -> None:
    for headers in ({}, SSE):
        answer = await site.client.request("POST", PATH, json.dumps(body).encode(), headers={**JSON, **headers})
        assert (answer.status, answer.error["type"]) == (400, "invalid_request")
        assert answer.error["details"]


async def test_x_webhook_is_400_and_points_to_dispatch(site: Site) -> None:
    answer = await site.client.post(PATH, {"message": "hi"}, x_webhook="true")
    assert (answer.status, answer.error["type"]) == (400, "invalid_request")
    assert "dispatch" in answer.error["details"]


async def test_unknown_and_hidden_agents_cannot_be_told_apart(site: Site) -> None:
    answers = [await site.client.post(f"/agents/{name}/a", {"message": "hi"}) for name in ("nope", "hidden")]
    assert [answer.status for answer in answers] == [404, 404]
    shapes = [answer.body.replace(name, b"X") for answer, name in zip(answers, [b"nope", b"hidden"], strict=True)]
    assert shapes[0] == shapes[1]
    assert answers[0].error["type"] == "agent_not_found"


async def test_who_asks_for_it_is_refused_when_the_session_is_busy(site: Site) -> None:
    site.service.refusal = SessionError("busy", code="session_busy")
    answer = await site.client.post(f"{PATH}?busy=reject", {"message": "hi"})
    assert (answer.status, answer.error["type"]) == (400, "invalid_request")
    assert site.service.asked[-1][5] == "reject"
    answer = await site.client.post(f"{PATH}?busy=maybe", {"message": "hi"})
    assert (answer.status, answer.error["type"]) == (400, "validation_failed")


async def test_while_the_server_ends_nothing_is_accepted(site: Site) -> None:
    site.service.refusal = UsageError("The server is shutting down.", code="shutting_down")
    answer = await site.client.post(PATH, {"message": "hi"})
    assert (answer.status, answer.error["type"]) == (503, "shutting_down")


@pytest.mark.parametrize(
    ("reason", "names", "told"),
    [
        ("approval", ("approve:call_1",), {"reason": "approval", "toolCallIds": ["call_1"]}),
        ("budget", ("budget",), {"reason": "budget"}),
    ],
)
async def test_work_that_waits_for_a_person_is_202(
    site: Site, reason: Any, names: tuple[str, ...], told: dict[str, Any]
) -> None:
    async def park(ticket: Any, message: Any) -> Any:
        await ticket.park(
            submission(ticket.id, "chat", "customer-1", state="parked", park_reason=reason, waiting_for=names)
        )
        await asyncio.Event().wait()

    site.service.doing = park
    answer = await site.client.post(PATH, {"message": "hi"})
    assert answer.status == 202
    assert answer.json == {"status": "waiting", "submissionId": "sub_1", "waitingFor": told}
    assert answer.headers["x-flue-submission-id"] == "sub_1"


async def test_an_aborted_prompt_is_409(site: Site) -> None:
    async def abort(ticket: Any, message: Any) -> Any:
        await ticket.end(Outcome.aborted("enough"))
        await asyncio.Event().wait()

    site.service.doing = abort
    answer = await site.client.post(PATH, {"message": "hi"})
    assert (answer.status, answer.error["type"]) == (409, "aborted")


# ------------------------------------------------------------------------------------------- function agents


async def test_a_function_agent_gives_its_result_with_the_run(site: Site) -> None:
    async def work(ticket: Any, payload: Any) -> Any:
        return {"got": payload}

    site.service.doing = work
    answer = await site.client.post("/agents/reporter/acme", [1])
    assert answer.status == 200
    assert answer.json == {"result": {"got": [1]}, "_meta": {"runId": "run_1"}}
    assert answer.headers["x-flue-run-id"] == "run_1"
    assert site.service.asked[-1] == ("start_agent", "reporter", "acme", [1], None)


async def test_a_webhook_is_accepted_even_when_it_asks_for_a_stream(site: Site) -> None:
    answer = await site.client.post("/agents/reporter/acme", {}, x_webhook="true")
    assert (answer.status, answer.json) == (202, {"status": "accepted", "runId": "run_1"})
    answer = await site.client.post("/agents/reporter/acme", {}, x_webhook="TRUE", **SSE)
    assert (answer.status, answer.json) == (202, {"status": "accepted", "runId": "run_2"})
    assert answer.headers["x-flue-run-id"] == "run_2"


async def test_a_function_agent_streams_its_run(site: Site) -> None:
    async def work(ticket: Any, payload: Any) -> Any:
        await ticket.log("run_start")
        await ticket.log("run_end")

    site.service.doing = work
    async with site.client.stream("POST", "/agents/reporter/acme", headers=SSE) as stream:
        text = await stream.end()
        answer = await stream.answer()
    assert [frame["event"] for frame in frames(text)] == ["run_start", "run_end"]
    assert answer.headers["x-flue-run-id"] == "run_1"


async def test_errors_of_a_function_agent_carry_a_run_id_too(site: Site) -> None:
    site.service.doing = fail
    answer = await site.client.post("/agents/reporter/acme")
    assert (answer.status, answer.headers["x-flue-run-id"]) == (500, "run_1")
    answer = await site.client.request("POST", "/agents/reporter/acme", b"{bad", headers=JSON)
    assert answer.status == 400
    assert answer.headers["x-flue-run-id"].startswith("run_")


async def test_without_a_trigger_a_function_agent_is_there_in_local_mode_only(site: Site) -> None:
    assert (await site.client.post("/agents/private/a")).status == 404
    site.env["FLUE_MODE"] = "local"
    assert (await site.client.post("/agents/private/a")).status == 200


async def test_a_key_says_what_counts_once(site: Site) -> None:
    await site.client.post("/agents/chat/ann", {"message": "hi"}, idempotency_key="order-17")
    await site.client.post("/agents/reporter/acme", [1], idempotency_key="order-18")
    assert site.service.asked[-2:] == [
        ("prompt", "chat", "ann", "hi", "default", "queue", "order-17"),
        ("start_agent", "reporter", "acme", [1], "order-18"),
    ]
