"""What must stay secret does not leave through logs, spans or metrics."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from flue import create_agent, open_context, tool
from flue.observability import log_events
from flue.registrations import Registrations
from flue.testing import ProviderServer
from flue.testing.provider.reply import call, reply
from tests.observability.test_otel import Telemetry, telemetry

__all__ = ["telemetry"]

KEY, VARIABLE, STDIN = "sk-canary-key", "canary-variable", "canary-stdin"
SAID = {
    "instructions": "canary-instructions",
    "prompt": "canary-prompt",
    "thought": "canary-answer",
    "arguments": "canary-arguments",
    "result": "canary-result",
    "command": "canary-command",
    "payload": "canary-payload",
    "log": "canary-details",
}


@tool
def look(place: str) -> dict[str, str]:
    """Look somewhere."""
    return {"found": SAID["result"]}


async def work(registrations: Registrations) -> None:
    """Say something secret everywhere, over real HTTP with a real key."""
    script = [reply(calls=[call("look", {"place": SAID["arguments"]})]), reply(SAID["thought"])]
    async with ProviderServer(script) as server:
        server.register("anthropic", api_key=KEY)
        env = {"ANTHROPIC_API_KEY": KEY, "OTHER_SECRET": VARIABLE}
        async with open_context(registrations=registrations, env=env, payload=SAID["payload"]) as context:
            agent = create_agent(model="anthropic/claude-sonnet-4-6", tools=[look], instructions=SAID["instructions"])
            session = await (await context.init(agent)).session()
            assert (await session.prompt(SAID["prompt"])).text == SAID["thought"]
            await session.shell(f"echo {SAID['command']}; cat", env={"TOKEN": VARIABLE}, stdin=STDIN)
        assert KEY in json.dumps([dict(request.headers) for request in server.requests])


def logged(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records if record.name == "flue.events")


async def test_by_default_nothing_that_was_said_and_no_secret_is_told(
    registrations: Registrations, telemetry: Telemetry, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry.instrument()
    log_events(deltas=True)
    with caplog.at_level(logging.DEBUG, "flue.events"):
        await work(registrations)
    for text in (logged(caplog), telemetry.everything()):
        assert "claude-sonnet-4-6" in text
        assert "canary" not in text


async def test_with_content_what_was_said_is_told_and_keys_and_variables_are_not(
    registrations: Registrations, telemetry: Telemetry, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry.instrument(capture_content=True)
    log_events(deltas=True, content=True)
    with caplog.at_level(logging.DEBUG, "flue.events"):
        await work(registrations)
    told: Any
    for told in (logged(caplog), telemetry.everything()):
        for what in ("instructions", "prompt", "thought", "arguments", "result", "command"):
            assert SAID[what] in told, what
        assert KEY not in told
        assert VARIABLE not in told
