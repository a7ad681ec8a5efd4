"""Takes the pictures of the guides anew: `python -m tests.page.screenshots docs/images`, or `make screenshots`."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Literal

from playwright.async_api import Browser, Page, async_playwright

from flue.testing import ProviderServer, call
from flue.testing.provider_server import reply
from tests.page.conftest import ARGUMENTS, NAMES
from tests.serve.server_process import serving

FILES = {
    ".flue/agents/support.py": '''
        """Helps passengers of the ferries."""
        import os
        from typing import Any
        from flue import create_agent, register_provider, tool

        register_provider(
            "island",
            api="anthropic-messages",
            base_url=os.environ["ISLAND_URL"],
            api_key="test-key",
            reasoning=True,
            cost={"input": 3.0, "output": 15.0},
        )

        @tool
        def find_ticket(ticket: str) -> dict[str, Any]:
            """Look a ticket up."""
            return {"ticket": ticket, "route": "North Cape", "price": 24.5, "used": False}

        @tool(approval=True)
        def refund(ticket: str, euros: float) -> str:
            """Refund a ticket."""
            return f"{ticket} is refunded."

        agent = create_agent(model="island/large-model", tools=[find_ticket, refund])
    ''',
    ".flue/workflows/order.py": '''
        """Waits until a ticket is paid for, and sends it."""
        async def run(ctx):
            ctx.log.info("waiting for the payment")
            return await ctx.wait_for_event("paid")
    ''',
    ".flue/workflows/translate.py": '''
        """Translates a text, politely if you like."""
        from typing import Literal
        from pydantic import BaseModel, Field

        class Payload(BaseModel):
            text: str = Field(description="What to translate", max_length=500)
            language: Literal["English", "French", "Spanish"] = "French"
            formal: bool = True
            glossary: list[str] | None = Field(None, description="Words to leave as they are")

        async def run(ctx):
            return ctx.payload
    ''',
}
ANSWERS = (
    reply(
        "I look your ticket up.",
        thinking="The ticket must be unused to be refunded. I look it up first.",
        calls=[call("find_ticket", {"ticket": "F-1042"})],
    ),
    reply(
        "Your ticket has not been used, so I ask for its refund.",
        calls=[call("refund", {"ticket": "F-1042", "euros": 24.5})],
    ),
)


async def take(folder: Path, browser: Browser) -> None:
    """Write the pictures into a folder."""
    with tempfile.TemporaryDirectory() as made:
        root = Path(made, "island-support")
        for name, text in FILES.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(textwrap.dedent(text), encoding="utf-8")
        async with ProviderServer(ANSWERS) as provider:
            with serving(root, "dev", ISLAND_URL=provider.base_url("anthropic-messages")) as server:
                address = f"http://localhost:{server.port}/_flue/"
                await _chat(await _window(browser, address, "light", 1040), folder)
                await _form(await _window(browser, address, "light", 720), folder)
                await _run(await _window(browser, address, "dark", 720), folder)


async def _window(browser: Browser, address: str, colours: Literal["light", "dark"], height: int) -> Page:
    size: dict[str, int] = {"width": 1000, "height": height}
    context = await browser.new_context(viewport=size, locale="en-GB", color_scheme=colours)  # type: ignore[arg-type]
    context.set_default_timeout(8000)
    window = await context.new_page()
    await window.goto(address)
    return window


async def _chat(window: Page, folder: Path) -> None:
    await window.locator("nav a", has_text="support").click()
    await window.get_by_role("button", name="Open").click()
    await window.get_by_label("Message").fill("Can I have my money back for F-1042?")
    await window.keyboard.press("Enter")
    await window.get_by_role("button", name="Approve").wait_for()
    await window.get_by_text("Thinking").click()
    await window.get_by_text("find_ticket").click()
    await window.get_by_text("North Cape").wait_for()
    await window.evaluate("scrollTo(0, 0)")
    await _save(window, folder / "dev-page-chat.png")


async def _form(window: Page, folder: Path) -> None:
    await window.locator("nav a", has_text="translate").click()
    await window.get_by_label("text").fill("The ferry leaves at nine.")
    await window.get_by_label("glossary").first.check()
    await window.get_by_role("button", name="Add").click()
    await window.get_by_label("glossary 1").fill("North Cape")
    await _save(window, folder / "dev-page-form.png")


async def _run(window: Page, folder: Path) -> None:
    await window.locator("nav a", has_text="order").click()
    await window.get_by_label("Payload (JSON)").fill('{"ticket": "F-1043"}')
    await window.get_by_role("button", name="Run workflow").click()
    await window.get_by_label("Payload of the event (JSON)").fill('{"euros": 24.5}')
    await _save(window, folder / "dev-page-run.png")


async def _save(window: Page, file: Path) -> None:
    await window.screenshot(path=file, animations="disabled", caret="hide")
    await window.context.close()


async def _main(folder: str) -> None:
    program = next(filter(None, map(shutil.which, NAMES)))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        await take(Path(folder), browser)
        await browser.close()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
