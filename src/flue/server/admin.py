"""The admin routes: which agents there are, which runs. Not protected by themselves; mount them behind a login."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from starlette.responses import Response

from flue.durable.records import Run, RunQuery, RunStatus
from flue.engine.wire_records import run_pointer, run_record
from flue.events import iso_time
from flue.messages import Json
from flue.project.modules import AgentModule
from flue.server.agents import exposure_of
from flue.server.call import Call, check_id, json_response
from flue.server.json_text import decode, encode
from flue.server.problems import Problem, run_not_found, validation_failed
from flue.server.queries import limit_of

_STATUSES: tuple[RunStatus, ...] = ("active", "completed", "errored")


async def agents(call: Call) -> Response:
    """List all agents with how they are reached."""
    local = call.application.local
    items = [_agent(name, module, local=local) for name, module in sorted(call.application.served.agents.items())]
    return json_response({"items": items})


async def runs(call: Call) -> Response:
    """List a page of runs, newest first."""
    service = await call.service()
    return await list_page(call, service.list_runs)


async def list_page(call: Call, list_runs: Callable[[RunQuery], Awaitable[list[Run]]]) -> Response:
    """List the page that a request asks for; `list_runs` knows the runs."""
    query = call.request.query_params
    limit = limit_of(call.request)
    status = query.get("status")
    if status is not None and status not in _STATUSES:
        raise validation_failed("query", [("status", f"Expected one of: {', '.join(_STATUSES)}.")])
    workflow = query.get("workflowName")
    if workflow is not None:
        check_id(workflow, "workflow's name")
    # One more than asked for tells whether there is another page.
    before = _place(query.get("cursor"))
    found = await list_runs(RunQuery(status=status, target=workflow, limit=limit + 1, before=before))
    page: Json = {"items": [run_pointer(run) for run in found[:limit]]}
    if len(found) > limit:
        page["nextCursor"] = _cursor(found[limit - 1])
    return json_response(page)


async def run(call: Call, run_id: str) -> Response:
    """Return a run's record."""
    found = await (await call.service()).get_run(run_id)
    if found is None:
        raise run_not_found(run_id)
    return json_response(run_record(found))


def _agent(name: str, module: AgentModule, *, local: bool) -> Json:
    transports = {}
    if exposure_of(module, local=local) is not None:
        transports["http"] = True
    if module.websocket is not None and module.agent is not None:
        transports["websocket"] = True
    return {"name": name, "transports": transports, "created": module.agent is not None}


def _cursor(run: Run) -> str:
    return base64.urlsafe_b64encode(encode({"s": iso_time(run.started_at), "r": run.run_id})).rstrip(b"=").decode()


def _place(cursor: str | None) -> tuple[int, str] | None:
    """Return what a cursor says; a malformed one means the first page."""
    if cursor is None:
        return None
    try:
        data = decode(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        started = datetime.fromisoformat(data["s"]).astimezone(UTC)
        return round(started.timestamp() * 1000), check_id(data["r"], "run's id")
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, Problem):
        return None
