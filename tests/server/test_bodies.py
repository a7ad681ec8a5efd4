"""Bodies of requests: spec 1.2, and what nobody should send."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flue.server.json_text import MAX_DEPTH
from tests.server.asgi_client import JSON, Client
from tests.server.conftest import Site

PATH = "/workflows/noop"


def payload_of(site: Site) -> Any:
    """Return what the last run was started with."""
    kind, name, payload, _ = site.service.asked[-1]
    assert (kind, name) == ("start_workflow", "noop")
    return payload


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b""),
        ({"content-length": "0"}, b""),
        ({"content-length": "0", "content-type": "text/plain"}, b""),
        (JSON, b""),
        (JSON, b" \r\n\t "),
        ({"content-type": "APPLICATION/JSON; charset=utf-8"}, b"{}"),
        (JSON, b"\xef\xbb\xbf{}"),
    ],
)
async def test_nothing_and_blanks_are_an_empty_object(site: Site, headers: dict[str, str], body: bytes) -> None:
    answer = await site.client.request("POST", PATH, body, headers=headers)
    assert answer.status == 202
    assert payload_of(site) == {}


@pytest.mark.parametrize("text", ["[]", '"text"', "null", "1.5", "true", '{"a":{"b":[1,"\u00e9\U0001f600"]}}'])
async def test_a_workflow_takes_any_json_value(site: Site, text: str) -> None:
    answer = await site.client.request("POST", PATH, text.encode(), headers=JSON)
    assert answer.status == 202
    assert payload_of(site) == json.loads(text)


@pytest.mark.parametrize("headers", [{"content-type": "text/plain"}, {"content-type": "multipart/form-data"}, {}])
async def test_a_body_that_is_not_called_json_is_415(site: Site, headers: dict[str, str]) -> None:
    answer = await site.client.request("POST", PATH, b"hi", headers=headers)
    assert answer.status == 415
    assert answer.error["type"] == "unsupported_media_type"
    assert answer.headers["x-flue-run-id"].startswith("workflow:noop:")


async def test_a_body_without_length_and_type_is_ignored_as_clients_of_the_original_expect(site: Site) -> None:
    answer = await site.client.request("POST", PATH, [b"hi"], headers={})
    assert answer.status == 202
    assert payload_of(site) == {}


@pytest.mark.parametrize(
    "body",
    [
        b"{bad",
        b"{} {}",
        b"\xff\xfe{\x00}\x00",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e999",
        b"9" * 5000,
        rb'"\ud800"',
        rb'{"\udfff": 1}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
        b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1),
        b"'a'",
        b"{\x00}",
        b'"\n"',
        b"undefined",
    ],
)
async def test_what_is_no_json_is_400_and_starts_nothing(site: Site, body: bytes) -> None:
    answer = await site.client.request("POST", PATH, body, headers=JSON)
    assert answer.status == 400
    assert answer.error["type"] == "invalid_json"
    assert answer.headers["x-flue-run-id"].startswith("workflow:noop:")
    assert not [asked for asked in site.service.asked if asked[0] == "start_workflow"]


async def test_deep_but_bearable_nesting_many_keys_and_pairs_of_surrogates_pass(site: Site) -> None:
    for body in (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, b'{"a":1,"a":2}', rb'"\ud83d\ude00"', b"9" * 400, b"[]" * 1):
        assert (await site.client.request("POST", PATH, body, headers=JSON)).status == 202
    wide = json.dumps([[] for _ in range(5000)]).encode()
    assert (await site.client.request("POST", PATH, wide, headers=JSON)).status == 202


async def test_of_a_key_given_twice_the_last_counts(site: Site) -> None:
    await site.client.request("POST", PATH, b'{"a":1,"a":2}', headers=JSON)
    assert payload_of(site) == {"a": 2}


async def test_a_body_that_is_announced_too_large_is_not_read(site: Site) -> None:
    client = Client(site.app(body_limit=100))
    for length in ("101", "9" * 50):
        answer = await client.request("POST", PATH, [b"{", b"}"], headers={**JSON, "content-length": length})
        assert answer.status == 413
        assert answer.error["type"] == "payload_too_large"


async def test_a_body_that_grows_too_large_is_read_no_further_than_the_limit(site: Site) -> None:
    client = Client(site.app(body_limit=100))
    pieces = [b"x" * 60] * 1000
    answer = await client.request("POST", PATH, pieces, headers=JSON)
    assert answer.status == 413
    assert (await client.request("POST", PATH, [b"[" + b" " * 50, b" " * 48 + b"]"], headers=JSON)).status == 202


async def test_a_body_in_pieces_cut_anywhere_is_put_together(site: Site) -> None:
    text = '{"text":"\u00e9\U0001f600"}'.encode()
    await site.client.request("POST", PATH, [text[i : i + 1] for i in range(len(text))], headers=JSON)
    assert payload_of(site) == {"text": "\u00e9\U0001f600"}


async def test_a_client_that_leaves_before_its_body_is_complete_starts_nothing(site: Site) -> None:
    async with site.client.stream("POST", PATH, [b"{"], headers={**JSON, "content-length": "10"}) as stream:
        # The driver says that the only piece is the last, so take the length's word: JSON that breaks off.
        await stream.end()
    assert not [asked for asked in site.service.asked if asked[0] == "start_workflow"]
