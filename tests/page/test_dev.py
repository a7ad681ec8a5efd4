"""The dev page where it is at home: in `flue dev`, over a project's files."""

from __future__ import annotations

import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect
from starlette.responses import HTMLResponse

from tests.page.scene import WATCH
from tests.page.screenshots import take
from tests.serve.server_process import Server, serving
from tests.server.loopback import served

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60), pytest.mark.asyncio(loop_scope="session")]

FILES = {
    ".flue/agents/guide.py": '''
        """Knows the island."""
        from flue import create_agent, tool
        from flue.sandboxes import virtual

        @tool(approval=True)
        def refund(order_id: str) -> str:
            """Refund an order."""
            return f"Order {order_id} is refunded."

        agent = create_agent(
            model="demo/librarian",
            tools=[refund],
            sandbox=virtual({"island.md": "# Lighthouse\\n\\nThe lighthouse stands on the north cape.\\n"}),
        )
    ''',
    ".flue/workflows/shout.py": '''
        """Says it louder."""
        async def run(ctx):
            return ctx.payload["text"].upper()
    ''',
}


@dataclass
class Development:
    root: Path
    server: Server
    window: Page

    def write(self, name: str, text: str) -> None:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text), encoding="utf-8")

    async def see(self, text: str, *, within: str = "main") -> None:
        await self.window.locator(within).get_by_text(text).first.wait_for(state="visible")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text), encoding="utf-8")
    return tmp_path


@asynccontextmanager
async def developing(root: Path, browser: Browser) -> AsyncIterator[Development]:
    with serving(root, "dev") as server:
        context = await browser.new_context(locale="en-GB")
        context.set_default_timeout(8000)
        window = await context.new_page()
        await window.add_init_script(WATCH)
        yield Development(root, server, window)
        await context.close()


async def test_a_project_is_talked_to_and_changed_while_it_is_served(project: Path, browser: Browser) -> None:
    async with developing(project, browser) as here:
        await here.window.goto(f"http://localhost:{here.server.port}/")
        await expect(here.window).to_have_url(f"http://localhost:{here.server.port}/_flue/")
        await here.window.get_by_role("link", name="guide").first.click()
        await here.window.get_by_role("button", name="Open").click()
        message = here.window.get_by_label("Message")
        await message.fill("Where is the lighthouse?")
        await message.press("Enter")
        await here.see("The lighthouse stands on the north cape.")
        await message.fill("Refund order A-1042")
        await message.press("Enter")
        await here.window.get_by_role("button", name="Approve").wait_for()

        here.write(".flue/workflows/shout.py", "def run(ctx:\n")
        await here.see("The newest code cannot be loaded.", within="#banner")
        await here.see("shout.py", within="#banner")
        await here.see("The code before it goes on serving.", within="#banner")

        here.write(".flue/workflows/shout.py", FILES[".flue/workflows/shout.py"])
        here.write(".flue/workflows/whisper.py", FILES[".flue/workflows/shout.py"].replace("upper", "lower"))
        await expect(here.window.locator("#banner")).to_be_hidden()
        await here.see("whisper", within="nav")
        # What waited goes on, with the new code; nothing of the conversation is lost.
        await here.window.get_by_role("button", name="Approve").click()
        await here.see("Order A-1042 is refunded.")
        await here.see("The lighthouse stands on the north cape.")
        await here.window.get_by_role("link", name="whisper").click()
        await here.window.get_by_label("Payload (JSON)").fill('{"text": "Hush"}')
        await here.window.get_by_role("button", name="Run workflow").click()
        await here.see("hush")


async def test_a_project_that_cannot_be_loaded_at_first_is_waited_for(project: Path, browser: Browser) -> None:
    (project / ".flue/workflows/shout.py").write_text("def run(ctx:\n", encoding="utf-8")
    async with developing(project, browser) as here:
        await here.window.goto(f"http://localhost:{here.server.port}/_flue/")
        await here.see("Nothing is served yet.", within="#banner")
        here.write(".flue/workflows/shout.py", FILES[".flue/workflows/shout.py"])
        await here.see("Says it louder.")


async def test_pages_of_other_sites_and_rebound_names_get_nothing(project: Path, browser: Browser) -> None:
    async def evil(scope: Any, receive: Any, send: Any) -> None:
        await HTMLResponse("<title>Evil</title>")(scope, receive, send)

    async with developing(project, browser) as here, served(evil, interface="asgi3") as host:
        port = here.server.port
        answer = await here.window.goto(f"http://rebound.example:{port}/_flue/")
        assert answer is not None
        assert answer.status == 403
        await here.window.goto(f"http://{host}/")
        tried: Any = await here.window.evaluate(
            """async (base) => {
              const address = `${base}/_flue/api/agents/guide/me/sessions/default/prompts`;
              const body = JSON.stringify({ message: "Hi." });
              const tried = {};
              const attempt = async (name, options) => {
                try { tried[name] = (await fetch(address, options)).type; } catch (error) { tried[name] = error.name; }
              };
              await attempt("read", {});
              await attempt("json", { method: "POST", body, headers: { "content-type": "application/json" } });
              await attempt("blind", { method: "POST", mode: "no-cors", body });
              return tried;
            }""",
            f"http://127.0.0.1:{port}",
        )
        # What is sent blindly cannot be read; whether it did anything is seen below.
        assert tried == {"read": "TypeError", "json": "TypeError", "blind": "opaque"}
        status, _, found = here.server.call("/_flue/api/agents/guide/me/sessions/default")
        assert (status, found["entries"], found["work"]) == (200, [], [])


async def test_the_pictures_of_the_guides_can_be_taken_anew(tmp_path: Path, browser: Browser) -> None:
    await take(tmp_path, browser)
    kept = Path(__file__).parents[2] / "docs" / "images"
    assert {picture.name for picture in tmp_path.iterdir()} == {picture.name for picture in kept.iterdir()}
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in tmp_path.iterdir())
