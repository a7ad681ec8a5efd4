"""`flue.admin()`: spec 4."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest

from flue.durable.records import Run
from tests.server.conftest import Site

RUN = Run("r0", "workflow", "noop", "", "active", 1_795_187_573_196, "r0")


async def test_all_agents_are_listed_with_their_transports(site: Site) -> None:
    assert (await site.admin.get("/agents")).json == {
        "items": [
            {"name": "chat", "transports": {"http": True, "websocket": True}, "created": True},
            {"name": "hidden", "transports": {}, "created": True},
            {"name": "private", "transports": {}, "created": False},
            {"name": "reporter", "transports": {"http": True}, "created": False},
        ]
    }


async def test_runs_are_listed_as_pointers(site: Site) -> None:
    site.service.runs["r0"] = replace(RUN, status="errored", ended_at=RUN.started_at)
    answer = await site.admin.get("/runs")
    assert answer.json == {
        "items": [
            {
                "runId": "r0",
                "owner": {"kind": "workflow", "workflowName": "noop", "instanceId": "r0"},
                "status": "errored",
                "startedAt": "2026-11-20T15:12:53.196Z",
                "endedAt": "2026-11-20T15:12:53.196Z",
                "isError": True,
                "durationMs": 0,
            }
        ]
    }


async def test_pages_follow_each_other_by_their_cursor(site: Site) -> None:
    site.service.runs = {f"r{i}": replace(RUN, run_id=f"r{i}") for i in range(3)}
    page = (await site.admin.get("/runs?limit=2")).json
    assert [item["runId"] for item in page["items"]] == ["r0", "r1"]
    cursor = page["nextCursor"]
    assert json.loads(base64.urlsafe_b64decode(cursor + "==")) == {"s": "2026-11-20T15:12:53.196Z", "r": "r1"}
    assert "=" not in cursor
    await site.admin.get(f"/runs?limit=2&cursor={cursor}&status=active&workflowName=noop")
    query = site.service.asked[-1][1]
    assert (query.before, query.status, query.target) == ((RUN.started_at, "r1"), "active", "noop")
    assert "nextCursor" not in (await site.admin.get("/runs?limit=3")).json


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        *("", "x", "!!", "%FF", "%D9%A1", "a" * 5000),
        encoded([]),
        encoded({"s": 1, "r": "r"}),
        encoded({"s": "2026-11-20T15:12:53.196Z"}),
        encoded({"s": "nonsense", "r": "r"}),
        encoded({"s": "0001-01-01T00:00:00+14:00", "r": "r"}),
        encoded({"s": "2026-11-20T15:12:53.196Z", "r": 1}),
        encoded({"s": "2026-11-20T15:12:53.196Z", "r": "\u0000"}),
        encoded({"s": "2026-11-20T15:12:53.196Z", "r": "\ud800"}),
        base64.urlsafe_b64encode(b"[" * 10_000).decode(),
    ],
)
async def test_a_malformed_cursor_means_the_first_page(site: Site, cursor: str) -> None:
    assert (await site.admin.get(f"/runs?cursor={cursor}")).status == 200
    assert site.service.asked[-1][1].before is None


@pytest.mark.parametrize("query", ["status=nope", "status=", "limit=0", "limit=1001", "limit=x"])
async def test_wrong_queries_are_400(site: Site, query: str) -> None:
    answer = await site.admin.get(f"/runs?{query}")
    assert (answer.status, answer.error["type"]) == (400, "validation_failed")


async def test_a_run_is_shown_as_in_public(site: Site) -> None:
    site.service.runs["r0"] = replace(RUN, payload="{}")
    assert (await site.admin.get("/runs/r0")).json == (await site.client.get("/runs/r0")).json
    assert (await site.admin.get("/runs/nope")).error["type"] == "run_not_found"


async def test_only_get_is_possible_and_nothing_else_is_there(site: Site) -> None:
    for path in ("/agents", "/runs", "/runs/r0", "/openapi.json"):
        answer = await site.admin.post(path)
        assert (answer.status, answer.headers["allow"]) == (405, "GET")
    assert (await site.admin.get("/workflows/noop")).status == 404
