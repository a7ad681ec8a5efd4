"""`/agents/:name/:id/…`: submissions, the instance's stream, approvals."""

from __future__ import annotations

from typing import Any

import pytest

from flue.engine.json_text import WITHHELD
from flue.engine.log_settings import LogSettings
from flue.errors import SessionError
from tests.server.asgi_client import frames
from tests.server.conftest import Site
from tests.server.fake_service import submission

AGENT = "/agents/chat/ann"


@pytest.fixture
async def prompted(site: Site) -> str:
    """Have one prompt of three events."""
    await site.client.post(AGENT, {"message": "hi"})
    for type in ("operation_start", "operation", "idle"):
        await site.service.tickets["sub_1"].log(type)
    return f"{AGENT}/submissions/sub_1"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"state": "queued"}, {"status": "queued"}),
        (
            {"state": "running", "started_at": 1_767_225_600_001},
            {"status": "running", "startedAt": "2026-01-01T00:00:00.001Z"},
        ),
        (
            {"state": "parked", "park_reason": "approval", "waiting_for": ("approve:c1", "approve:c2")},
            {"status": "waiting", "waitingFor": {"reason": "approval", "toolCallIds": ["c1", "c2"]}},
        ),
        (
            {"state": "parked", "park_reason": "event", "waiting_for": ("event:paid",), "wake_at": 1_767_225_600_001},
            {
                "status": "waiting",
                "waitingFor": {"reason": "event", "events": ["paid"], "until": "2026-01-01T00:00:00.001Z"},
            },
        ),
        (
            {"state": "settled", "outcome": "completed", "settled_at": 1_767_225_600_001, "result": '{"text":"yes"}'},
            {"status": "completed", "settledAt": "2026-01-01T00:00:00.001Z", "result": {"text": "yes"}},
        ),
        (
            {
                "state": "settled",
                "outcome": "failed",
                "settled_at": 1_767_225_600_001,
                "error": '{"name":"E","message":"m","code":"c"}',
            },
            {"status": "failed", "settledAt": "2026-01-01T00:00:00.001Z", "error": {"name": "E", "message": "m"}},
        ),
    ],
)
async def test_a_submission_is_shown_as_it_stands(
    site: Site, prompted: str, changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    site.service.submissions["sub_1"] = submission("sub_1", "chat", "ann", **changes)
    assert (await site.client.get(prompted)).json == {
        "submissionId": "sub_1",
        "agentName": "chat",
        "instanceId": "ann",
        "kind": "prompt",
        "acceptedAt": "2026-01-01T00:00:00.000Z",
        **expected,
    }


async def test_the_events_of_a_submission_come_in_pages_and_as_a_stream(site: Site, prompted: str) -> None:
    answer = await site.client.get(f"{prompted}/events?after=0&types=idle")
    assert [event["type"] for event in answer.json["events"]] == ["idle"]
    async with site.client.stream("GET", f"{prompted}/stream", headers={"last-event-id": "0"}) as stream:
        assert [frame["id"] for frame in frames(await stream.end())] == ["1", "2"]


@pytest.mark.parametrize("path", ["", "/events", "/stream", "/abort"])
@pytest.mark.parametrize("where", ["/agents/chat/bob/submissions/sub_1", "/agents/chat/ann/submissions/nope"])
async def test_a_submission_is_found_at_its_own_instance_only(site: Site, prompted: str, where: str, path: str) -> None:
    method = "POST" if path == "/abort" else "GET"
    answer = await site.client.request(method, f"{where}{path}")
    assert (answer.status, answer.error["type"]) == (404, "submission_not_found")


@pytest.mark.parametrize("path", ["", "/events", "/stream", "/abort"])
async def test_a_submission_is_no_other_agents_that_has_an_instance_of_that_name(
    site: Site, prompted: str, path: str
) -> None:
    site.service.submissions["sub_1"] = submission("sub_1", "desk", "ann")
    method = "POST" if path == "/abort" else "GET"
    answer = await site.client.request(method, f"{prompted}{path}")
    assert (answer.status, answer.error["type"]) == (404, "submission_not_found")


@pytest.mark.parametrize("path", ["", "/abort"])
async def test_what_went_wrong_is_withheld_where_the_project_says_so(site: Site, prompted: str, path: str) -> None:
    site.service.log_settings = LogSettings(errors="redacted")
    error = '{"name":"E","message":"canary-77aa"}'
    site.service.submissions["sub_1"] = submission(
        "sub_1", "chat", "ann", state="settled", outcome="failed", settled_at=1_767_225_600_001, error=error
    )
    answer = await site.client.request("POST" if path else "GET", f"{prompted}{path}")
    assert answer.json["error"] == {"name": "E", "message": WITHHELD}


async def test_hidden_unknown_and_function_agents_have_none(site: Site, prompted: str) -> None:
    for name in ("hidden", "nope", "reporter"):
        answer = await site.client.get(f"/agents/{name}/ann/submissions/sub_1")
        assert (answer.status, answer.error["type"]) == (404, "agent_not_found")


async def test_a_submission_is_aborted(site: Site, prompted: str) -> None:
    answer = await site.client.post(f"{prompted}/abort", {"reason": "enough"})
    assert (answer.status, answer.json["submissionId"]) == (202, "sub_1")
    assert site.service.asked[-1] == ("abort", "sub_1", "enough")


# ------------------------------------------------------------------------------------------ instance's stream


async def test_the_stream_of_an_instance_is_resumed_at_any_event(site: Site, prompted: str) -> None:
    async def read(until: str, query: str = "", **headers: str) -> list[tuple[str, str]]:
        async with site.client.stream("GET", f"{AGENT}/stream{query}", headers=headers) as stream:
            text = await stream.until(until)
        return [(frame["event"], frame["id"]) for frame in frames(text)]

    whole = await read('"idle"')
    assert [event for event, _ in whole] == ["operation_start", "operation", "idle"]
    first = whole[0][1]
    assert await read('"idle"', last_event_id=first) == whole[1:]
    assert await read('"idle"', f"?after={first}") == whole[1:]


@pytest.mark.parametrize("after", ["x", "1", "-1-1", "1-", "1-1-1", "9" * 50 + "-1", "%D9%A1-1"])
async def test_a_place_that_no_stream_gave_is_400(site: Site, prompted: str, after: str) -> None:
    answer = await site.client.get(f"{AGENT}/stream?after={after}")
    assert (answer.status, answer.error["type"]) == (400, "validation_failed")


# ------------------------------------------------------------------------------------------------- approvals


async def test_a_tool_call_is_approved_or_refused(site: Site) -> None:
    answer = await site.client.post(f"{AGENT}/approvals/call%2F1", {"approved": True})
    assert (answer.status, answer.json) == (202, {"status": "accepted", "toolCallId": "call/1", "approved": True})
    assert site.service.asked[-1] == (
        "decide",
        "chat",
        "ann",
        "call/1",
        {"approved": True, "reason": None, "session": "default"},
    )
    await site.client.post(f"{AGENT}/approvals/c", {"approved": False, "reason": "no", "session": "s"})
    assert site.service.asked[-1][-1] == {"approved": False, "reason": "no", "session": "s"}


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"approved": 1},
        {"approved": "true"},
        {"approved": True, "reason": 1},
        {"approved": True, "session": " "},
    ],
)
async def test_a_wrong_decision_is_400(site: Site, body: Any) -> None:
    answer = await site.client.post(f"{AGENT}/approvals/c", body)
    assert (answer.status, answer.error["type"]) == (400, "invalid_request")


async def test_a_decision_on_what_does_not_wait_is_404(site: Site) -> None:
    site.service.refusal = SessionError("Nothing waits.", code="approval_not_found")
    answer = await site.client.post(f"{AGENT}/approvals/c", {"approved": True})
    assert (answer.status, answer.error["type"]) == (404, "approval_not_found")
