"""The dev page's place: until there is a page, a list of what the project has."""

from __future__ import annotations

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from flue.dev.live import Live


def page(live: Live) -> ASGIApp:
    """Return what answers below `/_flue/`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        lines = []
        if live.trouble is not None:
            lines.append(f"error: {live.trouble.message} {live.trouble.hint} [{live.trouble.code}]")
        if live.site.version is not None:
            project = live.site.version.project
            lines += [f"agent {name}" for name in project.agents] + [f"workflow {name}" for name in project.workflows]
        await PlainTextResponse("\n".join(lines) + "\n")(scope, receive, send)

    return app
