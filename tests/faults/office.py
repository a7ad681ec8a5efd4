"""What the servers under test serve: agents whose tools, and workflows whose steps, leave a trace outside."""

from __future__ import annotations

import asyncio
import random
import secrets
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import flue
from flue.definitions.agent import Agent
from flue.engine.engine import EngineSettings
from flue.engine.service import Service
from flue.host import open_service
from flue.models import register_provider
from flue.registrations import PROCESS
from flue.sandboxes import virtual
from flue.server.app import FlueApp
from flue.server.application import Application
from flue.server.served import of_objects
from tests.faults.outside import note

MODEL = "fake/model"
TOKEN = "t0ken"
ENDLESS = {"max_attempts": 1_000_000, "timeout": None}


@dataclass(frozen=True)
class Setting:
    """Where a server of the office finds its surroundings. `lease` in seconds."""

    store: str
    provider: str
    outside: str
    lease: float = 30.0
    concurrency: int = 256


# Set by each server; the tools are made once, before the servers are forked, as their schemas take time.
_outside: list[str] = []


def _block(*words: object) -> None:
    note(_outside[-1], " ".join(map(str, words)))
    time.sleep(random.choice((0, 0, 0.005, 0.02)))  # noqa: S311 - a window for the kill


async def _happen(*words: object) -> None:
    await asyncio.to_thread(_block, *words)


@flue.tool
def work(token: str) -> str:
    """Do a piece of work."""
    _block("tool", token)
    return f"done {token}"


@flue.tool
async def long_work(token: str) -> str:
    """Do a piece of work that takes its time: what a person decides meanwhile is heard while it runs."""
    await _happen("tool", token)
    await asyncio.sleep(0.1)
    return f"done {token}"


@flue.tool(approval=True)
async def refund(token: str) -> str:
    """Give money back."""
    await _happen("tool", token)
    return f"done {token}"


@flue.tool
def stall(token: str) -> str:
    """Do something, and never come back."""
    _block("tool", token)
    threading.Event().wait()
    return "never"


@flue.tool
async def pass_on(token: str, to: str) -> str:
    """Give a colleague something to do."""
    await _happen("tool", token)
    await flue.dispatch("clerk", id=to, input={"order": f"[[{token} plan=w]]"}, dispatch_id=token)
    return f"done {token}"


class Office:
    """Agents and workflows of one server."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        _outside.append(setting.outside)
        register_provider("fake", api="anthropic-messages", base_url=setting.provider, api_key="key")

    def _agent(self, **durability: Any) -> Agent:
        return flue.create_agent(
            model=MODEL,
            tools=[work, long_work, refund, pass_on, stall],
            sandbox=virtual(isolated=False),
            durability=durability or ENDLESS,
        )

    async def _step(self, token: str, number: int) -> str:
        nonce = secrets.token_hex(6)
        await _happen("step", token, number, nonce)
        return nonce

    async def steps(self, ctx: flue.FlueContext) -> Any:
        """Take some steps, ask an agent, take another one."""
        token, count = ctx.payload["token"], ctx.payload["steps"]
        done = [await ctx.step(f"s{number}", self._step, token, number) for number in range(count)]
        await ctx.sleep(0.01)
        harness = await ctx.init(self._agent())
        session = await harness.session()
        reply = await session.prompt(f"[[{token}-ask-{ctx.run_id} plan=w]]")
        done.append(await ctx.step("last", self._step, token, count))
        return {"token": token, "done": done, "lineage": ctx.lineage_id, "said": reply.text}

    async def order(self, ctx: flue.FlueContext) -> Any:
        """Wait until somebody has paid, between two steps."""
        token = ctx.payload["token"]
        done = [await ctx.step("first", self._step, token, 0)]
        paid = await ctx.wait_for_event("paid")
        done.append(await ctx.step("second", self._step, token, 1))
        return {"token": token, "done": done, "lineage": ctx.lineage_id, "paid": paid}

    async def once(self, ctx: flue.FlueContext) -> Any:
        """Take two steps, and ask for no second attempt."""
        token = ctx.payload["token"]
        done = [await ctx.step("first", self._step, token, 0)]
        if ctx.payload.get("stall"):
            await asyncio.Event().wait()
        return {"token": token, "done": [*done, await ctx.step("second", self._step, token, 1)]}

    async def report(self, ctx: flue.FlueContext) -> Any:
        """Write a report."""
        token = ctx.payload["token"]
        return {"token": token, "done": [await ctx.step("s0", self._step, token, 0)], "lineage": ctx.lineage_id}

    def app(self) -> FlueApp:
        """Return the application that is served."""
        served = of_objects(
            {
                "clerk": self._agent(),
                "fragile": self._agent(max_attempts=2, timeout=None),
                "reporter": _module(self.report, triggers={"webhook": True}),
            },
            {
                "steps": _module(self.steps),
                "order": _module(self.order),
                "once": _module(self.once, on_interrupt="fail"),
            },
            PROCESS,
            None,
        )
        environment = {"FLUE_DISPATCH_TOKEN": TOKEN}
        application = Application(lambda: served, opening=self._open, env=environment, store=self._setting.store)
        return FlueApp(application)

    @asynccontextmanager
    async def _open(self, application: Application) -> AsyncIterator[Service]:
        """Start an engine as servers do, but with the setting's lease."""
        async with AsyncExitStack() as stack:
            store, _ = application.open_store()
            stack.push_async_callback(store.aclose)
            service = await stack.enter_async_context(
                open_service(
                    application.catalog,
                    store=store,
                    env=application.env,
                    registrations=application.served.registrations,
                    settings=EngineSettings(lease=self._setting.lease, concurrency=self._setting.concurrency),
                    drain=2.0,
                )
            )
            await service.start()
            yield service


def _module(run: Any, **names: Any) -> ModuleType:
    module = ModuleType("made")
    vars(module).update({"run": run, "route": True, "websocket": True, "durability": ENDLESS, **names})
    return module
