"""What models are offered, and what they are shown of results."""

from __future__ import annotations

import base64
import logging
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flue.errors import UsageError
from flue.mcp.results import tool_result
from flue.mcp.tools import listed_tools, tool_name
from flue.messages import ImageContent, TextContent
from tests.lazily import Lazily
from tests.mcp.office import PNG

if TYPE_CHECKING:
    from mcp import types
else:
    types = Lazily("mcp.types")


def listed(name: str = "find", schema: Any = None, **fields: Any) -> types.Tool:
    return types.Tool(name=name, input_schema={"type": "object"} if schema is None else schema, **fields)


def shown(*content: Any, schema: Any = None, **fields: Any) -> tuple[Any, ...]:
    result = types.CallToolResult(content=list(content), **fields)
    return tool_result(result, server="s", tool="t", output_schema=schema).content


def text(value: str) -> types.TextContent:
    return types.TextContent(text=value)


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    ("server", "tool", "name"),
    [
        ("files", "read_file", "mcp__files__read_file"),
        ("my server", "a.b/c", "mcp__my_server__a_b_c"),
        ("_x_", "__init__", "mcp__x__init"),
        ("日本", "…", "mcp__unnamed__unnamed"),
    ],
)
def test_a_name_keeps_letters_digits_and_hyphens(server: str, tool: str, name: str) -> None:
    assert tool_name(server, tool) == name


@given(st.text(max_size=100), st.text(max_size=100))
def test_a_name_is_one_that_every_provider_accepts(server: str, tool: str) -> None:
    name = tool_name(server, tool)
    assert len(name) <= 64
    assert name.isascii()
    assert all(character.isalnum() or character in "_-" for character in name)


def test_long_names_that_differ_at_their_end_stay_different() -> None:
    assert tool_name("s", "x" * 100 + "a") != tool_name("s", "x" * 100 + "b")


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match=r'mcp__s__a_b: "a.b" and "a_b"') as caught:
        listed_tools("s", [listed("a.b"), listed("a_b")])
    assert caught.value.code == "duplicate_mcp_tool"


def test_a_description_names_the_server_the_tool_and_its_title() -> None:
    (tool,) = listed_tools("shop", [listed("find", description=" Finds orders. ", title="Find orders")]).tools
    assert tool.description == '"find", a tool of the MCP server "shop".\nTitle: Find orders\nFinds orders.'
    (bare,) = listed_tools("shop", [listed("find")]).tools
    assert bare.description == '"find", a tool of the MCP server "shop".'


def test_a_schema_without_a_type_describes_an_object() -> None:
    (tool,) = listed_tools("s", [listed(schema={"properties": {"a": {"type": "string"}}})]).tools
    assert tool.parameters == {"type": "object", "properties": {"a": {"type": "string"}}}


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "string"}, "its type is 'string'"),
        (nested(5_000), "nested more than 64 levels"),
        ({"type": "object", "description": "x" * 200_000}, "131072 is the limit"),
    ],
)
def test_a_tool_that_no_provider_would_accept_is_left_out(
    schema: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "flue.mcp"):
        listing = listed_tools("s", [listed("bad", schema), listed("good")])
    assert [tool.original for tool in listing.tools] == ["good"]
    assert reason in listing.rejected["bad"]
    assert reason in caplog.text


def test_texts_are_joined_by_blank_lines_round_images_that_stay_in_place() -> None:
    image = types.ImageContent(data=PNG, mime_type="image/png")
    assert shown(text("a"), text("b"), image, text("c")) == (
        TextContent("a\n\nb"),
        ImageContent(PNG, "image/png"),
        TextContent("c"),
    )


def test_structured_content_comes_first_and_its_repetition_is_left_out() -> None:
    assert shown(text('{"a":1}'), text("more"), structured_content={"a": 1}) == (TextContent('{"a": 1}\n\nmore'),)


@pytest.mark.parametrize(("value", "written"), [(5, "5"), ("five", "five"), ("5", "5"), ([1], "[1]")])
def test_a_wrapped_value_is_not_shown_twice(value: Any, written: str) -> None:
    assert shown(text(written), structured_content={"result": value}) == (TextContent(written),)


def test_structured_content_may_be_any_json_value() -> None:
    assert shown(structured_content=0) == (TextContent("0"),)


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (base64.b64encode(b"<svg/>").decode(), "image/svg+xml"),
        (base64.b64encode(b"no image").decode(), "image/png"),
        ("not base64!", "image/png"),
        (base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(5_000_000)).decode(), "image/png"),
    ],
)
def test_an_image_that_a_provider_would_refuse_is_only_named(data: str, mime: str) -> None:
    assert shown(types.ImageContent(data=data, mime_type=mime)) == (
        TextContent(f"[Image: {mime}, {len(data)} base64 chars]"),
    )


def test_a_mislabelled_image_gets_its_real_type() -> None:
    assert shown(types.ImageContent(data=PNG, mime_type="image/jpeg")) == (ImageContent(PNG, "image/png"),)


def test_audio_resources_and_links_are_described() -> None:
    blob = base64.b64encode(b"abc").decode()
    (block,) = shown(
        types.AudioContent(data=blob, mime_type="audio/wav"),
        types.EmbeddedResource(resource=types.TextResourceContents(uri="note://1", text="Buy milk.")),
        types.EmbeddedResource(resource=types.BlobResourceContents(uri="f://x", blob=blob, mime_type="a/b")),
        types.ResourceLink(name="notes", uri="note://all", description="All of them"),
    )
    assert block.text.split("\n\n") == [
        "[Audio: audio/wav, 4 base64 chars]",
        "[Resource: note://1]\nBuy milk.",
        "[Resource: f://x, a/b, 4 base64 chars]",
        "[Resource link: note://all, notes, All of them]",
    ]


def test_an_image_inside_a_resource_is_shown() -> None:
    resource = types.BlobResourceContents(uri="f://x.png", blob=PNG, mime_type="image/png")
    assert shown(types.EmbeddedResource(resource=resource)) == (
        TextContent("[Resource: f://x.png]"),
        ImageContent(PNG, "image/png"),
    )


def test_an_empty_result_says_so() -> None:
    assert shown() == shown(text("")) == (TextContent("(The MCP tool returned no content.)"),)


def test_a_result_that_breaks_its_own_schema_is_passed_on_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    # The pattern would take Python's regular expressions for ever.
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}, "required": ["b"]}
    with caplog.at_level(logging.WARNING, "flue.mcp"):
        (block,) = shown(structured_content={"a": "a" * 50 + "!"}, schema=schema)
    assert block.text.startswith('{"a": "aaa')
    assert "does not fit its output schema" in caplog.text
