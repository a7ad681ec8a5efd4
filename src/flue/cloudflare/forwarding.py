"""The Worker's part of the HTTP surface: the paths of a server, each answered by the object that owns what it names.

Exposure, middleware, tokens and what is not found are decided here, by the functions that decide it in a server. Then
the client's own request goes on to the object.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from flue.cloudflare.asking import ASK, BODY_LIMIT, FORWARDED, ROOT_PATH, named, unreachable
from flue.cloudflare.isolate import Isolate
from flue.cloudflare.names import DurableClass
from flue.cloudflare.platform import js_bindings, js_http
from flue.cloudflare.platform.asgi import NATIVE, REQUEST, Offer
from flue.cloudflare.platform.js_http import Request
from flue.cloudflare.registry.client import Pointer, find_run, list_runs
from flue.project.modules import Exposure
from flue.server import admin, openapi
from flue.server.agents import exposed_agent
from flue.server.application import Application
from flue.server.call import Call, check_id
from flue.server.problems import route_not_found, run_not_found
from flue.server.routing import Routes, Tables
from flue.server.runs import behind_runs, exposure_of_run
from flue.server.submissions import behind_agent
from flue.server.trusted import check_trusted
from flue.server.upgrades import Serve, agent_exposure, refuse, workflow_exposure
from flue.server.workflows import RUN_ID, exposed_workflow, mode_of

Handler = Callable[..., Awaitable[Response]]
_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_AGENT = "/agents/{name}/{id}"
_SUBMISSION = f"{_AGENT}/submissions/{{submissionId}}"


class Forwarding:
    """The handlers of one isolate's Worker."""

    def __init__(self, isolate: Isolate) -> None:
        self._isolate = isolate

    @property
    def tables(self) -> Tables:
        """Return what answers at which path."""
        public: Routes[Handler] = Routes(
            [
                ("/workflows/{name}", {"POST": self.start_workflow}),
                (_AGENT, {"POST": self.ask_agent}),
                (f"{_AGENT}/stream", {"GET": self.of_agent}),
                (_SUBMISSION, {"GET": self.of_agent}),
                (f"{_SUBMISSION}/events", {"GET": self.of_agent}),
                (f"{_SUBMISSION}/stream", {"GET": self.of_agent}),
                (f"{_SUBMISSION}/abort", {"POST": self.of_agent}),
                (f"{_AGENT}/approvals/{{toolCallId}}", {"POST": self.of_agent}),
                (f"{_AGENT}/budget", {"POST": self.trusted}),
                (f"{_AGENT}/dispatch", {"POST": self.trusted}),
                ("/runs/{runId}", {"GET": self.read_run}),
                ("/runs/{runId}/events", {"GET": self.read_run}),
                ("/runs/{runId}/events/{name}", {"POST": self.change_run}),
                ("/runs/{runId}/stream", {"GET": self.read_run}),
                ("/runs/{runId}/abort", {"POST": self.change_run}),
                ("/openapi.json", {"GET": openapi.public}),
            ]
        )
        listed: Routes[Handler] = Routes(
            [
                ("/agents", {"GET": admin.agents}),
                ("/runs", {"GET": self.list_runs}),
                ("/runs/{runId}", {"GET": self.show_run}),
                ("/openapi.json", {"GET": openapi.admin}),
            ]
        )
        sockets = Routes([(_AGENT, {"GET": self.agent_socket}), ("/workflows/{name}", {"GET": self.workflow_socket})])
        return Tables(public, sockets, listed)

    # ------------------------------------------------------------------------------------------------ agents

    async def ask_agent(self, call: Call, name: str, id: str) -> Response:
        """Forward a prompt, or what a function agent is to run on."""
        module, exposure = exposed_agent(call, name)
        check_id(id, "agent's instance id")
        headers = {} if module.run is None else {RUN_ID: f"run_{self._isolate.ids.ulid()}"}
        return await call.guarded(exposure, lambda: self._to_agent(call, name, id), failure_headers=headers)

    async def of_agent(self, call: Call, name: str, id: str, *_: str) -> Response:
        """Forward what is asked about an instance, or told to it."""
        return await behind_agent(call, name, id, lambda: self._to_agent(call, name, id))

    async def trusted(self, call: Call, name: str, id: str) -> Response:
        """Forward what only trusted callers may ask for."""
        check_trusted(call, name, id)
        return await self._to_agent(call, name, id)

    async def _to_agent(self, call: Call, name: str, id: str) -> Response:
        return await _forward(call, self._isolate.agent(name), id)

    # ------------------------------------------------------------------------------------------------- runs

    async def start_workflow(self, call: Call, name: str) -> Response:
        """Forward the start of a run to an object of its own."""
        mode_of(call)
        module = exposed_workflow(call, name)
        run_id = self._new_run(name, call.idempotency_key)
        owned = self._isolate.workflow(name)
        return await call.guarded(module.route, lambda: _forward(call, owned, run_id), failure_headers={RUN_ID: run_id})

    def _new_run(self, name: str, key: str | None) -> str:
        """Return the id of a run; the same idempotency key leads to the same object."""
        return f"workflow:{name}:{self._isolate.ids.ulid() if key is None else _digest(f'{name}:{key}')}"

    async def read_run(self, call: Call, run_id: str) -> Response:
        """Forward what is asked about a run."""

        async def work() -> Response:
            return await self._to_owner(call, await _find(run_id))

        return await behind_runs(call, work)

    async def change_run(self, call: Call, run_id: str, *_: str) -> Response:
        """Forward what changes a run, if the middleware of its workflow or agent lets it pass, too."""

        async def inner() -> Response:
            found = await _find(run_id)
            return await call.guarded(exposure_of_run(call, found.run), lambda: self._to_owner(call, found))

        return await behind_runs(call, inner)

    async def list_runs(self, call: Call) -> Response:
        """List a page of runs; the registry knows them."""
        return await admin.list_page(call, list_runs)

    async def show_run(self, call: Call, run_id: str) -> Response:
        """Forward what an administrator asks about a run."""
        return await self._to_owner(call, await _find(run_id))

    async def _to_owner(self, call: Call, found: Pointer) -> Response:
        find = self._isolate.workflow if found.run.kind == "workflow" else self._isolate.agent
        return await _forward(call, find(found.run.target), found.object)

    # ---------------------------------------------------------------------------------------------- sockets

    async def agent_socket(self, application: Application, parameters: tuple[str, ...]) -> tuple[Exposure, Serve]:
        """Find the socket of an agent's instance."""
        name, id = parameters
        owned = self._isolate.agent(name)
        return agent_exposure(application, name, id), lambda websocket: _hand_over(websocket, owned, id)

    async def workflow_socket(self, application: Application, parameters: tuple[str, ...]) -> tuple[Exposure, Serve]:
        """Find the socket of a workflow: that of an object for the run that it will start."""
        (name,) = parameters
        owned, run_id = self._isolate.workflow(name), self._new_run(name, None)
        return workflow_exposure(application, name), lambda websocket: _hand_over(websocket, owned, run_id)


