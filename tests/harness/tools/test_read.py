from __future__ import annotations

import base64

import pytest

from flue.errors import UsageError
from flue.harness.env import SessionEnv
from flue.harness.tools.read import MAX_IMAGE_BYTES
from flue.messages import ImageContent, TextContent
from tests.harness.memory_sandbox import MemorySandbox
from tests.harness.tools.use import text_of, use

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


async def test_a_text_file_is_shown_whole(env: SessionEnv) -> None:
    await env.write_file("a.txt", "one\ntwö")
    result = await use(env, "read", path="a.txt")
    assert result.content == (TextContent("one\ntwö"),)
    assert result.details == {"path": env.resolve_path("a.txt"), "lines": 2}
    assert not result.is_error


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ({"offset": 2}, "2\n3\n4"),
        ({"offset": 2, "limit": 2}, "2\n3"),
        ({"limit": 1}, "1"),
        ({"offset": 0, "limit": 1}, "1"),
        ({"offset": -5, "limit": 1}, "1"),
        ({"offset": "3", "limit": "1"}, "3"),
        ({"offset": 4, "limit": 100}, "4"),
        ({"offset": None, "limit": None}, "1\n2\n3\n4"),
        ({"offset": 2.0}, "2\n3\n4"),
    ],
)
async def test_offset_and_limit_choose_lines(env: SessionEnv, arguments: dict[str, object], shown: str) -> None:
    await env.write_file("n", "1\n2\n3\n4")
    assert await text_of(env, "read", path="n", **arguments) == shown


async def test_an_offset_beyond_the_end_is_an_error_that_gives_the_length(env: SessionEnv) -> None:
    await env.write_file("n", "1\n2\n")
    assert await text_of(env, "read", path="n", offset=3) == "(line 3 is empty)"
    with pytest.raises(UsageError, match=r"Offset 4 is beyond end of file \(3 lines total\)"):
        await use(env, "read", path="n", offset=4)


async def test_a_long_file_is_shown_in_parts_that_can_be_continued(env: SessionEnv) -> None:
    await env.write_file("long", "".join(f"{number}\n" for number in range(1, 5001)))
    first = await text_of(env, "read", path="long")
    assert first.startswith("1\n2\n")
    assert first.endswith("\n2000\n\n[Showing lines 1-2000 of 5001. Use offset=2001 to continue.]")
    last = await text_of(env, "read", path="long", offset=4001)
    assert last == "".join(f"{number}\n" for number in range(4001, 5001))


async def test_a_wide_file_is_cut_at_50_kib_between_lines(env: SessionEnv) -> None:
    await env.write_file("wide", "\n".join(["ü" * 500] * 200))
    shown, note = (await text_of(env, "read", path="wide")).split("\n\n")
    assert shown == "\n".join(["ü" * 500] * 51)
    assert note == "[Showing lines 1-51 of 200. Use offset=52 to continue.]"


async def test_a_line_that_is_too_long_is_cut_and_the_model_is_told(env: SessionEnv) -> None:
    await env.write_file("min.js", "x" * 60_000 + "\nnext")
    shown, note = (await text_of(env, "read", path="min.js")).split("\n\n")
    assert shown == "x" * 51_200
    assert note == (
        "[Line 1 has 60000 bytes; only the first 51200 are shown. Showing lines 1-1 of 2. Use offset=2 to continue.]"
    )
    await env.write_file("one", "x" * 60_000)
    assert (await text_of(env, "read", path="one")).endswith("Showing lines 1-1 of 1.]")


async def test_an_empty_file_is_told_to_be_empty(env: SessionEnv) -> None:
    await env.write_file("empty", "")
    assert await text_of(env, "read", path="empty") == "(empty file)"
    await env.write_file("blank", "\n\n")
    assert await text_of(env, "read", path="blank", limit=2) == "\n"
    assert await text_of(env, "read", path="blank", limit=1) == "(line 1 is empty)"


