from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.cloudflare.office import CLERK, SSE, submissions, the_submission, until
from tests.cloudflare.site import CHAT, Site, model
from tests.cloudflare.standin.streams import ReadableStream
from tests.cloudflare.standin.values import Uint8Array
from tests.cloudflare.test_sockets_of_objects import UPGRADE, Client

GUARDED = """
    from starlette.exceptions import HTTPException
    from starlette.responses import JSONResponse
    from flue import create_agent
    from tests.cloudflare.site import model

    async def route(request, call_next):
        if request.headers.get("authorization") != "Bearer me":
            return JSONResponse({"error": "who?"}, 401)
        if request.headers.get("x-read"):
            await request.json()
        response = await call_next(request)
        response.headers["x-seen"] = "yes"
        return response

    websocket = route
    agent = create_agent(model=model())
"""
WORKFLOW = """
    route = True

    async def run(ctx):
        body = await ctx.req.json()
        return {"url": str(ctx.req.url), "headers": sorted(ctx.req.headers), "body": body, "payload": ctx.payload}
"""
MOUNTED = """
    import flue
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.cors import CORSMiddleware
    from starlette.middleware.gzip import GZipMiddleware
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route

    async def own(request):
        return PlainTextResponse((await request.body()).decode() or "nothing")

    app = Starlette(
        routes=[Route("/own", own, methods=["GET", "POST"]), Mount("/admin", flue.admin()), Mount("/api", flue.asgi())],
        middleware=[Middleware(CORSMiddleware, allow_origins=["*"]), Middleware(GZipMiddleware, minimum_size=1)],
    )
"""
ME = {"authorization": "Bearer me"}


# --------------------------------------------------------------------------------------------------- who may


async def test_middleware_decides_in_the_worker_before_any_object_is_woken(cloud: Site) -> None:
    await cloud.deploy_project({"agents/chat.py": GUARDED})
    refused = await cloud.call("POST", "/agents/chat/ann", json={"message": "Hello"})
    assert (refused.status, refused.json) == (401, {"error": "who?"})
    assert (await cloud.call("GET", "/agents/chat/ann", headers=UPGRADE)).status == 401
    assert (await cloud.call("GET", "/agents/chat/ann/stream")).status == 401
    assert cloud.names("Chat") == []


@pytest.mark.parametrize("more", [{}, {"x-read": "yes"}], ids=["unread", "read"])
async def test_the_body_reaches_the_object_whether_middleware_has_read_it_or_not(cloud: Site, more: Any) -> None:
    model().add("Good morning.")
    await cloud.deploy_project({"agents/chat.py": GUARDED})
    answer = await cloud.call("POST", "/agents/chat/ann", json={"message": "Hello"}, headers=ME | more)
    assert (answer.status, answer.json["result"]["text"]) == (200, "Good morning.")
    assert answer.headers["x-seen"] == "yes"


async def test_a_socket_behind_middleware_is_accepted_by_the_object(cloud: Site) -> None:
    model().add("Good morning.")
    await cloud.deploy_project({"agents/chat.py": GUARDED})
    client = Client(await cloud.call("GET", "/agents/chat/ann?token=s3cret", headers=ME | UPGRADE))
    client.send(type="prompt", requestId="1", message="Hello")
    assert (await client.next("result"))["result"]["text"] == "Good morning."
    # Neither query nor headers of the handshake are kept.
    (socket,) = cloud.agent("chat", "ann").sockets
    assert socket.attachment is not None
    assert b"s3cret" not in socket.attachment
    assert b"Bearer" not in socket.attachment


async def test_the_trusted_routes_need_the_token_and_without_one_are_not_there(cloud: Site) -> None:
    await cloud.deploy_project({"agents/chat.py": CHAT})
    body = {"input": "Go."}
    assert (await cloud.call("POST", "/agents/chat/ann/dispatch", json=body)).status == 404
    cloud.variables["FLUE_DISPATCH_TOKEN"] = "t0ken"
    await cloud.deploy_project({"agents/chat.py": CHAT})
    assert (await cloud.call("POST", "/agents/chat/ann/dispatch", json=body)).status == 401
    model().add("Done.")
    headers = {"authorization": "Bearer t0ken"}
    assert (await cloud.call("POST", "/agents/chat/ann/dispatch", json=body, headers=headers)).status == 202
    assert (await cloud.call("POST", "/agents/nobody/ann/dispatch", json=body, headers=headers)).status == 404


