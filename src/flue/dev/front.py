"""What stands before the project in development: only this machine's browsers get in, and the dev page has its place.

On a developer's machine every page that the browser shows can send requests to this server, and a name that an attacker
controls may lead here (DNS rebinding). So `Host` must be an address, a name of this machine, or one that was allowed;
an `Origin`, which browsers send with everything that could change something, must be too. The dev page below `/_flue`
shows conversations: it answers under this machine's own names and the server's port only.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flue.dev.live import Live
from flue.server.problems import Problem

PAGE = "/_flue"


class Front:
    """An ASGI application around a project in development. `port` is the server's, `page` the dev page."""

    def __init__(self, live: Live, port: int, page: ASGIApp, *, allowed: Collection[str] = ()) -> None:
        self._live = live
        self._port = port
        self._page = page
        self._allowed = {name.lower() for name in allowed}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an ASGI connection."""
        refusal = self._refusal(Headers(scope=scope), page=_is_page(scope["path"]))
        if refusal is not None:
            await _answer(refusal, scope, receive, send)
        elif scope["path"] == PAGE:
            await _redirect(scope, receive, send)
        elif _is_page(scope["path"]):
            await self._page({**scope, "root_path": f"{scope.get('root_path', '')}{PAGE}"}, receive, send)
        elif self._live.site.version is None:
            await _answer(self._not_loaded(), scope, receive, send)
        elif scope["type"] == "http" and scope["path"] == "/" and scope["method"] in ("GET", "HEAD"):
            await _PageUnlessRouted(scope, receive, send)(self._live.site)
        else:
            await self._live.site(scope, receive, send)

    def _refusal(self, headers: Headers, *, page: bool) -> Problem | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not (self._is_ours(host) if page else self._is_allowed(host)):
            hint = "" if page else " Start flue dev with --allow-host to let a name in."
            return Problem(403, "host_not_allowed", "The server does not answer under this name.", hint.strip())
        if origin is not None:
            address = urlsplit_or_none(origin)
            if address is None or not (self._is_ours(address) if page else self._is_allowed(address)):
                return Problem(403, "origin_not_allowed", "Pages of other sites may not use this server.")
        return None

    def _is_ours(self, host: str) -> bool:
        name, port = split_host(host)
        return is_this_machine(name) and port == (None if self._port == 80 else self._port)

    def _is_allowed(self, host: str) -> bool:
        name, _ = split_host(host)
        return is_this_machine(name) or _is_address(name) or name in self._allowed

    def _not_loaded(self) -> Problem:
        trouble = self._live.trouble
        message = "The project is being loaded." if trouble is None else trouble.message
        hint = "Try again in a moment." if trouble is None else trouble.hint
        return Problem(503, "project_not_loaded", message, hint)


class _PageUnlessRouted:
    """Sends the browser to the dev page when the project knows nothing at this address."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._missing = False

    async def __call__(self, app: ASGIApp) -> None:
        await app(self._scope, self._receive, self._pass_on)
        if self._missing:
            await _redirect(self._scope, self._receive, self._send)

    async def _pass_on(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 404:
            self._missing = True
        if not self._missing:
            await self._send(message)


def split_host(host: str) -> tuple[str, int | None]:
    """Return name and port of an authority, in lower case and without brackets; an empty name when it is none."""
    try:
        parts = urlsplit(f"//{host}")
        name, port = parts.hostname, parts.port
    except ValueError:
        return "", None
    return ("" if name is None or parts.netloc != host or "@" in host else name), port


def urlsplit_or_none(origin: str) -> str | None:
    """Return the authority of an `http:` or `https:` origin."""
    for scheme in ("http://", "https://"):
        if origin.startswith(scheme):
            return origin.removeprefix(scheme)
    return None


def is_this_machine(name: str) -> bool:
    """Say whether a name always means the machine itself (RFC 6761, 6.3)."""
    return name in ("localhost", "127.0.0.1", "::1") or name.endswith(".localhost")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_page(path: str) -> bool:
    return path == PAGE or path.startswith(f"{PAGE}/")


async def _redirect(scope: Scope, receive: Receive, send: Send) -> None:
    await RedirectResponse(f"{PAGE}/", headers={"cache-control": "no-store"})(scope, receive, send)


async def _answer(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await problem.response(local=True)(scope, receive, send)
    else:
        await send({"type": "websocket.http.response.start", "status": problem.status, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b""})
