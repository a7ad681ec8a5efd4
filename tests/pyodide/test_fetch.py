"""The wire adapters over the `fetch` of a real JavaScript engine, with the failures that providers have."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_asyncio

from flue.testing.provider_server import APIS, ProviderServer
from tests.pyodide.node import run_in_pyodide

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]
each_api = pytest.mark.parametrize("api", APIS)

SCRIPT = {
    "text": "Grüße, 世界 👩‍🚀",
    "long": "[[deltas 2000 ha]]",
    "pieces": "[[split 7]] żółć",
    "call": '[[call look {"at": "here"}]]',
    "overloaded": "[[error 529]]",
    "cut": "[[cut]]",
    "dropped": "[[drop]]",
    "truncated": "[[truncate]]",
    "error inside": "[[error-event overloaded_error]]",
    "page": "[[html]]",
    "hanging": "[[hang]]",
    "silent": "[[silence]]",
    "after all": "Still here.",
}
UNREACHABLE = {"code": "provider_unreachable", "status": None, "retryable": True}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def answers() -> dict[str, dict[str, Any]]:
    async with ProviderServer() as server:
        asked = {api: {"base_url": server.base_url(api), "texts": list(SCRIPT.values())} for api in APIS}
        found = await run_in_pyodide("fetch_program.py", json.dumps(asked))
        outcomes = [await request.outcome() for request in server.requests]
    assert outcomes.count("disconnected") == 2 * len(APIS)  # those that hung: the program had dropped them
    return {api: dict(zip(SCRIPT, found[api], strict=True)) for api in APIS}


def failure(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "deltas"}


@each_api
async def test_answers_stream(api: str, answers: dict[str, dict[str, Any]]) -> None:
    of = answers[api]
    assert of["text"]["text"] == SCRIPT["text"]
    assert of["long"] == {"text": "ha" * 2000, "deltas": 2002, "calls": []}
    assert of["pieces"]["text"] == "żółć"
    assert of["call"]["calls"] == [["look", {"at": "here"}]]


@each_api
async def test_failures_are_those_of_other_transports(api: str, answers: dict[str, dict[str, Any]]) -> None:
    of = answers[api]
    assert failure(of["overloaded"]) == {"code": "provider_error", "status": 529, "retryable": True}
    assert [failure(of[how]) for how in ("cut", "dropped", "hanging", "silent")] == [UNREACHABLE] * 4
    assert [of[how]["retryable"] for how in ("truncated", "error inside", "page")] == [True] * 3
    assert min(of[how]["deltas"] for how in ("cut", "truncated", "hanging")) > 0
    assert of["after all"]["text"] == "Still here."
