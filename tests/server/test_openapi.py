"""The descriptions that the server gives of itself: spec 8."""

from __future__ import annotations

import re
from typing import Any

from flue import __version__
from flue.server.app import ADMIN, PUBLIC
from tests.server.asgi_client import JSON
from tests.server.conftest import Site

RECORDED = {
    ("/workflows/{name}", "post"): "invokeWorkflow",
    ("/agents/{name}/{id}", "post"): "invokeAgent",
    ("/runs/{runId}", "get"): "getRun",
    ("/runs/{runId}/events", "get"): "listRunEvents",
    ("/runs/{runId}/stream", "get"): "streamRunEvents",
}


async def test_the_recorded_operations_are_there_with_all_their_answers(site: Site) -> None:
    document = (await site.client.get("/openapi.json")).json
    assert document["openapi"] == "3.1.0"
    assert document["info"]["title"] == "Flue Public API"
    assert document["info"]["version"] == __version__
    assert document["servers"] == []
    for (path, method), id in RECORDED.items():
        operation = document["paths"][path][method]
        assert operation["operationId"] == id
        wanted = {"200", "400", "404", "405", "415", "500", "501"} | ({"202"} if id == "invokeWorkflow" else set())
        assert wanted <= set(operation["responses"])
    workflow, agent = document["paths"]["/workflows/{name}"]["post"], document["paths"]["/agents/{name}/{id}"]["post"]
    assert workflow["x-flue-invocation-modes"] == ["accepted", "wait-result", "stream"]
    assert agent["x-flue-invocation-modes"] == ["sync", "stream"]
    assert workflow["x-flue-user-defined"] is agent["x-flue-user-defined"] is True
    assert document["paths"]["/runs/{runId}/stream"]["get"]["x-flue-streaming"] is True


def served(routes: Any) -> set[tuple[str, str]]:
    found = set()
    for entries in routes._by_length.values():
        for pattern, handlers in entries:
            found |= {("/" + "/".join(pattern), method.lower()) for method in handlers}
    return found - {("/openapi.json", "get")}


async def test_every_route_is_described_and_every_description_is_a_route(site: Site) -> None:
    for client, routes in ((site.client, PUBLIC), (site.admin, ADMIN)):
        document = (await client.get("/openapi.json")).json
        described = {(path, method) for path, operations in document["paths"].items() for method in operations}
        assert described == served(routes)


async def test_every_operation_has_its_own_id_and_all_its_parameters(site: Site) -> None:
    for client in (site.client, site.admin):
        document = (await client.get("/openapi.json")).json
        ids = []
        for path, operations in document["paths"].items():
            for operation in operations.values():
                ids.append(operation["operationId"])
                named = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
                assert named == re.findall(r"\{(\w+)\}", path)
        assert len(set(ids)) == len(ids)


async def test_the_admin_has_a_description_of_its_own(site: Site) -> None:
    assert (await site.admin.get("/openapi.json")).json["info"]["title"] == "Flue Admin API"


async def test_answers_are_as_described(site: Site) -> None:
    from jsonschema import Draft202012Validator

    document = (await site.client.get("/openapi.json")).json
    run_id = (await site.client.post("/workflows/noop")).json["runId"]
    for path, method, body, described in [
        ("/workflows/noop", "POST", b"", "/workflows/{name}"),
        ("/workflows/noop?wait=result", "POST", b"", "/workflows/{name}"),
        ("/workflows/nope", "POST", b"", "/workflows/{name}"),
        ("/agents/chat/a", "POST", b'{"message":"hi"}', "/agents/{name}/{id}"),
        ("/agents/chat/a", "POST", b"{}", "/agents/{name}/{id}"),
        ("/agents/chat/a/submissions/sub_3", "GET", b"", "/agents/{name}/{id}/submissions/{submissionId}"),
        (f"/runs/{run_id}", "GET", b"", "/runs/{runId}"),
        (f"/runs/{run_id}/events", "GET", b"", "/runs/{runId}/events"),
    ]:
        answer = await site.client.request(method, path, body, headers=JSON if body else {})
        responses = document["paths"][described][method.lower()]["responses"]
        schema = responses[str(answer.status)]["content"]["application/json"]["schema"]
        Draft202012Validator(schema).validate(answer.json)
