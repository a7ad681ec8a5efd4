"""Our client talks to the original's server: both mean the same protocol."""

from __future__ import annotations

import pytest

from flue.sdk import AsyncClient, FlueApiError, FlueSocketError

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.fixture
def base_url(theirs: str) -> str:
    return f"{theirs}/api"


async def test_prompts_are_answered_and_streamed(base_url: str) -> None:
    async with AsyncClient(base_url=base_url) as client:
        reply = await client.agents.invoke("chat", "fay", "Any paint?")
        assert reply.result["text"] == "Any paint?"
        seen = [event["type"] async for event in client.agents.stream("chat", "fay", "And brushes?")]
    assert seen[0] == "operation_start"
    assert seen[-1] == "idle"


async def test_runs_are_started_read_and_followed(base_url: str) -> None:
    async with AsyncClient(base_url=base_url) as client:
        run = await client.workflows.invoke("slow", wait=False)
        assert run.run_id is not None
        assert [event["type"] async for event in client.runs.stream(run.run_id)][-1] == "run_end"
        assert (await client.runs.get(run.run_id))["status"] == "completed"
        assert (await client.runs.events(run.run_id))[0]["type"] == "run_start"


async def test_sockets_carry_prompts_and_invocations(base_url: str) -> None:
    async with AsyncClient(base_url=base_url) as client:
        async with client.agents.connect("chat", "gus") as chat:
            await chat.ping()
            assert (await chat.prompt("Any paint?")).result["text"] == "Any paint?"
        async with client.workflows.connect("echo") as echo:
            assert (await echo.invoke({"a": 1})).result == {"a": 1}
        async with client.workflows.connect("boom") as boom:
            with pytest.raises(FlueSocketError, match="internal error"):
                await boom.invoke({})


async def test_errors_are_understood(base_url: str) -> None:
    async with AsyncClient(base_url=base_url) as client:
        with pytest.raises(FlueApiError, match="run_not_found") as missing:
            await client.runs.get("nope")
        assert missing.value.status == 404


async def test_operators_lists_are_read(base_url: str) -> None:
    async with AsyncClient(base_url=base_url) as client:
        assert {agent["name"] for agent in await client.admin.agents.list()} == {"chat", "guarded", "inner"}
        assert (await client.admin.runs.list(limit=1)).items
