"""A project served to a browser: a paced model, one agent or workflow of each kind, and the window."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any, Literal

from playwright.async_api import Browser, ConsoleMessage, Page
from pydantic import BaseModel, Field

from flue import FlueContext, create_agent, define_agent_profile, tool
from flue.messages import AssistantMessage
from flue.ports import Delta, ModelRequest
from flue.sandboxes import virtual
from flue.server.app import asgi
from flue.server.page.app import page
from flue.stores import MemoryStore
from flue.testing import ScriptedModel
from tests.server.loopback import served

# Violations of the policy are told to the document alone.
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""


class PacedModel(ScriptedModel):
    """Stops before each piece of an answer that holds a `|`, until the test lets it go on."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | AssistantMessage]:
        async for item in super().stream(request):
            if isinstance(item, Delta) and "|" in item.delta:
                await self.go_on.wait()
            yield item


class Style(BaseModel):
    formal: bool = False
    audience: str | None = None


class Payload(BaseModel):
    text: str = Field(description="What to translate", max_length=20)
    language: Literal["English", "French"] = "French"
    copies: int = Field(1, ge=1, le=5)
    words: list[str] = []
    style: Style = Style()
    note: str | None
    email: str = Field("a@example.org", pattern="@")


async def translate(ctx: FlueContext) -> Any:
    """Translates a text."""
    return ctx.payload


async def payment(ctx: FlueContext) -> Any:
    """Waits for a payment."""
    ctx.log.info("waiting for the payment")
    paid = await ctx.wait_for_event("paid")
    ctx.log.info("it has come")
    return paid


@tool(approval=True)
def refund(order: str) -> str:
    """Refund an order."""
    return f"{order} is refunded"


@tool
def say(text: str) -> str:
    """Give a text back."""
    return text


def module(name: str, doc: str | None = None, **names: Any) -> ModuleType:
    """Return a module as the loader would give it."""
    made = ModuleType(name, doc)
    vars(made).update(names)
    return made


class Scene:
    """What is served, and the window that shows it. `complaints` is what the browser found wrong."""

    def __init__(self, window: Page) -> None:
        self.model = PacedModel()
        self.window = window
        self.address = ""
        self.problem: str | None = None
        self.complaints: list[str] = []
        self.streaming = asyncio.Semaphore(0)
        """Counts the streams of events that the window has opened."""
        self.cut = asyncio.Event()
        """Breaks the connections of the streams that are open."""
        files = {"notes.md": "Remember the milk.", "<img src=x onerror=hacked()>.txt": "<script>hacked()</script>"}
        chat = create_agent(model=self.model, tools=[refund, say], sandbox=virtual(files))
        self.application = asgi(
            agents={
                "chat": module("chat", "Answers whoever asks.", agent=chat, route=True),
                "chief": create_agent(
                    model=self.model,
                    tools=[say],
                    subagents=[define_agent_profile(name="finder", description="Finds things.", tools=[refund])],
                ),
                "thrifty": create_agent(model=self.model, tools=[say], budget={"turns": 1}),
                "reporter": module("reporter", "Reports.", run=translate),
            },
            workflows={
                "translate": module("translate", run=translate, Payload=Payload),
                "payment": payment,
            },
            store=MemoryStore(),
        ).application
        window.on("console", self._listen)
        window.on("pageerror", lambda error: self.complaints.append(f"pageerror: {error}"))

    def _listen(self, message: ConsoleMessage) -> None:
        # A refused request is told there, too; whether it should have been is for the test to say.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.complaints.append(message.text)

    @classmethod
    @asynccontextmanager
    async def opened(cls, browser: Browser) -> AsyncIterator[Scene]:
        """Serve, and open a window on the first page."""
        context = await browser.new_context(viewport={"width": 1000, "height": 800}, locale="en-GB")
        context.set_default_timeout(8000)
        window = await context.new_page()
        await window.add_init_script(WATCH)
        scene = cls(window)

        try:
            async with served(scene._serve, interface="asgi3") as host:
                scene.address = f"http://{host}/_flue/"
                await window.goto(scene.address)
                await window.wait_for_selector("nav a")
                yield scene
                with contextlib.suppress(Exception):
                    scene.complaints += await window.evaluate("window.violations")
                # The server waits for streams that the window follows.
                await context.close()
        finally:
            await scene.application.drain()

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        answering = asyncio.ensure_future(page(self.application, lambda: self.problem)(scope, receive, send))
        breaking = asyncio.ensure_future(self.cut.wait())
        is_stream = scope["path"].endswith("/stream")
        if is_stream:
            self.streaming.release()
        await asyncio.wait({answering, breaking} if is_stream else {answering}, return_when=asyncio.FIRST_COMPLETED)
        breaking.cancel()
        answering.cancel()
        await asyncio.wait({answering})
        if not answering.cancelled():
            answering.result()

    async def open(self, place: str) -> None:
        """Go to a place of the page."""
        await self.window.goto(f"{self.address}#{place}")

    async def chat(self, agent: str = "chat", session: str = "default") -> None:
        """Open a conversation."""
        await self.open(f"/agents/{agent}/ann/{session}")
        await self.window.wait_for_selector("text=Nothing has been said yet")

    async def send(self, text: str) -> None:
        """Say something, as with the keyboard."""
        await self.window.get_by_label("Message").fill(text)
        await self.window.keyboard.press("Enter")

    async def see(self, text: str, *, within: str = "main") -> None:
        """Wait until a text is shown."""
        await self.window.locator(within).get_by_text(text).first.wait_for(state="visible")

    async def answered(self, text: str) -> None:
        """Wait until an answer is shown as it is kept, and nothing is under way."""
        await self.see(text, within=".log")
        await self.window.locator("button:text-is('Send')").wait_for()
