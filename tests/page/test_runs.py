"""Workflows and runs on the dev page."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.async_api import Locator, Route, expect

from flue import FlueContext
from flue.server.app import asgi
from flue.stores import MemoryStore
from tests.page.scene import Scene

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60), pytest.mark.asyncio(loop_scope="session")]


async def payload(scene: Scene) -> Any:
    await scene.see("completed")
    return json.loads(await scene.window.locator("h2:text-is('Payload') + .code").inner_text())


def problem_of(control: Locator) -> Locator:
    return control.locator("xpath=ancestor::*[contains(@class, 'field')][1]").locator(".problem")


async def test_a_workflow_is_run_from_a_form_made_of_its_schema(scene: Scene) -> None:
    await scene.open("/workflows/translate")
    form = scene.window.locator("form")
    await expect(form).to_contain_text("What to translate")
    await expect(form.get_by_label("language")).to_have_value("1")
    await form.get_by_label("text").fill("Good morning")
    await form.get_by_label("language").select_option("English")
    await form.get_by_label("copies").fill("3")
    await form.get_by_role("button", name="Add").click()
    await form.get_by_label("words 1").fill("good")
    await form.get_by_label("formal").check()
    await form.get_by_role("button", name="Run workflow").click()
    assert await payload(scene) == {
        "text": "Good morning",
        "language": "English",
        "copies": 3,
        "words": ["good"],
        "style": {"formal": True},
        "note": None,
        "email": "a@example.org",
    }


async def test_a_form_says_at_each_field_what_is_wrong(scene: Scene) -> None:
    await scene.open("/workflows/translate")
    form = scene.window.locator("form")
    run = form.get_by_role("button", name="Run workflow")
    await form.get_by_label("copies").fill("2.5")
    await run.click()
    await expect(problem_of(form.get_by_label("text"))).to_have_text("Fill this in.")
    await expect(problem_of(form.get_by_label("copies"))).to_have_text("A whole number, please.")
    await form.get_by_label("copies").fill("6")
    await form.get_by_label("text").fill("x" * 21)
    await run.click()
    await expect(problem_of(form.get_by_label("copies"))).to_have_text("At most 5.")
    await expect(problem_of(form.get_by_label("text"))).to_have_text("At most 20 characters.")
    await form.get_by_label("copies").fill("5")
    await form.get_by_label("text").fill("x")
    await form.get_by_label("email").fill("nobody")  # a pattern is the server's to check
    await run.click()
    await expect(problem_of(form.get_by_label("email"))).to_contain_text("should match pattern")
    await form.get_by_role("button", name="Run anyway").click()
    assert (await payload(scene))["email"] == "nobody"


async def test_a_payload_can_be_written_as_json_and_brought_back_into_the_form(scene: Scene) -> None:
    await scene.open("/workflows/translate")
    form = scene.window.locator("form")
    await form.get_by_label("text").fill("Hello")
    await form.get_by_role("button", name="Edit as JSON").click()
    editor = form.get_by_label("Payload (JSON)")
    written = json.loads(await editor.input_value())
    assert written["text"] == "Hello"
    await editor.fill('{"text": ')
    await expect(problem_of(editor)).to_contain_text("Not JSON")
    await form.get_by_role("button", name="Run workflow").click()
    await form.get_by_role("button", name="Edit as form").click()
    await expect(editor).to_be_visible()
    await editor.fill(json.dumps({**written, "text": "Bye", "words": ["a", "b"]}))
    await form.get_by_role("button", name="Edit as form").click()
    await expect(form.get_by_label("text")).to_have_value("Bye")
    await expect(form.get_by_label("words 2")).to_have_value("b")
    await form.get_by_role("button", name="Run workflow").click()
    assert (await payload(scene))["words"] == ["a", "b"]


async def test_a_workflow_without_a_schema_takes_any_json(scene: Scene) -> None:
    await scene.open("/workflows/payment")
    await scene.window.get_by_label("Payload (JSON)").fill("[1, null]")
    await scene.window.get_by_role("button", name="Run workflow").click()
    await scene.see("The run waits for the event")
    assert json.loads(await scene.window.locator("h2:text-is('Payload') + .code").inner_text()) == [1, None]


async def test_a_function_agent_is_run_for_an_instance(scene: Scene) -> None:
    await scene.open("/agents/reporter")
    await scene.window.get_by_label("Instance").fill("ann")
    await scene.window.get_by_label("Payload (JSON)").fill('{"a": 1}')
    await scene.window.get_by_role("button", name="Run").click()
    assert await payload(scene) == {"a": 1}
    await scene.see("reporter / ann")


async def test_runs_are_listed_filtered_and_followed_while_they_go_on(scene: Scene) -> None:
    service = await scene.application.service()
    await (await service.start_workflow("translate", {"text": "x"})).outcome()
    await scene.open("/runs")
    await expect(scene.window.locator(".rows li")).to_have_count(1)
    run = await service.start_workflow("payment")
    await expect(scene.window.locator(".rows li")).to_have_count(2)  # without anybody asking for it
    await scene.window.get_by_label("Status").select_option("active")
    await expect(scene.window.locator(".rows li")).to_have_count(1)
    await scene.window.locator(".rows a").click()
    events = scene.window.locator(".events li")
    await scene.see("waiting for the payment", within=".events")
    await expect(scene.window.locator(".events")).not_to_contain_text("run_end")
    await scene.window.get_by_label("Payload of the event (JSON)").fill('{"euros": 3}')
    await scene.window.get_by_role("button", name="Send event").click()
    await scene.see("it has come", within=".events")
    await scene.see("run_end", within=".events")
    await scene.see("completed")
    await expect(scene.window.locator("h2:text-is('Result') + .code")).to_contain_text('"euros": 3')
    await scene.window.get_by_label("Only types with").fill("log")
    await expect(scene.window.locator(".events li[data-type=run_end]")).to_be_hidden()
    await events.locator("visible=true").first.locator("summary").click()
    await scene.see('"message": "waiting for the payment"', within=".events")
    assert (await service.get_run(run.id)).status == "completed"  # type: ignore[union-attr]


async def test_a_run_is_aborted(scene: Scene) -> None:
    service = await scene.application.service()
    run = await service.start_workflow("payment")
    await scene.open(f"/runs/{run.id.replace(':', '%3A')}")
    await scene.window.get_by_role("button", name="Abort").click()
    await scene.see("errored")
    await scene.see("Aborted on the dev page.")


async def test_the_links_of_a_run_that_was_interrupted_lead_on(scene: Scene) -> None:
    service = await scene.application.service()
    run = await service.start_workflow("translate", {"text": "x"})
    await run.outcome()

    async def interrupted(route: Route) -> None:
        answer = await route.fetch()
        await route.fulfill(
            json={**(await answer.json()), "restartedAsRunId": run.id, "restartedFromRunId": "workflow:a:0"}
        )

    await scene.window.route("**/api/runs/workflow*", interrupted)
    await scene.open(f"/runs/{run.id}")
    await expect(scene.window.get_by_role("link", name=run.id)).to_be_visible()
    await scene.window.get_by_role("link", name="workflow:a:0").click()
    await expect(scene.window).to_have_url(f"{scene.address}#/runs/workflow%3Aa%3A0")
    await scene.window.unroute_all(behavior="wait")


async def test_a_new_version_shows_what_it_has_and_a_failed_one_why(scene: Scene) -> None:
    async def fresh(ctx: FlueContext) -> None:
        """Brand new."""

    await scene.see("payment")
    scene.problem = "workflows/fresh.py, line 3: <b>SyntaxError</b>"
    await scene.see("line 3: <b>SyntaxError</b>", within="#banner")
    await scene.see("The code before it goes on serving.", within="#banner")
    before = scene.application
    scene.application, scene.problem = asgi(workflows={"fresh": fresh}, store=MemoryStore()).application, None
    await scene.see("Brand new.")
    await scene.see("fresh", within="nav")
    await expect(scene.window.locator("#banner")).to_be_hidden()
    await expect(scene.window.locator("body")).not_to_contain_text("payment")
    await before.drain()
