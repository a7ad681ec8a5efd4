"""`POST /workflows/:name`: start a run, and wait for nothing, its result or its events."""

from __future__ import annotations

from typing import Literal

from starlette.responses import Response

from flue.durable.records import Outcome
from flue.engine.service import Ticket
from flue.project.modules import WorkflowModule
from flue.server.call import Call, frames_of, json_response, spliced
from flue.server.json_text import text_of
from flue.server.problems import Problem, internal_error, validation_failed, workflow_not_found, workflow_not_http

Mode = Literal["accepted", "result", "stream"]
RUN_ID = "X-Flue-Run-Id"


async def start(call: Call, name: str) -> Response:
    """Start a run of a workflow. The run is recorded before it begins, and goes on when the client leaves."""
    mode = mode_of(call)
    module = exposed_workflow(call, name)
    # Chosen here: a request that fails before there is a run is answered with an id all the same, as clients expect it.
    run_id = call.application.run_id or f"workflow:{name}:{call.application.ids.ulid()}"

    async def work() -> Response:
        payload = await call.body.json()
        service = await call.service()
        key, request = call.idempotency_key, call.replay()
        ticket = await service.start_workflow(name, payload, key=key, request=request, run_id=run_id)
        return await answer(call, ticket, mode)

    return await call.guarded(module.route, work, failure_headers={RUN_ID: run_id})


def exposed_workflow(call: Call, name: str) -> WorkflowModule:
    """Return a workflow that is reachable over HTTP. Raises `Problem` (404)."""
    known = call.application.served.workflows
    module = known.get(name)
    if module is None:
        raise workflow_not_found(name, known)
    if module.route is None:
        raise workflow_not_http(name)
    return module


async def answer(call: Call, ticket: Ticket, mode: Mode) -> Response:
    """Return what the client asked to see of a run: its result, its events, or that it was accepted."""
    headers = {RUN_ID: ticket.id}
    if mode == "result":
        try:
            result = result_of(await call.awaited(ticket.outcome()))
        except Problem as problem:
            problem.headers.update(headers)
            return call.failed(problem)
        return spliced(f'{{"result":{result},"_meta":{{"runId":{text_of(ticket.id)}}}}}', 200, headers)
    if mode == "stream":
        response = call.stream(frames_of(ticket.events()), call.run_failure)
        response.headers.update(headers)
        return response
    return json_response({"status": "accepted", "runId": ticket.id}, 202, headers)


def result_of(outcome: Outcome) -> str:
    """Return the JSON text of a result. Raises `Problem`: what went wrong inside is not the client's to know."""
    if outcome.kind == "aborted":
        raise Problem(409, "aborted", "The work was aborted.", "Somebody asked for it while it was waiting or running.")
    if outcome.kind == "failed":
        raise internal_error()
    return outcome.result or "null"


def mode_of(call: Call) -> Mode:
    """Return what the client waits for. Raises `Problem` (400) for another `wait` than "result"."""
    wait = call.request.query_params.get("wait")
    if wait not in {None, "result"}:
        raise validation_failed("query", [("wait", 'Expected "result".')])
    if wait is not None:
        return "result"
    return "stream" if call.wants_stream else "accepted"
