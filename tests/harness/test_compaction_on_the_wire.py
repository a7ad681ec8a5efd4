"""Compaction as providers see it: what is left of a conversation is one that each of them accepts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flue import create_agent, open_context, register_provider
from flue.harness.compaction.cut import find_cut
from flue.messages import Message, TextContent, ToolSpecs, Transcript, UserMessage
from flue.models import Httpx2Transport
from flue.models.source import Models
from flue.ports import ModelRequest
from flue.registrations import Registrations, using_registrations
from flue.testing import ProviderServer
from flue.testing.provider.wire import Ledger
from flue.testing.provider_server import APIS, WIRES
from tests.harness.test_compaction import turns

SUMMARY = UserMessage((TextContent("[Context Summary]\n\n# Summary"),))


@pytest.mark.parametrize("api", APIS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns(), st.integers(0, 500))
def test_every_provider_accepts_what_a_cut_leaves(api: str, messages: list[Message], keep: int) -> None:
    cut = find_cut(messages, keep, start=0)
    if cut is None:
        return
    with using_registrations(Registrations()):
        register_provider("fake", api=api, base_url="http://127.0.0.1:1/v1", models={"m": {"maxTokens": 100}})
        model: Any = Models(Httpx2Transport()).resolve("fake/m", {})
    asked = UserMessage((TextContent("Go on."),))
    kept = messages[cut.kept :]
    transcript = Transcript([SUMMARY, *kept, asked])
    body = json.loads(model.body(ModelRequest("system", transcript, ToolSpecs())))
    wire = next(wire for wire in WIRES if wire.api == api)
    wire.check(body, model.url().removeprefix("http://127.0.0.1:1"), {"anthropic-version": "2023-06-01"}, Ledger())


@pytest.mark.e2e
@pytest.mark.timeout(120)
@pytest.mark.parametrize("api", APIS)
async def test_five_hundred_turns_over_http_stay_small(api: str) -> None:
    sizes: list[int] = []

    def answer(request: Any) -> str:
        sizes.append(len(json.dumps(request.json)))
        return "# Summary" if not request.json.get("tools") else "answer " * 40

    async with ProviderServer(answer, record=False) as server:
        with using_registrations(Registrations()) as registrations:
            facts = {"contextWindow": 6_000, "maxTokens": 1_000}
            register_provider("fake", api=api, base_url=server.base_url(api), api_key="k", models={"m": facts})
            async with open_context(registrations=registrations, env={}) as context:
                agent = create_agent(model="fake/m", compaction={"reserve_tokens": 3_000, "keep_recent_tokens": 300})
                session = await (await context.init(agent)).session()
                for number in range(500):
                    await session.prompt(f"Question {number}: " + "why " * 40)
    compactions = len(sizes) - 500
    assert compactions > 5
    # A request late in the conversation is no larger than one early in it.
    assert max(sizes[-250:]) < 1.2 * max(sizes[:250])
