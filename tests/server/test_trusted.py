"""dispatch and budget: for who knows the token."""

from __future__ import annotations

from typing import Any

import pytest

from flue.engine.service import DispatchReceipt
from tests.server.conftest import Site

AGENT = "/agents/hidden/ann"
BEARER = {"authorization": "Bearer s3cret"}


@pytest.fixture
def trusting(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Configure a token, and accept dispatches."""

    async def dispatch(*arguments: Any, **options: Any) -> DispatchReceipt:
        site.service.asked.append(("dispatch", *arguments, options))
        return DispatchReceipt(options["dispatch_id"] or "d-1", "2026-01-01T00:00:00.000Z")

    site.env["FLUE_DISPATCH_TOKEN"] = "s3cret"
    site.service.dispatch = dispatch  # type: ignore[attr-defined]
    return site


async def test_without_a_token_the_routes_are_not_there(site: Site) -> None:
    for token in ("", " "):
        site.env["FLUE_DISPATCH_TOKEN"] = token
        for path in ("dispatch", "budget"):
            for headers in ({}, {"authorization": "Bearer "}, {"authorization": f"Bearer {token}"}):
                answer = await site.client.post(f"{AGENT}/{path}", {"input": 1}, **headers)
                assert (answer.status, answer.error["type"]) == (404, "route_not_found")


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "s3cret",
        "Bearer",
        "Bearer ",
        "Bearer s3cre",
        "Bearer s3crets",
        "Bearer S3CRET",
        "Basic s3cret",
        "Bearer \u00e9",
    ],
)
async def test_a_wrong_token_is_401_whether_or_not_the_agent_exists(trusting: Site, authorization: str | None) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    for path in (f"{AGENT}/dispatch", f"{AGENT}/budget", "/agents/nope/a/dispatch"):
        answer = await trusting.client.post(path, {"input": 1}, **headers)
        assert (answer.status, answer.error["type"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert b"s3cret" not in answer.body
    assert not trusting.service.asked


async def test_any_agent_can_be_given_work(trusting: Site) -> None:
    answer = await trusting.client.post(f"{AGENT}/dispatch", {"input": {"text": "hi"}}, **BEARER)
    assert answer.status == 202
    assert answer.json == {"dispatchId": "d-1", "acceptedAt": "2026-01-01T00:00:00.000Z"}
    assert trusting.service.asked[-1] == (
        "dispatch",
        "hidden",
        "ann",
        {"text": "hi"},
        {"session": "default", "dispatch_id": None},
    )


async def test_a_dispatch_may_have_an_id_of_the_callers_own(trusting: Site) -> None:
    body = {"input": None, "session": "s", "dispatchId": "mine"}
    assert (await trusting.client.post(f"{AGENT}/dispatch", body, **BEARER)).json["dispatchId"] == "mine"
    answer = await trusting.client.post(f"{AGENT}/dispatch", {"input": 1}, **BEARER, idempotency_key="key")
    assert answer.json["dispatchId"] == "key"


@pytest.mark.parametrize(
    "body", [None, [], {}, {"input": 1, "dispatchId": 1}, {"input": 1, "dispatchId": " "}, {"input": 1, "session": 1}]
)
async def test_a_wrong_dispatch_is_400(trusting: Site, body: Any) -> None:
    answer = await trusting.client.post(f"{AGENT}/dispatch", body, **BEARER)
    assert (answer.status, answer.error["type"]) == (400, "invalid_request")


async def test_unknown_and_function_agents_are_404(trusting: Site) -> None:
    for name in ("nope", "reporter"):
        answer = await trusting.client.post(f"/agents/{name}/a/dispatch", {"input": 1}, **BEARER)
        assert (answer.status, answer.error["type"]) == (404, "agent_not_found")


async def test_a_budget_is_raised(trusting: Site) -> None:
    answer = await trusting.client.post(f"{AGENT}/budget", {"usd": 2.5, "session": "s"}, **BEARER)
    assert (answer.status, answer.json) == (202, {"status": "accepted"})
    assert trusting.service.asked[-1] == ("raise_budget", "hidden", "ann", {"usd": 2.5}, {"session": "s"})
