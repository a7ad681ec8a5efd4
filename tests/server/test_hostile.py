"""Thousands of requests that nobody should send: every answer is of the client's making, and nothing is left behind."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import random
from collections import Counter
from typing import Any

import pytest

from flue import FlueContext, create_agent
from flue.server.app import admin, asgi
from flue.testing import ScriptedModel
from tests.server.asgi_client import Client

pytestmark = [pytest.mark.faults, pytest.mark.timeout(60)]
METHODS = ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "post", "\u00e9", "X" * 5000]
WORDS = [
    *("workflows", "agents", "runs", "echo", "chat", "ann", "stream", "events", "submissions", "abort", "approvals"),
    *("budget", "dispatch", "openapi.json", "", ".", "..", "%2e%2e", "%2F", "%00", "%FF", "%ED%A0%80", "%", "%zz"),
    *(
        "%F0%9F%98%80",
        "a" * 5000,
        "\u00e9",
        "%C3%A9",
        "%20",
        "%0A",
        "workflow:echo:1",
        "sub_1",
        "-1",
        "1e9",
        "*",
        "{name}",
    ),
]
QUERIES = [
    "",
    "?",
    "?wait=result",
    "?wait=%FF",
    "?wait=result&wait=x",
    "?limit=0",
    "?limit=1001",
    "?limit=%D9%A1",
    "?after=99999999999999999999999",
    "?after=-1",
    "?types=log,%00",
    "?cursor=%FF",
    "?cursor=e30",
    "?busy=reject",
    "?" + "a=b&" * 2000,
    "?status=%00&workflowName=%00",
    "?\x00",
]
BODIES = [
    b"",
    b"{}",
    b'{"message":"hi"}',
    b'{"message":"hi","session":"\\u0000"}',
    b'{"message":"\\u0000"}',
    b'{"message":""}',
    b'{"message":"\\ud83d\\ude00","session":"' + b"x" * 600 + b'"}',
    b'{"message":"\\ud800"}',
    b'{"input":null,"session":"task:x"}',
    b'{"approved":true}',
    b'{"usd":1e308}',
    b'{"usd":-1}',
    b'{"usd":"1"}',
    b'{"turns":true}',
    b'{"reason":"\\udfff"}',
    b"null",
    b"[[" * 10_000,
    b'{"a":' * 10_000,
    b"1" * 10_000,
    b"NaN",
    b"1e400",
    b"\xff\xfe\x00",
    b"\x00" * 100,
    b"--x\r\nContent-Disposition: form-data\r\n\r\n",
    b" " * 70_000,
    b'"' + b"x" * 70_000,
]
HEADERS: dict[str, list[str]] = {
    "content-type": ["application/json", "application/json; charset=utf-16", "text/plain", "\xff", "", "x" * 9000],
    "content-length": ["0", "1", "-1", "9" * 40, "x", ""],
    "accept": ["text/event-stream", "*/*", "\xff"],
    "authorization": ["Bearer t0ken", "Bearer", "Basic \xff", "Bearer \xe9"],
    "last-event-id": ["0", "-1", "9" * 400, "1-1", "\xb2", "x"],
    "idempotency-key": ["k", " ", "x" * 9000, "\xe9", "a/b"],
    "x-webhook": ["true", "TRUE", "1"],
    "cookie": ["x" * 9000],
}


async def echo(ctx: FlueContext) -> Any:
    return ctx.payload


def hostile(chance: random.Random) -> tuple[str, str, bytes, dict[str, str]]:
    path = "/" + "/".join(chance.choices(WORDS, k=chance.randint(0, 6)))
    if chance.random() < 0.6:
        path = chance.choice(
            [
                "/workflows/echo",
                "/agents/chat/ann",
                "/agents/chat/" + chance.choice(WORDS),
                "/agents/chat/ann/dispatch",
                "/agents/chat/ann/budget",
                "/agents/chat/ann/approvals/" + chance.choice(WORDS),
                "/runs/" + chance.choice(WORDS),
                "/runs",
            ]
        )
    headers = {name: chance.choice(values) for name, values in HEADERS.items() if chance.random() < 0.3}
    body = chance.choice(BODIES)
    if body and chance.random() < 0.7:
        headers["content-type"] = "application/json"
        headers.pop("content-length", None)
    return chance.choices(METHODS, [3, 9, 1, 1, 1, 1, 1, 1, 1, 1])[0], path + chance.choice(QUERIES), body, headers


@pytest.fixture
def seed() -> int:
    """Return what the requests are made from; shown when the test fails."""
    chosen = random.randrange(2**32)  # noqa: S311
    print(f"seed: {chosen}")  # noqa: T201
    return chosen


async def test_hostile_requests_get_no_5xx_no_traceback_and_leave_nothing(
    seed: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FLUE_DISPATCH_TOKEN", "t0ken")
    chance = random.Random(seed)  # noqa: S311
    model = ScriptedModel(itertools.repeat("Hello."))
    api = asgi(agents={"chat": create_agent(model=model)}, workflows={"echo": echo}, body_limit=65_536)
    clients = [Client(api), Client(admin(api)), Client(api, root_path="/prefix")]
    seen: Counter[int] = Counter()
    with caplog.at_level(logging.WARNING):
        for _ in range(3000):
            method, path, body, headers = hostile(chance)
            if path.split("?")[0].endswith("/stream"):
                continue  # an instance's stream has no end
            answer = await chance.choice(clients).request(method, path, body, headers=headers)
            seen[answer.status] += 1
            assert answer.status < 500, (method, path, body[:100], headers, answer)
            if answer.status >= 400 and answer.body:
                error = json.loads(answer.body)["error"]
                assert set(error) <= {"type", "message", "details", "meta"}
                assert len(answer.body) < 3000
    await api.application.drain()
    assert {200, 202, 400, 404, 405, 413, 415} <= set(seen)
    assert "Traceback" not in caplog.text
    assert len(asyncio.all_tasks()) == 1
