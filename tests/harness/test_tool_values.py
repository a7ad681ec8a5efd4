"""What tools return, as the model is shown it, through the turn loop."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from flue import ImageContent, TextContent, ToolResult, create_sandbox_session_env, tool
from flue.harness.env import SessionEnv
from flue.messages import ToolResultMessage
from flue.sandboxes import virtual
from flue.testing import call
from tests.harness.memory_sandbox import MemorySandbox
from tests.harness.scene import Scene, scene

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)
MIXED: Any = ("A chart:", PNG, {"n": 1})
PNG_BLOCK = ImageContent(base64.b64encode(PNG).decode(), "image/png")


class Weather(BaseModel):
    at: datetime
    degrees: float


@dataclass
class Part:
    name: str
    weather: Weather


WEATHER = Weather(at=datetime(2026, 1, 2, tzinfo=UTC), degrees=3.5)
WEATHER_JSON = {"at": "2026-01-02T00:00:00Z", "degrees": 3.5}


def results(s: Scene) -> list[ToolResultMessage]:
    return [message for message in s.messages if isinstance(message, ToolResultMessage)]


async def returned(value: Any, sandbox: MemorySandbox | None = None) -> ToolResultMessage:
    """Return what a conversation holds of a tool that returned `value`."""

    @tool
    def give() -> Any:
        """Give it."""
        return value

    env = create_sandbox_session_env(sandbox or MemorySandbox(), "/workspace")
    async with scene(call("give", {}), "Thanks.", tools=[give], sandbox=lambda: env) as s:
        assert (await s.session.prompt("Go.")).text == "Thanks."
        (result,) = results(s)
        return result


def text_of(result: ToolResultMessage) -> str:
    (block,) = result.content
    assert isinstance(block, TextContent)
    return block.text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("", "(no output)"),
        (None, "(no output)"),
        (ToolResult(()), "(no output)"),
        (0, "0"),
        (False, "false"),
        ({"ø": [1, 2.5, None]}, '{"ø": [1, 2.5, null]}'),
        (["a", "b"], '["a", "b"]'),
        ([], "[]"),
        (WEATHER, json.dumps(WEATHER_JSON)),
        ([WEATHER], json.dumps([WEATHER_JSON])),
        (Part("a", WEATHER), json.dumps({"name": "a", "weather": WEATHER_JSON})),
        ({1}, "[1]"),
    ],
)
async def test_a_value_is_shown_as_text_or_json(value: Any, text: str) -> None:
    result = await returned(value)
    assert (text_of(result), result.is_error) == (text, False)


@pytest.mark.parametrize("value", [PNG_BLOCK, PNG, bytearray(PNG), memoryview(PNG), ImageContent(PNG_BLOCK.data, "")])
async def test_an_image_is_shown_whether_as_a_block_or_as_its_bytes(value: Any) -> None:
    assert (await returned(value)).content == (PNG_BLOCK,)


async def test_an_image_with_the_wrong_type_gets_the_right_one() -> None:
    assert (await returned(ImageContent(PNG_BLOCK.data, "image/jpeg"))).content == (PNG_BLOCK,)


@pytest.mark.parametrize("value", [["A chart:", PNG, {"n": 1}], ToolResult(MIXED)], ids=["list", "ToolResult"])
async def test_a_list_of_blocks_keeps_its_order(value: Any) -> None:
    assert (await returned(value)).content == (TextContent("A chart:"), PNG_BLOCK, TextContent('{"n": 1}'))


async def test_empty_text_beside_an_image_is_left_out() -> None:
    assert (await returned(["", PNG, None, "x"])).content == (PNG_BLOCK, TextContent("x"))


async def test_other_bytes_are_kept_in_the_sandbox_and_named() -> None:
    sandbox = MemorySandbox()
    result = await returned([b"\x00\x01", b"\x02"], sandbox)
    assert [block.text for block in result.content if isinstance(block, TextContent)] == [
        "[2 bytes of binary data, kept in /tmp/flue/default-call_1.bin.]",
        "[1 bytes of binary data, kept in /tmp/flue/default-call_1-2.bin.]",
    ]
    assert sandbox.files["/tmp/flue/default-call_1.bin"] == b"\x00\x01"
    assert sandbox.files["/tmp/flue/default-call_1-2.bin"] == b"\x02"


async def test_an_image_too_large_to_show_is_kept_as_a_file() -> None:
    sandbox = MemorySandbox()
    data = PNG + bytes(3_750_000)
    text = text_of(await returned(data, sandbox))
    assert text.startswith("[An image (image/png, 3750016 bytes, over the 3750000 that can be shown), kept in ")
    assert sandbox.files["/tmp/flue/default-call_1.png"] == data


async def test_of_many_lines_the_first_are_shown_and_all_of_them_kept() -> None:
    sandbox = MemorySandbox()
    whole = "\n".join(str(number) for number in range(1, 5001))
    text = text_of(await returned(whole, sandbox))
    assert text.startswith("1\n2\n")
    note = "lines 1-2000 of 5000. All of it is in /tmp/flue/default-call_1.txt.]"
    assert text.endswith(f"\n2000\n\n[Result truncated: showing {note}")
    assert sandbox.files["/tmp/flue/default-call_1.txt"].decode() == whole


async def test_of_one_long_line_of_json_the_beginning_is_shown() -> None:
    sandbox = MemorySandbox()
    value = {"numbers": list(range(50_000))}
    shown, note = text_of(await returned(value, sandbox)).split("\n\n")
    assert len(shown) == 51_200
    assert note.startswith("[Result truncated: showing the first 51200 of ")
    assert json.loads(sandbox.files["/tmp/flue/default-call_1.txt"]) == value


async def test_blocks_share_one_limit_and_images_stay() -> None:
    result = await returned(["x" * 30_000, PNG, "y" * 30_000])
    excerpt, image = result.content
    assert isinstance(excerpt, TextContent)
    assert "showing lines 1-1 of 2." in excerpt.text
    assert "y" not in excerpt.text.split("\n\n")[0]
    assert image == PNG_BLOCK


async def test_what_the_limits_allow_is_shown_whole_and_not_kept() -> None:
    sandbox = MemorySandbox()
    assert text_of(await returned("x" * 51_200, sandbox)) == "x" * 51_200
    assert sandbox.files == {}


async def test_a_long_error_is_cut_too() -> None:
    sandbox = MemorySandbox()

    @tool
    def fail() -> str:
        """Fail at length."""
        raise RuntimeError("no\n" * 9_000)

    env = create_sandbox_session_env(sandbox, "/workspace")
    async with scene(call("fail", {}), "I see.", tools=[fail], sandbox=lambda: env) as s:
        await s.session.prompt("Go.")
        (result,) = results(s)
    assert result.is_error
    assert "[Result truncated: showing lines 1-2000 of 9001." in text_of(result)
    assert len(sandbox.files) == 1


async def test_a_sandbox_that_takes_no_files_does_not_fail_the_call() -> None:
    sandbox = MemorySandbox()
    sandbox.read_only = True
    assert text_of(await returned(b"\x00", sandbox)) == (
        "[1 bytes of binary data, which could not be kept in the sandbox.]"
    )
    assert text_of(await returned("x\n" * 3_000, sandbox)).endswith("The rest could not be kept.]")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (float("nan"), "a value of type float that JSON cannot carry"),
        ({"a": [float("inf")]}, "a value of type dict that JSON cannot carry"),
        (object(), "a value of type object that JSON cannot carry"),
        ({"a": b"\xff"}, "a value of type dict that JSON cannot carry"),
        (ToolResult.from_text("x", {"at": object()}), "`details` that JSON cannot carry"),
        (ImageContent("not base64!", "image/png"), "an image whose data is not base64"),
    ],
)
async def test_what_cannot_be_carried_is_a_clear_error_result(value: Any, problem: str) -> None:
    result = await returned(value)
    assert result.is_error
    assert text_of(result).startswith(f"The tool ran, but it returned {problem}")


async def test_what_a_built_in_tool_gives_at_its_limit_is_not_cut_again() -> None:
    many = "".join(f"{number}\n" for number in range(3_000))
    steps = [call("read", {"path": "many"}), call("bash", {"command": "cat many; exit 2"}), "Done."]
    async with scene(*steps, sandbox=virtual({"many": many})) as s:
        await s.session.prompt("Go.")
        read, bash = (text_of(result) for result in results(s))
    assert read.endswith("[Showing lines 1-2000 of 3001. Use offset=2001 to continue.]")
    assert "[Output truncated: showing lines 1001-3000 of 3000. All of it is in " in bash
    assert bash.endswith("Command exited with code 2")
    assert "[Result truncated" not in read + bash


async def test_two_edits_of_one_file_in_one_answer_lose_nothing() -> None:
    sandbox = MemorySandbox({"/workspace/f": "one two three"})
    edits = [
        call("edit", {"path": "f", "oldText": "one", "newText": "1"}),
        call("edit", {"path": "/workspace/./f", "oldText": "two", "newText": "2"}),
        call("edit", {"path": "f", "oldText": "three", "newText": "3"}),
    ]
    async with scene(edits, "Done.", sandbox=lambda: SessionEnv(sandbox, "/workspace")) as s:
        await s.session.prompt("Number them.")
        assert [result.is_error for result in results(s)] == [False] * 3
    assert sandbox.files["/workspace/f"] == b"1 2 3"
