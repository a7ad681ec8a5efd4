"""What a platform has for a sandbox is taken for one, wherever an agent may name its sandbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import flue
from flue.harness.sandbox import SandboxFactory
from flue.host import open_service
from flue.sandboxes import virtual
from flue.stores import MemoryStore
from flue.testing import ScriptedModel
from tests.engine.scenes import catalog


class Stub:
    """Like the stub of an object elsewhere: it has whatever it is asked for, and nobody knows what that does."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*arguments: Any, **options: Any) -> Any:
            pytest.fail(f"{name} was called on the stub")

        return call


def adapt(value: Any) -> SandboxFactory | None:
    return virtual(files={"whose.txt": "adapted\n"}) if isinstance(value, Stub) else None


async def read(ctx: flue.FlueContext, **fields: Any) -> str:
    agent = flue.create_agent(model=ScriptedModel(), **fields)
    harness = await ctx.init(agent)
    return (await harness.shell("cat whose.txt")).stdout


async def by_value(ctx: flue.FlueContext) -> str:
    return await read(ctx, sandbox=Stub())


async def by_function(ctx: flue.FlueContext) -> str:
    return await read(ctx, sandbox=Stub)


async def by_init(ctx: flue.FlueContext) -> str:
    harness = await ctx.init(model=ScriptedModel(), sandbox=Stub())
    return (await harness.shell("cat whose.txt")).stdout


async def not_at_all(ctx: flue.FlueContext) -> str:
    return await read(ctx, sandbox=virtual(files={"whose.txt": "own\n"}))


@pytest.mark.parametrize(
    ("run", "whose"), [(by_value, "adapted"), (by_function, "adapted"), (by_init, "adapted"), (not_at_all, "own")]
)
async def test_a_platforms_own_object_becomes_a_sandbox(run: Any, whose: str) -> None:
    offers = catalog(workflows={"one": run})
    async with open_service(offers, store=MemoryStore(), env={}, adapt_sandbox=adapt) as service:
        ticket = await service.start_workflow("one")
        outcome = await ticket.outcome()
    assert outcome.result == f'"{whose}\\n"', outcome.error
