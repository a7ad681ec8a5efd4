"""The project whose stores are recorded. It must stay as it is: what was recorded is continued by it.

While it records, work stops where its name says; later the same work comes to its end.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import flue
from flue.engine.catalog import AgentEntry, Catalog, WorkflowEntry
from flue.messages import TextContent, ToolResultMessage, UserMessage
from flue.testing import RecordedRequest, ScriptedModel, call, hang

NO_LIMIT = {"max_attempts": 10, "timeout": None}
PROMPTS = ("complete", "cut-before-answer", "cut-in-answer", "cut-in-tools", "approval", "decided", "queued")
"""What the agent `desk` is asked, each in an instance of that name; in the last one a second message waits."""
RUNS = ("complete", "failed", "cut-in-body", "asleep", "waiting", "told")
"""The runs of the workflow `errand`, by their payload."""


class Project:
    """Agents and workflows; `ran` is what their tools and steps did."""

    def __init__(self, *, recording: bool) -> None:
        self.ran: list[str] = []
        self._recording = recording
        model = ScriptedModel(itertools.repeat(self._answer))

        @flue.tool
        async def look_up(what: str) -> str:
            """Look something up."""
            self.ran.append(f"look_up {what}")
            return f"{what} is on its way"

        @flue.tool
        async def stall(what: str) -> str:
            """Take very long."""
            self.ran.append(f"stall {what}")
            await self._stop()
            return "at last"

        @flue.tool(approval=True)
        async def refund(what: str) -> str:
            """Give money back."""
            self.ran.append(f"refund {what}")
            return f"{what} is refunded"

        tools = [look_up, stall, refund]
        self._desk = flue.create_agent(model=model, tools=tools, durability=NO_LIMIT)
        self._thrifty = flue.create_agent(model=model, tools=tools, budget={"turns": 1}, durability=NO_LIMIT)
        self._talker = flue.create_agent(
            model=model, durability=NO_LIMIT, compaction={"reserve_tokens": 199_900, "keep_recent_tokens": 1}
        )

    def catalog(self) -> Catalog:
        """Return what is served."""
        agents = {"desk": self._desk, "thrifty": self._thrifty, "talker": self._talker}
        entries = [AgentEntry(name, agent, durability=agent.durability) for name, agent in agents.items()]
        return Catalog.of([*entries, AgentEntry("report", run=self._report)], [WorkflowEntry("errand", self._errand)])

    async def _stop(self) -> None:
        if self._recording:
            await asyncio.Event().wait()

    def _answer(self, request: RecordedRequest) -> Any:
        """Answer from what was said last; a summary is asked for in words that are nobody's name."""
        asked, results = "", 0
        for message in request.messages:
            text = "".join(block.text for block in message.content if isinstance(block, TextContent))
            if isinstance(message, UserMessage) and "<signal" not in text:
                asked, results = text.split()[0] if "[Dispatch" not in text else "dispatch", 0
            results += isinstance(message, ToolResultMessage)
        if results:
            return f"All done: {asked}."
        match asked:
            case "cut-before-answer" if self._recording:
                return [hang()]
            case "cut-in-answer" | "queued" if self._recording:
                return ["The first half of the answer ", hang()]
            case "cut-in-tools":
                return ["One moment.", call("look_up", {"what": "A-1"}), call("stall", {"what": "A-2"})]
            case "approval" | "decided":
                return [call("refund", {"what": "A-1"})]
            case "complete" | "budget":
                return [call("look_up", {"what": "A-1"})]
        return f"All done: {asked}."

    def _step(self, name: str) -> str:
        self.ran.append(f"step {name}")
        return name.upper()

    async def _errand(self, ctx: flue.FlueContext) -> Any:
        name = ctx.payload
        if name == "failed":
            raise ValueError("Nobody is at home.")
        first = await ctx.step("first", self._step, f"first {name}")
        if name == "cut-in-body":
            await self._stop()
        if name == "asleep":
            await ctx.sleep(3600)
        told = await ctx.wait_for_event("paid") if name in ("waiting", "told") else None
        return [first, await ctx.step("second", self._step, f"second {name}"), told]

    async def _report(self, ctx: flue.FlueContext) -> str:
        return f"Report of {ctx.id}: {ctx.payload}"
