"""Addresses: exact paths, methods, percent-encoding, prefixes."""

from __future__ import annotations

import pytest

from tests.server.asgi_client import Client
from tests.server.conftest import Site

POSTS = [
    "/workflows/noop",
    "/agents/chat/a",
    "/agents/chat/a/submissions/s/abort",
    "/agents/chat/a/approvals/c",
    "/agents/chat/a/budget",
    "/agents/chat/a/dispatch",
    "/runs/r/abort",
    "/runs/r/events/e",
]
GETS = [
    "/agents/chat/a/stream",
    "/agents/chat/a/submissions/s",
    "/agents/chat/a/submissions/s/events",
    "/agents/chat/a/submissions/s/stream",
    "/runs/r",
    "/runs/r/events",
    "/runs/r/stream",
    "/openapi.json",
]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "post", "FOO"])
@pytest.mark.parametrize("path", POSTS)
async def test_another_method_on_a_post_route_is_405_and_says_post(site: Site, path: str, method: str) -> None:
    answer = await site.client.request(method, path)
    assert answer.status == 405
    assert answer.headers["allow"] == "POST"
    assert "x-flue-run-id" not in answer.headers
    if method != "HEAD":
        assert answer.error["type"] == "method_not_allowed"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", GETS)
async def test_another_method_on_a_get_route_is_405_and_says_get(site: Site, path: str, method: str) -> None:
    answer = await site.client.request(method, path)
    assert (answer.status, answer.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "//",
        "/workflows",
        "/workflows/",
        "/workflows/noop/",
        "//workflows/noop",
        "/workflows//noop",
        "/Workflows/noop",
        "/agents/chat",
        "/agents/chat/",
        "/agents/chat/a/",
        "/agents/chat/a/b",
        "/agents//a",
        "/runs",
        "/runs/",
        "/runs/r/",
        "/runs/r/nothing",
        "/openapi.json/",
        "/%2fworkflows/noop",
        "/workflows%2fnoop",
        "/nothing",
        "/" * 2000,
        "/%zz",
    ],
)
async def test_paths_match_exactly_or_not_at_all(site: Site, path: str) -> None:
    answer = await site.client.post(path)
    assert answer.status == 404
    assert answer.error["type"] == "route_not_found"


async def test_parameters_are_decoded_segment_by_segment(site: Site) -> None:
    for encoded, id in [
        ("a%2Fb", "a/b"),
        ("%E2%82%AC%F0%9F%98%80", "\u20ac\U0001f600"),
        ("..", ".."),
        ("%2e%2e%2f%2e%2e", "../.."),
        ("100%25", "100%"),
        ("a+b%20c", "a+b c"),
        ("a:b@c;d=e", "a:b@c;d=e"),
        ("%zz", "%zz"),
    ]:
        answer = await site.client.post(f"/agents/chat/{encoded}", {"message": "hi"})
        assert answer.status == 200
        assert site.service.asked[-1][1:3] == ("chat", id)


@pytest.mark.parametrize("encoded", ["%FF", "%ED%A0%80", "%C3", "%00", "a%0Ab", "%7F", "%20", "%20%09", "a" * 513])
async def test_ids_that_nobody_should_have_are_400(site: Site, encoded: str) -> None:
    answer = await site.client.post(f"/agents/chat/{encoded}", {"message": "hi"})
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request"


async def test_a_run_id_may_be_encoded(site: Site) -> None:
    run_id = (await site.client.post("/workflows/noop")).json["runId"]
    for path in (f"/runs/{run_id}", f"/runs/{run_id.replace(':', '%3A')}"):
        assert (await site.client.get(path)).json["runId"] == run_id


@pytest.mark.parametrize("prefix", ["/api", "/a/b", "/k\u00e4se"])
async def test_below_a_prefix_all_is_the_same(site: Site, prefix: str) -> None:
    client = Client(site.app(), root_path=prefix)
    assert (await client.post("/workflows/noop")).status == 202
    assert (await client.post("/agents/chat/a%2Fb", {"message": "hi"})).status == 200
    # A prefix that is not ASCII cannot be told apart in the raw path; the decoded one is used then.
    assert site.service.asked[-1][2] == "a/b" or prefix == "/k\u00e4se"
    assert (await client.post("/nothing")).status == 404


async def test_head_is_answered_like_get_without_a_body(site: Site) -> None:
    get, head = await site.client.get("/openapi.json"), await site.client.request("HEAD", "/openapi.json")
    assert head.status == 200
    assert head.headers == get.headers
    assert head.body == b""
