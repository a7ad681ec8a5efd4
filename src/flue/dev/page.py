"""The dev page of a project in development: of the version that is served at the moment."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from flue.dev.live import Live
from flue.server.page.app import page as page_of


def page(live: Live) -> ASGIApp:
    """Return what answers below `/_flue/`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        version = live.site.version
        answer = page_of(None if version is None else version.application, lambda: _problem(live))
        await answer(scope, receive, send)

    return app


def _problem(live: Live) -> str | None:
    trouble = live.trouble
    if trouble is None:
        return None
    return " ".join(filter(None, (trouble.message, trouble.hint, f"[{trouble.code}]")))
