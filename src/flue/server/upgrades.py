"""WebSocket handshakes: which socket it is for, whether it is open, and what the module's middleware says.

A handshake that is refused is answered with a plain status and no body. One that passes goes to `flue.server.sockets`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope
from starlette.websockets import WebSocket

from flue.project.modules import Exposure
from flue.server.application import Application
from flue.server.call import check_id
from flue.server.middleware import through
from flue.server.problems import Problem, problem_of
from flue.server.routing import Routes

Serve = Callable[[WebSocket], Awaitable[None]]
Handshake = Callable[[Application, tuple[str, ...]], Awaitable[tuple[Exposure, Serve]]]


async def upgrade(application: Application, routes: Routes[Handshake], websocket: WebSocket) -> None:
    """Answer a handshake, and serve the socket if it is accepted."""
    try:
        match = routes.find({**websocket.scope, "method": "GET"})
        if match is None:
            raise _not_found()
        exposure, serve = await match.handler(application, match.parameters)
        if not await _passes(exposure, websocket):
            return
    except HTTPException as refusal:
        await refuse(websocket, refusal.status_code)
        return
    except Exception as error:  # noqa: BLE001 - logged where it is not the client's own
        await refuse(websocket, problem_of(error).status)
        return
    await serve(websocket)


async def agent(application: Application, parameters: tuple[str, ...]) -> tuple[Exposure, Serve]:
    """Find the socket of an agent's instance."""
    from flue.server.sockets.asgi import serve_agent_socket

    name, id = parameters
    exposure = agent_exposure(application, name, id)
    service = await application.service()
    local = application.local
    return exposure, lambda websocket: serve_agent_socket(websocket, service, name, id, local=local)


async def workflow(application: Application, parameters: tuple[str, ...]) -> tuple[Exposure, Serve]:
    """Find the socket of a workflow."""
    from flue.server.sockets.asgi import serve_workflow_socket

    (name,) = parameters
    exposure = workflow_exposure(application, name)
    service = await application.service()
    local = application.local
    return exposure, lambda websocket: serve_workflow_socket(websocket, service, name, local=local)


def agent_exposure(application: Application, name: str, id: str) -> Exposure:
    """Return how an agent's socket is reached. Raises `Problem`: 404 when it is not, 400 for a wrong instance id."""
    module = application.served.agents.get(name)
    if module is None or module.agent is None or module.websocket is None:
        raise _not_found()
    check_id(id, "agent's instance id")
    return module.websocket


def workflow_exposure(application: Application, name: str) -> Exposure:
    """Return how a workflow's socket is reached. Raises `Problem` (404) when it is not."""
    module = application.served.workflows.get(name)
    if module is None or module.websocket is None:
        raise _not_found()
    return module.websocket


SOCKETS: Routes[Handshake] = Routes([("/agents/{name}/{id}", {"GET": agent}), ("/workflows/{name}", {"GET": workflow})])


async def _passes(exposure: Exposure, websocket: WebSocket) -> bool:
    """Say whether the middleware let the handshake pass; if not, it has been answered."""
    accepted = Response(status_code=101)

    async def accept() -> Response:
        return accepted

    request = Request(_as_http(websocket.scope))
    answer = await through(exposure, request, accept)
    if answer is accepted:
        return True
    await refuse(websocket, answer.status_code)
    return False


def _as_http(scope: Scope) -> Scope:
    # Middleware for sockets is written like that for requests.
    scheme = "https" if scope.get("scheme") == "wss" else "http"
    return {**scope, "type": "http", "method": "GET", "scheme": scheme}


async def refuse(websocket: WebSocket, status: int) -> None:
    """Answer a handshake with a plain status."""
    if "websocket.http.response" in websocket.scope.get("extensions", {}):
        headers = {"content-length": "0", "connection": "close"}
        await websocket.send_denial_response(Response(status_code=status, headers=headers))
    else:
        await websocket.receive()
        await websocket.close()


def _not_found() -> Problem:
    return Problem(404, "route_not_found", "There is no such socket.")
