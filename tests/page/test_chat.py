"""Conversations on the dev page."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import expect

from flue.testing import call, hang, thinking
from tests.page.scene import Scene

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60), pytest.mark.asyncio(loop_scope="session")]


async def test_an_answer_is_shown_while_it_comes_with_thinking_tokens_and_cost(scene: Scene) -> None:
    scene.model.add([thinking("Let me think."), "The first half | the second half."])
    await scene.chat()
    await scene.send("Tell me.")
    await scene.see("Tell me.", within=".user")
    await scene.see("Let me think.")
    await expect(scene.window.get_by_role("button", name="Abort")).to_be_visible()
    await expect(scene.window.locator(".assistant")).not_to_contain_text("second half")
    scene.model.go_on.set()
    await scene.answered("The first half | the second half.")
    foot = await scene.window.locator(".assistant .foot").inner_text()
    assert "model" in foot
    assert " in · " in foot
    assert "$" in foot
    await expect(scene.window.get_by_role("button", name="Abort")).to_be_hidden()
    await expect(scene.window.locator("#said")).to_have_text("The answer is complete.")


async def test_a_tool_call_opens_with_the_keyboard_and_shows_arguments_and_result(scene: Scene) -> None:
    scene.model.add([call("say", {"text": "a longer word"})], "Done.")
    await scene.chat()
    await scene.send("Go.")
    await scene.answered("Done.")
    summary = scene.window.locator(".call summary")
    await summary.focus()
    await scene.window.keyboard.press("Enter")
    await expect(scene.window.locator(".call .code")).to_contain_text('"text": "a longer word"')
    await expect(scene.window.locator(".call")).to_contain_text("Result")
    # What was opened stays open when more is said.
    scene.model.add("And again.")
    await scene.send("More.")
    await scene.answered("And again.")
    await expect(scene.window.locator(".call details")).to_have_attribute("open", "")


@pytest.mark.parametrize(("name", "result"), [("Approve", "b is refunded"), ("Deny", "It is too old")])
async def test_a_person_decides_on_a_tool_call(scene: Scene, name: str, result: str) -> None:
    scene.model.add([call("refund", {"order": "b"})], "So be it.")
    await scene.chat()
    await scene.send("Refund b.")
    await scene.see("The agent asks for permission to call")
    await expect(scene.window.locator("#said")).to_have_text("Approval needed: refund")
    await scene.window.reload()  # it is still asked after that
    await scene.window.get_by_label("Reason for the decision on refund").fill("It is too old")
    await scene.window.get_by_role("button", name=name).click()
    await scene.answered("So be it.")
    await scene.window.locator(".call summary").click()
    await expect(scene.window.locator(".call")).to_contain_text(result)
    assert await scene.window.get_by_role("button", name="Approve").count() == 0


async def test_a_prompt_is_aborted_and_another_waits_for_its_turn(scene: Scene) -> None:
    scene.model.add(["I begin", hang()], "Yours now.")
    await scene.chat()
    await scene.send("First.")
    await scene.see("I begin")
    await scene.send("Second.")
    await scene.see("Second.", within=".rows")
    await scene.window.locator(".composer").get_by_role("button", name="Abort").click()
    await scene.answered("Yours now.")
    await expect(scene.window.locator(".rows li")).to_have_count(0)
    await expect(scene.window.locator(".user")).to_have_count(2)


async def test_a_prompt_goes_on_when_its_budget_is_raised(scene: Scene) -> None:
    scene.model.add([call("say", {"text": "x"})], "Done at last.")
    await scene.chat("thrifty")
    await scene.send("Go.")
    await scene.see("The budget is used up")
    turns = scene.window.get_by_label("turns")
    await expect(turns).to_have_attribute("placeholder", "1")
    await turns.fill("none")
    await scene.window.get_by_role("button", name="Go on").click()
    await scene.see("A positive number, please.")
    await turns.fill("9")
    await scene.window.get_by_role("button", name="Go on").click()
    await scene.answered("Done at last.")


async def test_what_a_subagent_does_is_shown_in_a_box_of_its_own(scene: Scene) -> None:
    scene.model.add(
        [call("task", {"prompt": "Find it.", "agent": "finder"})],
        ["I ask first. | Really.", call("refund", {"order": "b"})],
        "Found.",
        "The finder has found it.",
    )
    await scene.chat("chief")
    await scene.send("Where is it?")
    task = scene.window.locator(".call .task, .assistant .task")
    await expect(task).to_contain_text("finder")
    scene.model.go_on.set()
    await expect(task).to_contain_text("I ask first. | Really.")
    await task.get_by_role("button", name="Approve").click()
    await scene.answered("The finder has found it.")
    # Its conversation is there to be read, and nobody else's to go on with.
    await scene.window.get_by_role("link", name="all conversations").click()
    await scene.window.locator("summary", has_text="Tasks of subagents (1)").click()
    await scene.window.locator(".rows a", has_text="task:default").click()
    await scene.see("I ask first. | Really.")
    await scene.see("only its agent goes on with it")


async def test_what_is_said_elsewhere_appears(scene: Scene) -> None:
    await scene.chat()
    scene.model.add("Hello from afar.")
    service = await scene.application.service()
    await (await service.prompt("chat", "ann", "From the terminal.")).outcome()
    await scene.see("From the terminal.")
    await scene.see("Hello from afar.")


async def test_a_failed_prompt_says_why(scene: Scene) -> None:
    scene.model.add(ValueError("the model has a cold"))
    await scene.chat()
    await scene.send("Hello?")
    await scene.see("the model has a cold")
    await expect(scene.window.locator(".error").first).to_be_visible()


async def test_a_branch_goes_on_from_an_earlier_answer(scene: Scene) -> None:
    scene.model.add("One.", "Two.", "Another two.")
    await scene.chat()
    for text, answer in (("1?", "One."), ("2?", "Two.")):
        await scene.send(text)
        await scene.answered(answer)
    await expect(scene.window.locator("article")).to_have_count(4)
    await scene.window.get_by_role("button", name="Continue from here").first.click()
    dialog = scene.window.get_by_role("dialog")
    await dialog.get_by_label("Name of the session").fill("default")
    await dialog.get_by_role("button", name="Continue there").click()
    await scene.see("There is a session", within="dialog")
    await dialog.get_by_label("Name of the session").fill("what if")
    await scene.window.keyboard.press("Enter")
    await scene.see("Continued from")
    await expect(scene.window.locator("article")).to_have_count(2)
    await scene.send("2 once more?")
    await scene.see("Another two.")
    await scene.window.get_by_role("link", name="default", exact=True).click()
    await scene.see("Two.")
    await expect(scene.window.locator("main")).not_to_contain_text("Another two.")
    listed = scene.window.locator(".rows")
    await scene.window.get_by_role("link", name="all conversations").click()
    await expect(listed).to_contain_text("what if")


async def test_a_message_is_edited_and_sent_again_in_a_branch(scene: Scene) -> None:
    scene.model.add("One.", "Two.", "Two, but better.")
    await scene.chat()
    for text, answer in (("1?", "One."), ("2?", "Two.")):
        await scene.send(text)
        await scene.answered(answer)
    await scene.window.get_by_role("button", name="Edit and send again").last.click()
    await scene.window.keyboard.press("Enter")
    await scene.see("Continued from")
    message = scene.window.get_by_label("Message")
    await expect(message).to_have_value("2?")
    await message.press("End")
    await message.type(" Please.")
    await scene.window.keyboard.press("Enter")
    await scene.see("Two, but better.")
    await expect(scene.window.locator(".user")).to_contain_text(["1?", "2? Please."])


async def test_the_files_of_the_sandbox_are_seen_while_a_prompt_waits(scene: Scene) -> None:
    scene.model.add(
        [call("write", {"path": "made.txt", "content": "By the agent."})],
        [call("refund", {"order": "b"})],
        "It is there.",
    )
    await scene.chat()
    await scene.window.locator("summary", has_text="Files").click()
    await scene.see("There are no files to see now")
    await scene.send("Write.")
    await scene.see("made.txt", within=".names")
    await scene.window.get_by_role("button", name="made.txt").click()
    await scene.see("By the agent.", within=".files")
    await scene.window.get_by_role("button", name="workspace").click()
    await scene.see("notes.md", within=".names")
    await scene.window.get_by_role("button", name="Approve").click()
    await scene.answered("It is there.")
    await scene.see("There are no files to see now")


async def test_a_connection_that_breaks_is_taken_up_again_without_gap_or_repetition(scene: Scene) -> None:
    scene.model.add(["one two three | four five six"])
    await scene.chat()
    await scene.send("Count.")
    await scene.see("one two")
    await scene.streaming.acquire()
    scene.cut.set()
    await asyncio.sleep(0)
    scene.cut.clear()
    async with asyncio.timeout(10):  # browsers wait some seconds
        await scene.streaming.acquire()
    scene.model.go_on.set()
    await scene.answered("one two three | four five six")
    assert await scene.window.locator(".assistant").count() == 1


async def test_a_server_that_is_gone_is_told_until_it_is_back(scene: Scene) -> None:
    await scene.window.context.set_offline(True)
    await scene.see("The server does not answer.", within="#banner")
    await scene.window.context.set_offline(False)
    await expect(scene.window.locator("#banner")).to_be_hidden()
    scene.complaints.clear()
