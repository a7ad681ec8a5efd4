from __future__ import annotations

import asyncio

import pytest

from flue.errors import UsageError
from flue.harness.env import SessionEnv
from flue.messages import TextContent
from tests.harness.tools.use import text_of, use


async def edited(env: SessionEnv, before: str | bytes, old: str, new: str, **more: object) -> bytes:
    await env.write_file("f", before)
    await use(env, "edit", path="f", oldText=old, newText=new, **more)
    return await env.read_file_buffer("f")


async def refusal(env: SessionEnv, before: str | bytes, old: str, new: str) -> str:
    """Return the error of an edit after checking that the file stayed as it was."""
    await env.write_file("f", before)
    with pytest.raises(UsageError) as raised:
        await use(env, "edit", path="f", oldText=old, newText=new)
    assert await env.read_file_buffer("f") == (before.encode() if isinstance(before, str) else before)
    assert raised.value.code == "invalid_edit"
    return str(raised.value)


async def test_the_only_occurrence_is_replaced(env: SessionEnv) -> None:
    await env.write_file("f", "one two three")
    result = await use(env, "edit", path="f", oldText="two", newText="2")
    assert result.content == (TextContent("Successfully edited f"),)
    assert result.details == {"path": env.resolve_path("f"), "replacements": 1}
    assert await env.read_file("f") == "one 2 three"


@pytest.mark.parametrize("new", ["$& $$ $1 $`", r"\1 \g<0> \n \\", "", "(x"])
async def test_the_new_text_is_taken_literally(env: SessionEnv, new: str) -> None:
    assert await edited(env, "a.b [c]", "a.b [c]", new) == new.encode()
    assert await edited(env, "xx", "x", new, replaceAll=True) == (new * 2).encode()


async def test_the_old_text_is_taken_literally(env: SessionEnv) -> None:
    assert await edited(env, "a+b aab .*", "a+b", "c") == b"c aab .*"
    assert "Could not find the exact text in f." in await refusal(env, "abc", ".*", "x")


async def test_several_occurrences_are_refused_with_their_number(env: SessionEnv) -> None:
    message = await refusal(env, "a b a b a", "a", "c")
    assert message.startswith("Found 3 occurrences of the text in f.")
    assert "replaceAll" in message


async def test_all_occurrences_are_replaced_on_request(env: SessionEnv) -> None:
    await env.write_file("f", "aaaa")
    text = await text_of(env, "edit", path="f", oldText="aa", newText="aaa", replaceAll="true")
    assert text == "Replaced 2 occurrences in f"
    assert await env.read_file("f") == "aaaaaa"


async def test_an_empty_old_text_or_no_change_is_refused(env: SessionEnv) -> None:
    assert "oldText is empty" in await refusal(env, "text", "", "x")
    assert "nothing to change" in await refusal(env, "text", "text", "text")


async def test_a_file_with_crlf_keeps_its_line_endings(env: SessionEnv) -> None:
    assert await edited(env, "a\r\nb\r\nc\r\n", "a\nb\n", "x\ny\nz\n") == b"x\r\ny\r\nz\r\nc\r\n"
    assert await edited(env, "a\r\nb\r\n", "a\r\nb", "x\r\ny") == b"x\r\ny\r\n"
    assert await edited(env, "a\r\nb\r\n", "a", "x\ny") == b"x\r\ny\r\nb\r\n"
    assert await edited(env, "a\r\nb\r\n", "\nb", "\nc") == b"a\r\nc\r\n"


async def test_a_file_with_lf_keeps_its_line_endings(env: SessionEnv) -> None:
    assert await edited(env, "a\nb\n", "a\r\nb", "x\r\ny") == b"x\ny\n"
    assert await edited(env, "a\nb\nc\r\n", "b\nc", "x\ny") == b"a\nx\ny\r\n"


async def test_a_file_without_line_breaks_takes_those_it_is_given(env: SessionEnv) -> None:
    assert await edited(env, "a", "a", "x\r\ny") == b"x\r\ny"


async def test_a_byte_order_mark_is_kept(env: SessionEnv) -> None:
    assert await edited(env, b"\xef\xbb\xbfhello", "hello", "bye") == b"\xef\xbb\xbfbye"


async def test_a_file_that_is_not_utf8_is_not_damaged(env: SessionEnv) -> None:
    assert "not UTF-8" in await refusal(env, b"caf\xe9 a", "a", "b")


async def test_a_missing_file_is_an_error_that_names_it(env: SessionEnv) -> None:
    with pytest.raises(FileNotFoundError, match="gone"):
        await use(env, "edit", path="gone", oldText="a", newText="b")


async def test_parallel_edits_of_one_file_all_count(env: SessionEnv) -> None:
    await env.write_file("f", " ".join(f"<{number}>" for number in range(12)))
    paths = ["f", "./f", env.resolve_path("f")] * 4
    await asyncio.gather(
        *(use(env, "edit", path=path, oldText=f"<{n}>", newText=f"[{n}]") for n, path in enumerate(paths))
    )
    assert await env.read_file("f") == " ".join(f"[{number}]" for number in range(12))
