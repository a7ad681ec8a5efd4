from __future__ import annotations

import json
from typing import Any

import pytest

import flue
from flue.engine.catalog import AgentEntry, Catalog
from flue.harness.env import SessionEnv
from flue.host import open_service
from flue.sandboxes import virtual
from flue.stores import MemoryStore
from flue.testing import ScriptedModel


class Counting:
    """A factory whose sandboxes say when they are given back."""

    def __init__(self) -> None:
        self.closed = 0

    async def create_session_env(self, *, id: str, cwd: str | None = None) -> SessionEnv:
        inner = await virtual().create_session_env(id=id, cwd=cwd)
        return SessionEnv(inner.sandbox, inner.cwd, on_close=self._close)

    async def _close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("cwd", [None, "sub"])
async def test_a_sandbox_made_for_a_harness_is_given_back_with_it(cwd: str | None) -> None:
    factory = Counting()
    agent = flue.create_agent(model=ScriptedModel(), sandbox=factory, cwd=cwd)
    async with flue.open_context() as ctx:
        harness = await ctx.init(agent)
        await harness.shell("echo here")
        assert factory.closed == 0
    assert factory.closed == 1


async def test_an_answer_stays_one_when_its_sandbox_cannot_be_given_back(caplog: pytest.LogCaptureFixture) -> None:
    class Stuck(Counting):
        async def _close(self) -> None:
            raise OSError("The provider is away.")

    agent = flue.create_agent(model=ScriptedModel(["Done."]), sandbox=Stuck())
    catalog = Catalog.of([AgentEntry("chat", agent)], [])
    async with open_service(catalog, store=MemoryStore(), env={}) as service:
        outcome = await (await service.prompt("chat", "ann", "Go.")).outcome()
    assert (outcome.kind, json.loads(outcome.result or "")["text"]) == ("completed", "Done.")
    assert "The provider is away." in caplog.text


async def test_an_environment_of_the_users_own_stays_open() -> None:
    factory = Counting()
    env = await factory.create_session_env(id="mine")
    async with flue.open_context() as ctx:
        await ctx.init(flue.create_agent(model=ScriptedModel(), sandbox=lambda: env))
    assert factory.closed == 0
    assert (await env.exec("echo still here")).stdout == "still here\n"


async def test_a_sandbox_is_given_back_when_the_agent_cannot_be_set_up() -> None:
    factory = Counting()
    agent: Any = flue.create_agent(model="nobody/knows", sandbox=factory)
    async with flue.open_context(env={}) as ctx:
        with pytest.raises(flue.ModelSetupError):
            await ctx.init(agent)
        assert factory.closed == 1
