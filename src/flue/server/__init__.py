"""Agents, workflows and runs over HTTP: ASGI applications, their routes, server-sent events and OpenAPI.

A request's way: `app` finds the route, `middleware` runs the module's own, a handler (`workflows`, `agents`, `runs`,
`submissions`, `trusted`, `admin`) asks the engine, which `application` starts when it is first needed.
"""

from __future__ import annotations

from flue.server.app import FlueApp, default_app
from flue.server.application import Application, application_of

__all__ = ["Application", "FlueApp", "application_of", "default_app"]