async def _find(run_id: str) -> Pointer:
    found = await find_run(run_id)
    if found is None:
        raise run_not_found(run_id)
    return found


def _digest(text: str) -> str:
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")
    return "".join(_DIGITS[number >> shift & 31] for shift in range(125, -1, -5))


# ------------------------------------------------------------------------------------------------------ forwarding


async def _forward(call: Call, owned: DurableClass | None, name: str) -> Response:
    if owned is None:
        raise route_not_found(call.request.method, call.request.url.path)
    call.body.check_announced()
    request = _native(call.request.scope)
    body = await call.body.read() if request.body_used else None
    headers = _headers(call.request.scope, name) | {BODY_LIMIT: str(call.body.limit)}
    response = await _ask(owned, name, request.forwarded(_address(call.request.scope, request), headers, body))
    if response.content_type.startswith("text/event-stream"):
        return _Streamed(response)
    answer = Response(await response.read(), response.status)
    answer.raw_headers += _raw_headers(response)
    return answer


async def _hand_over(websocket: WebSocket, owned: DurableClass | None, name: str) -> None:
    if owned is None:
        await refuse(websocket, 404)
        return
    request = _native(websocket.scope)
    headers = _headers(websocket.scope, name)
    response = await _ask(owned, name, request.forwarded(_address(websocket.scope, request), headers))
    if response.status == 101:
        await websocket.send({"type": "websocket.accept", NATIVE: response.native})
    else:
        await refuse(websocket, response.status)


async def _ask(owned: DurableClass, name: str, request: Request) -> js_http.Response:
    try:
        return await js_bindings.ask(owned.binding, name, request)
    except ConnectionError as error:
        raise unreachable(owned.class_name, name, str(error)) from error


def _native(scope: Scope) -> Request:
    request: Request = scope[REQUEST]
    return request


def _headers(scope: Scope, name: str) -> dict[str, str]:
    return {ASK: FORWARDED, ROOT_PATH: quote(scope.get("root_path", "")), **named(name)}


def _address(scope: Scope, request: Request) -> str:
    """Return where the request goes as the application sees it: one in front may have rewritten the path."""
    url = urlsplit(request.url)
    path = url.path if unquote(url.path) == scope["path"] else quote(scope["path"])
    query: bytes = scope["query_string"]
    return urlunsplit((url.scheme, url.netloc, path, query.decode("latin-1"), ""))


def _raw_headers(response: js_http.Response) -> list[tuple[bytes, bytes]]:
    return [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, value in response.headers
        if name not in ("content-length", "transfer-encoding")
    ]


class _Streamed(Response):
    """A stream of events that an object sends: handed over as it is, unless middleware wants to see it."""

    def __init__(self, response: js_http.Response) -> None:
        super().__init__(status_code=response.status)
        self.raw_headers = _raw_headers(response)
        self._response = response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        offer = Offer(self._response)
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers, NATIVE: offer}
        await send(start)
        offer.open = False
        if not offer.taken and scope["method"] != "HEAD":
            async for chunk in self._response.chunks():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
