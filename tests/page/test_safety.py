"""Hostile text stays text, and the browser itself forbids the rest."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.async_api import expect

from flue import FlueContext, create_agent
from flue.server.app import asgi
from flue.stores import MemoryStore
from flue.testing import ScriptedModel, call, thinking
from tests.page.scene import Scene, module

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60), pytest.mark.asyncio(loop_scope="session")]

HOSTILE = (
    "<img src=x onerror=hacked()><script>hacked()</script><svg onload=hacked()><iframe srcdoc='<script>parent.hacked()"
    "</script>'></iframe><a href='javascript:hacked()'>link</a><style>body{display:none}</style>"
    "\x1b[31mred\x1b]0;title\x07 \u202etxt.exe\u2066 \x00\r\n</div></details><!-- "
)
SHOWN = (
    "<img src=x onerror=hacked()>",
    "␛[31mred␛]0;title␇",
    "<U+202E>txt.exe<U+2066>",
    "␀",
)


async def inert(scene: Scene) -> None:
    """Check that nothing of it has become more than text."""
    found: Any = await scene.window.evaluate(
        """() => ({
          hacked: window.hacks ?? 0,
          title: document.title,
          elements: document.querySelectorAll(
            "main :is(script, iframe, svg, style, img), nav :is(script, img), [onerror], [onload]").length,
          links: [...document.links].filter((link) => link.protocol !== "http:").length,
        })"""
    )
    assert found["hacked"] == 0
    assert (found["elements"], found["links"]) == (0, 0)
    assert "\x1b" not in found["title"]


async def arm(scene: Scene) -> None:
    await scene.window.evaluate("() => { window.hacked = () => { window.hacks = (window.hacks ?? 0) + 1; }; }")


async def test_what_models_and_tools_say_stays_text(scene: Scene) -> None:
    await arm(scene)
    scene.model.add(
        [thinking(HOSTILE), HOSTILE, call("say", {"text": HOSTILE, HOSTILE: HOSTILE})],
        [call("refund", {"order": HOSTILE})],
        HOSTILE + " the end",
    )
    await scene.chat()
    await scene.send(HOSTILE)
    await scene.see("The agent asks for permission")
    for text in SHOWN:
        await expect(scene.window.locator("main")).to_contain_text(text)
    await scene.window.get_by_role("button", name="Approve").click()
    await scene.answered("the end")
    for _ in range(2):  # some are inside of others
        await scene.window.evaluate("for (const item of document.querySelectorAll('details')) item.open = true")
    for text in SHOWN:
        await expect(scene.window.locator(".log .assistant").last).to_contain_text(text)
    await inert(scene)


async def test_hostile_names_payloads_results_errors_and_files_stay_text(scene: Scene) -> None:
    async def evil(ctx: FlueContext) -> Any:
        ctx.log.info(HOSTILE)
        if isinstance(ctx.payload, str):
            return {HOSTILE: ctx.payload}
        raise ValueError(HOSTILE)

    evil.__doc__ = HOSTILE
    await scene.application.drain()
    helper = create_agent(model=ScriptedModel([HOSTILE]), description=HOSTILE)
    scene.application = asgi(
        agents={"chat": helper}, workflows={"evil": module("evil", HOSTILE, run=evil)}, store=MemoryStore()
    ).application
    scene.problem = HOSTILE
    await scene.window.reload()
    await scene.see("<img src=x onerror=hacked()>")
    await arm(scene)
    await scene.see("<img src=x onerror=hacked()>", within="#banner")
    service = await scene.application.service()
    instance = "".join(character for character in HOSTILE if ord(character) >= 32)  # as paths have it
    await (await service.prompt("chat", instance, "Hi.", session="<b>bold</b>")).outcome()
    await scene.open("/agents/chat")
    await scene.see("<b>bold</b>", within=".rows")
    await inert(scene)
    await scene.window.locator(".rows a").click()
    await scene.see("Hi.", within=".user")
    await inert(scene)
    payloads: tuple[object, ...] = (HOSTILE, {})
    for payload in payloads:
        run = await service.start_workflow("evil", payload)
        await run.outcome()
        await scene.open(f"/runs/{run.id}")
        await scene.see("run_end", within=".events")
        await scene.window.evaluate("for (const item of document.querySelectorAll('details')) item.open = true")
        await expect(scene.window.locator(".events")).to_contain_text("<img src=x onerror=hacked()>")
        await inert(scene)
    await scene.see("ValueError: <img src=x onerror=hacked()>")


async def test_hostile_files_stay_text(scene: Scene) -> None:
    await arm(scene)
    scene.model.add([call("refund", {"order": "b"})], "Done.")
    await scene.chat()
    await scene.send("Go.")
    await scene.see("The agent asks for permission")
    await scene.window.locator("summary", has_text="Files").click()
    await scene.window.get_by_role("button", name="<img src=x onerror=hacked()>.txt").click()
    await scene.see("<script>hacked()</script>", within=".files")
    await inert(scene)


async def test_huge_output_is_cut_until_somebody_asks_for_all_of_it(scene: Scene) -> None:
    huge = "".join(f"line {number}\n" for number in range(20_000))
    scene.model.add([huge, call("say", {"text": "x" * 100_000})], "The end.")
    await scene.chat()
    await scene.send("Go.")
    await scene.answered("The end.")
    shown = scene.window.locator(".log .assistant .text").first
    assert len(await shown.inner_text()) < 21_000
    nodes: Any = await scene.window.evaluate("document.querySelectorAll('*').length")
    assert nodes < 500
    await shown.get_by_role("button", name="Show all").click()
    await expect(shown).to_contain_text("line 19999")


async def test_a_run_with_thousands_of_events_keeps_the_newest(scene: Scene) -> None:
    async def chatty(ctx: FlueContext) -> None:
        for number in range(2500):
            ctx.log.info("number", attributes={"n": number})

    await scene.application.drain()
    scene.application = asgi(workflows={"chatty": chatty}, store=MemoryStore()).application
    service = await scene.application.service()
    run = await service.start_workflow("chatty")
    await run.outcome()
    await scene.open(f"/runs/{run.id}")
    await scene.see("run_end", within=".events")
    await expect(scene.window.locator(".events li")).to_have_count(2000)
    await expect(scene.window.locator("main")).to_contain_text(re.compile(r"The first 50\d events are not shown\."))


async def test_the_browser_refuses_markup_scripts_styles_and_other_servers(scene: Scene) -> None:
    outcome: Any = await scene.window.evaluate(
        """async () => {
          const tried = {};
          const attempt = async (name, work) => {
            try { tried[name] = String((await work()) ?? "done"); } catch (error) { tried[name] = error.name; }
          };
          await attempt("markup", () => { document.body.innerHTML = "<b>x</b>"; });
          await attempt("script", () => {
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
          });
          await attempt("listener", () => document.body.setAttribute("onclick", "window.ran = true"));
          await attempt("fetch", () => fetch("http://127.0.0.1:9/"));
          await attempt("frame", () => new Promise((resolve) => {
            const frame = document.createElement("iframe");
            frame.src = "/_flue/";
            frame.onload = () => resolve(frame.contentDocument?.querySelector("nav") ? "framed" : "empty");
            document.body.append(frame);
          }));
          await new Promise((resolve) => setTimeout(resolve, 100));
          return { tried, ran: window.ran ?? false, violations: [...new Set(window.violations)].sort() };
        }"""
    )
    assert outcome["tried"]["markup"] == "TypeError"
    assert outcome["tried"]["fetch"] == "TypeError"
    assert outcome["tried"]["frame"] == "empty"
    assert outcome["ran"] is False
    assert {"connect-src", "require-trusted-types-for"} <= set(outcome["violations"])
    scene.complaints.clear()
    await scene.window.evaluate("window.violations = []")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_view_fits_a_narrow_window_and_names_its_controls(scene: Scene, scheme: Any) -> None:
    scene.model.add([call("say", {"text": "a" * 400})], "b" * 400)
    await scene.window.emulate_media(color_scheme=scheme)
    await scene.window.set_viewport_size({"width": 360, "height": 700})
    await scene.chat()
    await scene.send("c" * 400)
    await scene.answered("b" * 400)
    await scene.window.locator(".call summary").click()
    service = await scene.application.service()
    run = await service.start_workflow("translate", {"text": "d" * 400})
    await run.outcome()
    places = [
        "/agents/chat/ann/default",
        "/",
        "/agents/chat",
        "/agents/reporter",
        "/workflows/translate",
        "/runs",
        f"/runs/{run.id}",
    ]
    for place in places:
        await scene.open(place)
        await scene.window.wait_for_selector("h1")
        await scene.window.wait_for_timeout(150)
        found: Any = await scene.window.evaluate(
            """() => ({
              width: document.documentElement.scrollWidth,
              unnamed: [...document.querySelectorAll("input, select, textarea, button")]
                .filter((control) => !control.labels?.length && !control.ariaLabel && !control.textContent.trim())
                .map((control) => control.outerHTML),
              headings: document.querySelectorAll("h1").length,
              back: getComputedStyle(document.documentElement).backgroundColor,
            })"""
        )
        assert found["width"] <= 360, place
        assert found["unnamed"] == [], place
        assert found["headings"] == 1, place
        assert (json.loads(found["back"].replace("rgb(", "[").replace(")", "]"))[0] < 128) == (scheme == "dark")
    menu = scene.window.get_by_role("button", name="Menu")
    await menu.focus()
    await scene.window.keyboard.press("Enter")
    await expect(scene.window.locator("nav")).to_be_visible()
    await scene.window.keyboard.press("Escape")
    await expect(scene.window.locator("nav")).to_be_hidden()
    await expect(menu).to_be_focused()