async def test_a_directory_is_listed(env: SessionEnv) -> None:
    await env.write_file("dir/b.txt", "")
    await env.write_file("dir/.hidden", "")
    result = await use(env, "read", path="dir")
    assert result.content == (TextContent(".hidden\nb.txt"),)
    assert result.details == {
        "path": env.resolve_path("dir"),
        "isDirectory": True,
        "entries": [".hidden", "b.txt"],
    }
    await env.mkdir("nothing")
    assert await text_of(env, "read", path="nothing") == "(empty directory)"


async def test_a_huge_directory_is_listed_in_part() -> None:
    env = SessionEnv(MemorySandbox({f"/d/{number:04}": "" for number in range(2_500)}), "/")
    text = await text_of(env, "read", path="d")
    assert text.endswith("1999\n\n[Showing 2000 of 2500 entries. Use glob or bash to find others.]")


@pytest.mark.parametrize("data", [b"\x7fELF\x00\x01", b"%PDF-1.7\xff\xfe\xfd" * 9, b"text, then\0"])
async def test_a_binary_file_is_told_to_be_one(env: SessionEnv, data: bytes) -> None:
    await env.write_file("bin", data)
    result = await use(env, "read", path="bin")
    assert result.details == {"path": env.resolve_path("bin"), "binary": True, "size": len(data)}
    assert result.content == (
        TextContent(f"{env.resolve_path('bin')} is a binary file ({len(data)} bytes) and cannot be shown as text."),
    )


async def test_single_bytes_that_are_not_utf8_are_marked_and_a_byte_order_mark_is_hidden(env: SessionEnv) -> None:
    await env.write_file("latin1", b"a long enough line with one caf\xe9 in it")
    assert await text_of(env, "read", path="latin1") == (
        "a long enough line with one caf\ufffd in it\n\n[Bytes that are not UTF-8 appear as \ufffd.]"
    )
    await env.write_file("bom", b"\xef\xbb\xbfhello")
    assert await text_of(env, "read", path="bom") == "hello"


@pytest.mark.parametrize(
    ("data", "mime_type"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0" + bytes(20), "image/jpeg"),
        (b"GIF89a" + bytes(20), "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
    ],
)
async def test_an_image_is_shown_as_an_image(env: SessionEnv, data: bytes, mime_type: str) -> None:
    await env.write_file("picture", data)
    result = await use(env, "read", path="picture")
    note, image = result.content
    assert isinstance(note, TextContent)
    assert mime_type in note.text
    assert isinstance(image, ImageContent)
    assert (base64.b64decode(image.data), image.mime_type) == (data, mime_type)
    assert result.details == {"path": env.resolve_path("picture"), "mimeType": mime_type, "size": len(data)}


async def test_an_image_that_is_too_large_is_described_only() -> None:
    env = SessionEnv(MemorySandbox({"/p.png": PNG + bytes(MAX_IMAGE_BYTES)}), "/")
    assert "over the 3750000 bytes that can be shown" in await text_of(env, "read", path="p.png")


async def test_a_missing_file_is_an_error_that_names_it(env: SessionEnv) -> None:
    with pytest.raises(FileNotFoundError, match="gone"):
        await use(env, "read", path="gone.txt")


async def test_links_are_followed_and_devices_and_huge_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = MemorySandbox({"/d/f": "text"})
    sandbox.links = {"/to-file": "/d/f", "/to-dir": "/d"}
    sandbox.special = {"/dev/zero"}
    env = SessionEnv(sandbox, "/")
    assert await text_of(env, "read", path="to-file") == "text"
    assert await text_of(env, "read", path="to-dir") == "f"
    with pytest.raises(UsageError, match="/dev/zero is not a regular file"):
        await use(env, "read", path="/dev/zero")
    monkeypatch.setattr("flue.harness.tools.files.MAX_FILE_BYTES", 3)
    with pytest.raises(UsageError, match="/d/f has 4 bytes; files of up to 3 bytes") as raised:
        await use(env, "read", path="/d/f")
    assert raised.value.code == "unreadable_file"
