"""Everything is below /api, and asks for a token first: agents and workflows, over HTTP and over WebSockets.

Browsers cannot give a WebSocket a header, so a handshake may have the token in its query. On Cloudflare that is asked
once, in the Worker: what follows on the socket goes straight to the agent's object.
"""

import hmac

from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

import flue
from flue.cloudflare import get_cloudflare_context


class Guarded:
    """Lets through who has the token."""

    def __init__(self, inner: ASGIApp) -> None:
        self.inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = HTTPConnection(scope)
        given = connection.headers.get("authorization", "").removeprefix("Bearer ")
        if scope["type"] == "websocket":
            given = given or connection.query_params.get("token", "")
        expected = get_cloudflare_context().env.get("CHAT_TOKEN", "")
        if expected and hmac.compare_digest(given.encode(), expected.encode()):
            await self.inner(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 4401, "reason": "Who are you?"})
        else:
            await JSONResponse({"error": "Who are you?"}, status_code=401)(scope, receive, send)


async def hello(_: object) -> PlainTextResponse:
    return PlainTextResponse("The chat is at /api/agents/chat/<customer>.\n")


app = Starlette(routes=[Route("/", hello), Mount("/api", Guarded(flue.asgi()))])
