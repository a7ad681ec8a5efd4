"""`/runs/:runId`: what is kept of a run, its events, and what can still be done about it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.responses import Response

from flue.durable.records import Run
from flue.engine.wire_records import run_record
from flue.project.modules import Exposure
from flue.server.agents import exposed_agent
from flue.server.call import Call, check_id, frames_of, json_response, spliced
from flue.server.problems import invalid_request, route_not_found, run_not_found
from flue.server.queries import after_of, last_event_id, limit_of, types_of
from flue.server.workflows import exposed_workflow

Work = Callable[[], Awaitable[Response]]


async def get(call: Call, run_id: str) -> Response:
    """Return a run's record."""

    async def work() -> Response:
        run = await _run(call, run_id)
        return json_response(run_record(run, redacted=(await call.service()).log_settings.redacted))

    return await behind_runs(call, work)


async def events(call: Call, run_id: str) -> Response:
    """Return a page of a run's events; go on with `after=` the last one's index."""
    after, types, limit = after_of(call.request), types_of(call.request), limit_of(call.request)

    async def work() -> Response:
        await _run(call, run_id)
        service = await call.service()
        page = await service.log.read(run_id, after=after, types=types, limit=limit)
        return spliced(f'{{"events":[{",".join(event.data for event in page)}]}}')

    return await behind_runs(call, work)


async def stream(call: Call, run_id: str) -> Response:
    """Stream a run's events from the start, or after `Last-Event-ID`, until it has ended."""

    async def work() -> Response:
        await _run(call, run_id)
        service = await call.service()
        log = service.log.follow(run_id, after=last_event_id(call.request))
        return call.stream(frames_of(log), call.run_failure)

    return await behind_runs(call, work)


async def abort(call: Call, run_id: str) -> Response:
    """Abort a run: 202 while it is still ending, 200 when it has. What has ended stays as it is."""

    async def work() -> Response:
        reason = abort_reason(await call.body.json())
        service = await call.service()
        if await service.abort(run_id, reason) is None:
            raise run_not_found(run_id)
        run = await _run(call, run_id)
        record = run_record(run, redacted=service.log_settings.redacted)
        return json_response(record, 200 if run.ended_at is not None else 202)

    return await _behind_own(call, run_id, work)


async def send_event(call: Call, run_id: str, name: str) -> Response:
    """Give a run the event that it waits for, or will wait for; the body is its payload."""
    check_id(name, "event's name")

    async def work() -> Response:
        payload = await call.body.json()
        service = await call.service()
        await service.send_event(run_id, name, payload, id=call.idempotency_key)
        return json_response({"status": "accepted"}, 202)

    return await _behind_own(call, run_id, work)


def abort_reason(body: object) -> str:
    """Return why something is aborted, from a JSON body. Raises `Problem` (400)."""
    reason = body.get("reason", "Aborted over HTTP.") if isinstance(body, dict) else None
    if not isinstance(reason, str):
        raise invalid_request("The body must be a JSON object; its `reason`, if there is one, text.")
    return reason


async def _run(call: Call, run_id: str) -> Run:
    run = await (await call.service()).get_run(run_id)
    if run is None:
        raise run_not_found(run_id)
    return run


async def behind_runs(call: Call, work: Work) -> Response:
    """Return the answer of `work` if runs are exposed, and their middleware lets it pass."""
    if call.runs is None:
        raise route_not_found(call.request.method, call.request.url.path)
    return await call.guarded(call.runs, work)


async def _behind_own(call: Call, run_id: str, work: Work) -> Response:
    """Have what changes a run pass the middleware of its workflow or agent, too."""

    async def inner() -> Response:
        return await call.guarded(exposure_of_run(call, await _run(call, run_id)), work)

    return await behind_runs(call, inner)


def exposure_of_run(call: Call, run: Run) -> Exposure:
    """Return how the workflow or the agent of a run is reached. Raises `Problem` (404) when it is not."""
    if run.kind == "agent":
        return exposed_agent(call, run.target)[1]
    return exposed_workflow(call, run.target).route
