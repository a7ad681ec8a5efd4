"""The OpenAPI 3.1 descriptions that the server gives of itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from starlette.responses import Response

from flue import __version__
from flue.messages import Json
from flue.server import schemas
from flue.server.call import Call, json_response
from flue.server.queries import MAX_PAGE, event_types

_FAILURES = {
    "400": "The request is not in order.",
    "404": "There is nothing of this name, or it is not reachable over HTTP.",
    "405": "Another method is needed; `Allow` names it.",
    "409": "It cannot be done as things stand.",
    "413": "The body is too large.",
    "415": "The body is not JSON.",
    "500": "Something went wrong on the server.",
    "501": "This deployment keeps no runs.",
    "503": "The server is about to end; try again.",
}
_STREAM = "Server-sent events: `event` is the type, `id` the index, `data` the event as JSON on one line."
_DIGITS = {"type": "string", "pattern": "^[0-9]+$"}


async def public(call: Call) -> Response:
    """Return the description of `flue.asgi()`."""
    return json_response(_public())


async def admin(call: Call) -> Response:
    """Return the description of `flue.admin()`."""
    return json_response(_admin())


@cache
def _public() -> Json:
    agent, run = "/agents/{name}/{id}", "/runs/{runId}"
    submission = f"{agent}/submissions/{{submissionId}}"
    paths = {
        "/workflows/{name}": {"post": _invoke_workflow()},
        agent: {"post": _invoke_agent()},
        f"{agent}/stream": {"get": _stream("streamAgent", "Follow all that an agent's instance does", _AFTER_PLACE)},
        submission: {"get": _op("getSubmission", "What became of a prompt or dispatch", {"200": schemas.SUBMISSION})},
        f"{submission}/events": {"get": _event_page("listSubmissionEvents", "The events of a prompt or dispatch")},
        f"{submission}/stream": {"get": _stream("streamSubmissionEvents", "Follow a prompt or dispatch", _LAST_ID)},
        f"{submission}/abort": {
            "post": _op(
                "abortSubmission",
                "Abort a prompt or dispatch",
                {"200": schemas.SUBMISSION, "202": schemas.SUBMISSION},
                body=schemas.ABORT,
            )
        },
        f"{agent}/approvals/{{toolCallId}}": {
            "post": _op(
                "decideApproval",
                "Approve or refuse a tool call",
                {
                    "202": schemas.object_of(
                        {"status": schemas.TEXT, "toolCallId": schemas.TEXT, "approved": schemas.BOOLEAN}
                    )
                },
                body=schemas.DECISION,
                required=True,
            )
        },
        f"{agent}/budget": {
            "post": _trusted("raiseBudget", "Give a session a larger budget", schemas.ACCEPTED, schemas.BUDGET)
        },
        f"{agent}/dispatch": {
            "post": _trusted("dispatchAgent", "Give an agent work", schemas.DISPATCHED, schemas.DISPATCH)
        },
        run: {"get": _op("getRun", "A run's record", {"200": schemas.RUN})},
        f"{run}/events": {"get": _event_page("listRunEvents", "The events of a run")},
        f"{run}/events/{{name}}": {
            "post": _op(
                "sendRunEvent",
                "Send an event to a workflow that waits for it",
                {"202": schemas.ACCEPTED},
                body=schemas.ANYTHING,
                parameters=(_IDEMPOTENCY,),
            )
        },
        f"{run}/stream": {"get": _stream("streamRunEvents", "Follow a run", _LAST_ID)},
        f"{run}/abort": {
            "post": _op("abortRun", "Abort a run", {"200": schemas.RUN, "202": schemas.RUN}, body=schemas.ABORT)
        },
    }
    return _document("Flue Public API", "Talk to agents, start workflows, follow runs.", paths)


@cache
def _admin() -> Json:
    statuses = {"type": "string", "enum": ["active", "completed", "errored"]}
    listing = _op(
        "listRuns",
        "Runs, newest first",
        {"200": schemas.RUNS},
        parameters=(
            _query("status", statuses),
            _query("workflowName", schemas.NAME),
            _query("cursor", schemas.TEXT),
            _LIMIT,
        ),
    )
    paths = {
        "/agents": {"get": _op("listAgents", "All agents and how they are reached", {"200": schemas.AGENTS})},
        "/runs": {"get": listing},
        "/runs/{runId}": {"get": _op("getAdminRun", "A run's record", {"200": schemas.RUN})},
    }
    return _document("Flue Admin API", "Lists agents and runs.", paths)


def _document(title: str, description: str, paths: Mapping[str, Mapping[str, Json]]) -> Json:
    for path, operations in paths.items():
        names = re.findall(r"\{(\w+)\}", path)
        for operation in operations.values():
            operation["tags"] = [path.split("/")[1]]
            operation["parameters"] = [
                *({"in": "path", "name": name, "schema": schemas.NAME, "required": True} for name in names),
                *operation["parameters"],
            ]
    info = {"title": title, "description": description, "version": __version__}
    return {"openapi": "3.1.0", "info": info, "servers": [], "paths": paths, "components": {}}


def _op(
    id: str,
    summary: str,
    answers: Mapping[str, Json],
    *,
    body: Json | None = None,
    required: bool = False,
    parameters: tuple[Json, ...] = (),
) -> Json:
    described = {status: {"description": summary, "content": _json(schema)} for status, schema in answers.items()}
    failures = {status: {"description": text, "content": _json(schemas.ERROR)} for status, text in _FAILURES.items()}
    operation: Json = {"operationId": id, "summary": summary, "parameters": list(parameters)}
    if body is not None:
        operation["requestBody"] = {"required": required, "content": _json(body)}
    operation["responses"] = {**described, **failures}
    return operation


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _query(name: str, schema: Json) -> Json:
    return {"in": "query", "name": name, "schema": schema}


def _header(name: str, description: str) -> Json:
    return {"in": "header", "name": name, "description": description, "schema": {"type": "string", "maxLength": 255}}


_IDEMPOTENCY = _header("Idempotency-Key", "The same key and content are accepted once.")
_LAST_ID = _header("Last-Event-ID", "Go on after this event.")
_AFTER_PLACE = _query("after", {"type": "string", "pattern": "^[0-9]{1,15}-[0-9]{1,15}$"})
_LIMIT = _query("limit", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE})


def _invoke_workflow() -> Json:
    operation = _op(
        "invokeWorkflow",
        "Start a workflow",
        {"200": schemas.WORKFLOW_RESULT, "202": schemas.ACCEPTED_RUN},
        body=schemas.ANYTHING,
        parameters=(_query("wait", {"const": "result"}), _IDEMPOTENCY),
    )
    return _streams_too(operation, ["accepted", "wait-result", "stream"])


def _invoke_agent() -> Json:
    operation = _op(
        "invokeAgent",
        "Say something to an agent",
        {"200": schemas.AGENT_RESULT, "202": {"anyOf": [schemas.WAITING, schemas.ACCEPTED_RUN]}},
        body=schemas.PROMPT,
        required=True,
        parameters=(_query("busy", {"type": "string", "enum": ["queue", "reject"]}), _IDEMPOTENCY),
    )
    return _streams_too(operation, ["sync", "stream"])


def _streams_too(operation: Json, modes: list[str]) -> Json:
    operation["responses"]["200"]["content"]["text/event-stream"] = {
        "schema": {"type": "string", "description": _STREAM}
    }
    operation["x-flue-invocation-modes"] = modes
    operation["x-flue-user-defined"] = True
    return operation


def _event_page(id: str, summary: str) -> Json:
    # One expression for one type and for lists of them.
    types = "|".join(sorted(event_types()))
    listed = {"type": "string", "pattern": f"^({types})(,({types}))*$"}
    parameters = (_query("after", _DIGITS), _query("types", listed), _LIMIT)
    return _op(id, summary, {"200": schemas.EVENTS}, parameters=parameters)


def _stream(id: str, summary: str, *parameters: Json) -> Json:
    operation = _op(id, summary, {}, parameters=parameters)
    operation["responses"]["200"] = {
        "description": summary,
        "content": {"text/event-stream": {"schema": {"type": "string", "description": _STREAM}}},
    }
    operation["x-flue-streaming"] = True
    return operation


def _trusted(id: str, summary: str, answer: Json, body: Json) -> Json:
    operation = _op(id, f"{summary}; needs FLUE_DISPATCH_TOKEN", {"202": answer}, body=body, required=True)
    operation["responses"]["401"] = {"description": "The token is wrong.", "content": _json(schemas.ERROR)}
    return operation