async def test_headers_of_a_clients_that_only_the_worker_sets_are_set_anew(cloud: Site) -> None:
    model().add("Good morning.")
    await cloud.deploy_project({"agents/chat.py": CHAT, "workflows/show.py": WORKFLOW})
    forged = {"x-flue-ask": "dispatch", "x-flue-object": "bob", "x-flue-root-path": "/x", "x-flue-body-limit": "1"}
    answer = await cloud.call("POST", "/agents/chat/ann", json={"message": "Hello"}, headers=forged)
    assert answer.json["result"]["text"] == "Good morning."
    assert cloud.names("Chat") == ["ann"]
    shown = await cloud.call("POST", "/workflows/show?wait=result", json={"a": 1}, headers=forged | {"x-own": "1"})
    headers = shown.json["result"]["headers"]
    assert "x-own" in headers
    assert not [name for name in headers if name.startswith("x-flue-")]


# ------------------------------------------------------------------------------------------------ where from


async def test_a_request_keeps_its_address_and_its_body_for_the_workflow(cloud: Site) -> None:
    await cloud.deploy_project({"workflows/show.py": WORKFLOW, "app.py": MOUNTED})
    answer = await cloud.call("POST", "/api/workflows/show?wait=result&x=%20y", json={"a": 1})
    result = json.loads(_text(answer))["result"]
    assert result["url"] == "https://flue.example/api/workflows/show?wait=result&x=%20y"
    assert result["body"] == result["payload"] == {"a": 1}


async def test_an_app_of_the_projects_own_answers_beside_what_it_mounts(cloud: Site) -> None:
    model().add("Good morning.", "Good evening.")
    await cloud.deploy_project({"agents/chat.py": CHAT, "app.py": MOUNTED})
    assert _text(await cloud.call("POST", "/own", body=b"mine")) == "mine"
    answer = await cloud.call("POST", "/api/agents/chat/ann", json={"message": "Hi"}, headers={"origin": "https://x.y"})
    assert json.loads(_text(answer))["result"]["text"] == "Good morning."
    assert answer.headers["access-control-allow-origin"] == "*"
    assert (await cloud.call("GET", "/agents/chat/ann/stream")).status == 404
    client = Client(await cloud.call("GET", "/api/agents/chat/ann", headers=UPGRADE))
    client.send(type="prompt", requestId="1", message="Hello")
    assert (await client.next("result"))["result"]["text"] == "Good evening."


def _text(answer: Any) -> str:
    import gzip

    body = gzip.decompress(answer.body) if answer.headers.get("content-encoding") == "gzip" else answer.body
    return str(body.decode())


# ----------------------------------------------------------------------------------------------------- bodies

WATCHING = """
    import flue
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.middleware.gzip import GZipMiddleware
    from starlette.routing import Mount

    class Watch(BaseHTTPMiddleware):
        async def dispatch(self, request, call_next):
            response = await call_next(request)
            response.headers["x-watched"] = "yes"
            return response

    app = Starlette(routes=[Mount("/", flue.asgi(body_limit=1000))], middleware=[Middleware({})])
"""


@pytest.mark.parametrize("middleware", ["Watch", "GZipMiddleware"])
async def test_a_stream_goes_through_middleware_that_wants_to_see_it(cloud: Site, middleware: str) -> None:
    model().add("Good morning to all of you.")
    await cloud.deploy_project({"agents/chat.py": CHAT, "app.py": WATCHING.format(middleware)})
    headers = SSE | {"accept-encoding": "gzip"}
    answer = await cloud.call("POST", "/agents/chat/ann", json={"message": "Hi"}, headers=headers)
    assert "all of you" in _text(answer)
    assert ("x-watched" in answer.headers) == (middleware == "Watch")


