"""The ASGI application of the dev page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flue.host import SystemIds
from flue.server.application import Application
from flue.server.body import DEFAULT_LIMIT, Body
from flue.server.call import Call, json_response
from flue.server.page.api import ROUTES
from flue.server.page.files import page_files
from flue.server.problems import Problem, method_not_allowed, problem_of, route_not_found

PREFIX = "/_flue"
# Scripts and styles of this server only, none in the document, and no text that becomes markup. Images also as data:
# a conversation may hold some.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_versions: WeakKeyDictionary[Application, str] = WeakKeyDictionary()


def page(application: Application | None, problem: Callable[[], str | None]) -> ASGIApp:
    """Return what answers below `/_flue/`: the dev page of an application, None while there is none yet.

    `problem` says why the project's newest code is not the one that is served, None when it is. Making one is cheap;
    when the project is loaded anew, make another: open pages notice, and show what has changed.

    Requests that change something need an `Origin` that is the address they are sent to. That `Host` is a name of this
    machine is for the application around it to see to.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _refuse_socket(receive, send)
            return
        response: ASGIApp
        try:
            response = await _answer(scope, receive, application, problem)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001 - logged where it is not the client's own
            response = problem_of(error).response(local=True)
        await response(scope, receive, _guarded(send))

    return app


async def _answer(
    scope: Scope, receive: Receive, application: Application | None, problem: Callable[[], str | None]
) -> Response:
    path, headers = _path(scope), Headers(scope=scope)
    if not path:
        return RedirectResponse(f"{PREFIX}/")
    if scope["method"] not in ("GET", "HEAD"):
        _check_origin(headers)
    elif path in page_files():
        return page_files()[path].response(headers)
    if path == "/api/status":
        return json_response({"version": _version(application), "problem": problem()})
    if path in page_files():
        raise method_not_allowed(scope["method"], "GET")
    match = ROUTES.find({**scope, "root_path": scope["path"].removesuffix(path)})
    if match is None:
        raise route_not_found(scope["method"], scope["path"])
    if application is None:
        raise Problem(503, "project_not_loaded", "The project is not loaded.", problem() or "Try again in a moment.")
    body = Body(headers, receive, DEFAULT_LIMIT)
    call = Call(application, Request(scope, body.receive), body, True)
    return await match.handler(call, *match.parameters)


def _path(scope: Scope) -> str:
    """Return the path below the prefix, whether or not the application around it has taken that off."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if root.endswith(PREFIX) else path.removeprefix(f"{root}{PREFIX}")


def _check_origin(headers: Headers) -> None:
    """Raise `Problem` unless the browser says that a page of this very address sends the request."""
    host, origin = headers.get("host"), headers.get("origin", "")
    if not host or origin not in (f"http://{host}", f"https://{host}"):
        raise Problem(
            403, "origin_not_allowed", "Only the dev page itself may do this.", "Its Origin must be its Host."
        )


def _version(application: Application | None) -> str:
    """Return a name for what is served, which no other version has, now or after a restart."""
    if application is None:
        return ""
    return _versions.setdefault(application, SystemIds().ulid())


def _guarded(send: Send) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(_HEADERS)
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return guarded


async def _refuse_socket(receive: Receive, send: Send) -> None:
    await receive()
    close: dict[str, Any] = {"type": "websocket.close", "code": 1008}
    await send(close)