async def test_a_stream_does_not_pass_through_the_worker_where_nobody_looks_at_it(cloud: Site) -> None:
    model().add("Good morning.")
    app = MOUNTED.replace(", Middleware(GZipMiddleware, minimum_size=1)", "")
    await cloud.deploy_project({"agents/chat.py": CHAT, "app.py": app})
    headers = SSE | {"origin": "https://x.y"}
    async with cloud.open("POST", "/api/agents/chat/ann", json={"message": "Hi"}, headers=headers) as stream:
        assert stream.headers["access-control-allow-origin"] == "*"
        # The platform copies what the object writes.
        assert repr(stream.writer) == "<Chat 'ann'>"
        assert b"idle" in await stream.read()


async def test_a_client_that_hangs_up_ends_the_stream_and_not_the_work(cloud: Site) -> None:
    gate = asyncio.Event()

    async def slow(request: Any) -> str:
        await gate.wait()
        return "There you are."

    model().add(slow)
    await cloud.deploy_project({"agents/clerk.py": CLERK})
    async with cloud.open("POST", "/agents/clerk/ann", json={"message": "Hi"}, headers=SSE) as stream:
        await stream.until("turn_start")
    life = cloud.agent("clerk", "ann").life
    assert life is not None
    await until(lambda: not [task for task in life.tasks if "EventStream" in repr(task)])
    gate.set()
    id = (await the_submission(cloud, "ann")).id
    path = f"/agents/clerk/ann/submissions/{id}"
    await until(lambda: _is(cloud, path, "completed"))
    assert (await cloud.call("GET", path)).json["result"]["text"] == "There you are."


async def _is(cloud: Site, path: str, status: str) -> bool:
    return bool((await cloud.call("GET", path)).json["status"] == status)


async def test_a_body_is_read_no_further_than_the_limit_of_the_app(cloud: Site) -> None:
    await cloud.deploy_project({"agents/chat.py": CHAT, "app.py": WATCHING.format("Watch")})
    big = json.dumps({"message": "x" * 2000}).encode()
    announced = await cloud.call("POST", "/agents/chat/ann", body=big, headers={"content-type": "application/json"})
    assert (announced.status, announced.json["error"]["type"]) == (413, "payload_too_large")
    assert cloud.names("Chat") == []
    endless = Endless()
    streamed = await cloud.call("POST", "/agents/chat/bob", body=endless, headers={"content-type": "application/json"})
    assert (streamed.status, streamed.json["error"]["details"]) == (413, "At most 1000 bytes are accepted.")
    assert endless.given < 50


class Endless(ReadableStream):
    """A body that never ends."""

    def __init__(self) -> None:
        super().__init__()
        self.given = 0

    def take(self) -> Any:
        self.given += 1
        self.offer(Uint8Array(b'"' + b"x" * 98))
        return super().take()


async def test_a_body_that_breaks_off_is_no_prompt(cloud: Site) -> None:
    await cloud.deploy_project({"agents/clerk.py": CLERK})
    body = ReadableStream.of(b'{"message": "H')
    body.ended = False
    body.closing = None
    sending = asyncio.create_task(
        cloud.call("POST", "/agents/clerk/ann", body=body, headers={"content-type": "application/json"})
    )
    await until(lambda: "ann" in cloud.names("Clerk"))
    body.cancel("gone")
    await sending
    assert await submissions(cloud, cloud.agent("clerk", "ann")) == []


# ---------------------------------------------------------------------------------------------------- hostile


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/agents/chat/%20", 400),
        ("/agents/chat/%00", 400),
        ("/agents/chat/%FF", 400),
        ("/agents/chat/" + "x" * 600, 400),
        ("/agents/chat/a%2Fb", 200),
        ("/agents/chat/%2e%2e", 200),
        ("/agents/chat/%E2%9C%93%20%25", 200),
        ("/agents/chat/", 404),
        ("/agents//ann", 404),
        ("/agents/../agents/chat/ann", 404),
    ],
)
async def test_hostile_instance_ids_are_refused_or_are_just_names(cloud: Site, path: str, status: int) -> None:
    model().add("Good morning.")
    await cloud.deploy_project({"agents/chat.py": CHAT})
    answer = await cloud.call("POST", path, json={"message": "Hello"})
    assert answer.status == status, answer.body
    assert len(cloud.names("Chat")) == (status == 200)


@pytest.mark.parametrize("run_id", ["x", "workflow:steps:0", "run_0", "%00", "a%2Fb", "x" * 600])
async def test_a_run_that_nobody_started_wakes_no_object_of_a_workflow(cloud: Site, run_id: str) -> None:
    await cloud.deploy_project({"workflows/show.py": WORKFLOW})
    for method, path in (("GET", ""), ("GET", "/events"), ("GET", "/stream"), ("POST", "/abort")):
        answer = await cloud.call(method, f"/runs/{run_id}{path}")
        assert answer.status in (400, 404), answer.body
    assert cloud.names("FLUE_WORKFLOW_SHOW") == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/agents/chat/ann", 405),
        ("HEAD", "/openapi.json", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/runs", 404),
        ("GET", "/", 404),
    ],
)
async def test_what_needs_no_object_is_answered_by_the_worker(cloud: Site, method: str, path: str, status: int) -> None:
    await cloud.deploy_project({"agents/chat.py": CHAT})
    answer = await cloud.call(method, path)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert (answer.body == b"") == (method == "HEAD")
    assert cloud.names("Chat") == []


async def test_an_agent_that_nothing_is_bound_to_is_not_there(cloud: Site) -> None:
    await cloud.deploy_project({"agents/chat.py": CHAT})
    del vars(cloud.env)["Chat"]
    answer = await cloud.call("POST", "/agents/chat/ann", json={"message": "Hello"})
    assert (answer.status, answer.json["error"]["type"]) == (404, "route_not_found")
    assert (await cloud.call("GET", "/agents/chat/ann", headers=UPGRADE)).status == 404


async def test_an_object_that_cannot_be_reached_is_a_503_that_gives_nothing_away(cloud: Site) -> None:
    await cloud.deploy_project({"agents/chat.py": CHAT})
    cloud.unreachable["Chat"] = "the secret is s3cret"
    answer = await cloud.call("POST", "/agents/chat/ann", json={"message": "Hello"})
    assert (answer.status, answer.json["error"]["type"]) == (503, "object_unreachable")
    assert b"s3cret" not in answer.body


async def test_prompts_to_one_instance_are_answered_in_order_and_instances_beside_each_other(cloud: Site) -> None:
    gates = {"one": asyncio.Event()}

    async def first(request: Any) -> str:
        await gates["one"].wait()
        return "first"

    model().add(first, "third", "second")
    await cloud.deploy_project({"agents/clerk.py": CLERK})
    one = asyncio.create_task(cloud.call("POST", "/agents/clerk/ann", json={"message": "1"}))
    await the_submission(cloud, "ann")
    two = asyncio.create_task(cloud.call("POST", "/agents/clerk/ann", json={"message": "2"}))
    other = await cloud.call("POST", "/agents/clerk/bob", json={"message": "3"})
    assert other.json["result"]["text"] == "third"
    assert not one.done()
    busy = await cloud.call("POST", "/agents/clerk/ann?busy=reject", json={"message": "4"})
    assert busy.status == 400
    gates["one"].set()
    assert [(await each).json["result"]["text"] for each in (one, two)] == ["first", "second"]


async def test_concurrent_first_requests_start_one_engine(cloud: Site) -> None:
    model().add(*["Good morning."] * 8)
    await cloud.deploy_project({"agents/clerk.py": CLERK})
    asking = [cloud.call("POST", "/agents/clerk/ann", json={"message": str(n), "session": str(n)}) for n in range(8)]
    assert [answer.status for answer in await asyncio.gather(*asking)] == [200] * 8
    place = cloud.agent("clerk", "ann")
    owners = place.disk.inner.execute("SELECT owner FROM flue_owners").fetchall()
    assert (len(owners), place.lives) == (1, 1)
