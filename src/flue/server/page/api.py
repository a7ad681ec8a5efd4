"""What the dev page asks. It reaches every agent and workflow, with `route` or without."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from starlette.responses import Response

from flue.durable.records import Run, Submission
from flue.engine.admissions import session_lane
from flue.engine.service import Ticket
from flue.engine.wire_records import run_record, submission_record, waiting_for
from flue.errors import DefinitionError
from flue.harness.harness import RESERVED_PREFIX as TASK_PREFIX
from flue.server import admin, runs
from flue.server.call import Call, check_id, json_response
from flue.server.event_stream import frame
from flue.server.json_text import decode, text_of
from flue.server.page import overview, sandboxes
from flue.server.page.conversations import Conversation, listed
from flue.server.page.tail import tail
from flue.server.problems import invalid_request, problem_of, run_not_found, submission_not_found
from flue.server.queries import event_types, last_event_id, types_of
from flue.server.routing import Routes

Handler = Callable[..., Awaitable[Response]]

# Says with each piece all that came before it.
_TOO_MUCH = frozenset({"message_update"})


async def project(call: Call) -> Response:
    """Return the agents and workflows."""
    return json_response(overview.project(call.application.served))


# ------------------------------------------------------------------------------------------------- sessions


async def sessions(call: Call, name: str) -> Response:
    """Return the conversations of an agent, the one that changed last first."""
    return json_response(await listed(await call.service(), name))


async def session(call: Call, name: str, id: str, session: str) -> Response:
    """Return a conversation: the newest entries, or those before `?before=`, and what is under way in it."""
    conversation = Conversation(await call.service(), name, id, session)
    # First what is under way: what has ended meanwhile is then in the conversation.
    under_way = await _work(call, name, id, session)
    page = await conversation.read(before=call.request.query_params.get("before"))
    return json_response({**page, "work": under_way})


async def work(call: Call, name: str, id: str, session: str) -> Response:
    """Return what is under way in a session, first to run first, and its newest entry."""
    leaf = await Conversation(await call.service(), name, id, session).leaf()
    return json_response({"work": await _work(call, name, id, session), "leaf": leaf})


async def prompt(call: Call, name: str, id: str, session: str) -> Response:
    """Accept a message for a session."""
    body = await _object(call)
    message = body.get("message")
    if not isinstance(message, str):
        raise invalid_request("`message` must be text.")
    ticket = await (await call.service()).prompt(name, id, message, session=session, key=call.idempotency_key)
    return json_response({"submissionId": ticket.id, "ahead": ticket.ahead}, 202)


async def decide(call: Call, name: str, id: str, session: str, tool_call_id: str) -> Response:
    """Approve or refuse a tool call that waits for a person."""
    body = await _object(call)
    approved, reason = body.get("approved"), body.get("reason")
    if not isinstance(approved, bool) or not isinstance(reason, str | None):
        raise invalid_request("`approved` must be true or false, `reason` text.")
    service = await call.service()
    await service.decide(name, id, tool_call_id, approved=approved, reason=reason or None, session=session)
    return json_response({"status": "accepted"}, 202)


async def raise_budget(call: Call, name: str, id: str, session: str) -> Response:
    """Let a prompt go on that paused because its budget was used up."""
    budget = await _object(call)
    try:
        await (await call.service()).raise_budget(name, id, budget, session=session)
    except DefinitionError as error:
        raise invalid_request(error.message) from error
    return json_response({"status": "accepted"}, 202)


async def branch(call: Call, name: str, id: str, session: str) -> Response:
    """Copy a conversation up to an entry into a new session."""
    body = await _object(call)
    entry, target = body.get("entryId"), body.get("session")
    if not isinstance(entry, str) or not isinstance(target, str):
        raise invalid_request("`entryId` and `session`, the name of the new one, must be text.")
    conversation = Conversation(await call.service(), name, id, session)
    count = await conversation.branch(entry, target, call.application.clock)
    return json_response({"session": target, "entries": count}, 201)


async def files(call: Call, name: str, id: str, session: str) -> Response:
    """Return a directory or a file of the sandbox that a prompt of the session works in."""
    service = await call.service()
    under_way = await service.store.list_lane(session_lane(name, id, session))
    env = service.sandbox(under_way[0].id) if under_way else None
    if env is None:
        return json_response({"alive": False})
    return json_response(await sandboxes.look(env, call.request.query_params.get("path", ".")))


async def _work(call: Call, name: str, id: str, session: str) -> list[dict[str, Any]]:
    if session.startswith(TASK_PREFIX):
        return []  # what goes on in a task is part of the prompt that gave it
    service = await call.service()
    found = await service.store.list_lane(session_lane(name, id, session))
    return [_submission(submission) for submission in found]


def _submission(submission: Submission) -> dict[str, Any]:
    payload = decode(submission.payload.encode())
    return {**submission_record(submission), "input": payload.get("message", payload.get("input"))}


# ----------------------------------------------------------------------------------------------------- runs


async def run_workflow(call: Call, name: str) -> Response:
    """Start a run of a workflow; the body is its payload. `?unchecked` passes over what `Payload` says."""
    payload = await call.body.json()
    service = await call.service()
    if "unchecked" not in call.request.query_params:
        overview.check_payload(call.application.served.workflows.get(name), payload)
    return _started(await service.start_workflow(name, payload, key=call.idempotency_key, request=call.replay()))


async def run_agent(call: Call, name: str, id: str) -> Response:
    """Start a run of a function agent; the body is its payload."""
    payload = await call.body.json()
    service = await call.service()
    if "unchecked" not in call.request.query_params:
        overview.check_payload(call.application.served.agents.get(name), payload)
    return _started(await service.start_agent(name, id, payload, key=call.idempotency_key, request=call.replay()))


def _started(ticket: Ticket) -> Response:
    return json_response({"runId": ticket.id}, 202)


async def run(call: Call, run_id: str) -> Response:
    """Return a run, and what it waits for."""
    found = await _run(call, run_id)
    record = run_record(found)
    record.setdefault("payload", decode((found.payload or "null").encode()))
    submission = await (await call.service()).get_submission(run_id)
    if submission is not None and submission.state == "parked":
        record["waitingFor"] = waiting_for(submission)
    return json_response(record)


async def send_event(call: Call, run_id: str, name: str) -> Response:
    """Give a run the event that it waits for; the body is its payload."""
    payload = await call.body.json()
    await (await call.service()).send_event(run_id, check_id(name, "event's name"), payload)
    return json_response({"status": "accepted"}, 202)


async def _run(call: Call, run_id: str) -> Run:
    found = await (await call.service()).get_run(run_id)
    if found is None:
        raise run_not_found(run_id)
    return found


# ----------------------------------------------------------------------------------------- work of any kind


async def stream(call: Call, id: str) -> Response:
    """Stream the events of a prompt or a run, at last an event `end` with what has become of it.

    `?types=` says which; pieces of messages come as `text_delta` and `thinking_delta`, unless asked for otherwise.
    """
    types = types_of(call.request) or event_types() - _TOO_MUCH
    await _submission_of(call, id)
    return call.stream(_frames(call, id, types, last_event_id(call.request)), _failure)


async def abort(call: Call, id: str) -> Response:
    """Abort a prompt or a run."""
    reason = runs.abort_reason(await call.body.json())
    await _submission_of(call, id)
    found = await (await call.service()).abort(id, reason)
    if found is None:
        raise submission_not_found(id)
    return json_response(submission_record(found), 202)


async def _frames(call: Call, id: str, types: frozenset[str], after: int) -> AsyncGenerator[bytes, None]:
    service = await call.service()
    async with aclosing(tail(service, id, types, after=after)) as events:
        async for event in events:
            yield frame("message", event.data, event.index)
    yield frame("end", text_of(submission_record(await _submission_of(call, id))))


def _failure(error: BaseException) -> bytes:
    # Not "error": so browsers call it when the connection breaks.
    return frame("failed", text_of(problem_of(error).to_json(local=True)))


async def _submission_of(call: Call, id: str) -> Submission:
    found = await (await call.service()).get_submission(id)
    if found is None:
        raise submission_not_found(id)
    return found


async def _object(call: Call) -> dict[str, Any]:
    body = await call.body.json()
    if not isinstance(body, dict):
        raise invalid_request("The body must be a JSON object.")
    return body


_SESSION = "/api/agents/{name}/{id}/sessions/{session}"
ROUTES: Routes[Handler] = Routes(
    [
        ("/api/project", {"GET": project}),
        ("/api/agents/{name}/sessions", {"GET": sessions}),
        ("/api/agents/{name}/{id}/runs", {"POST": run_agent}),
        (_SESSION, {"GET": session}),
        (f"{_SESSION}/work", {"GET": work}),
        (f"{_SESSION}/files", {"GET": files}),
        (f"{_SESSION}/prompts", {"POST": prompt}),
        (f"{_SESSION}/approvals/{{toolCallId}}", {"POST": decide}),
        (f"{_SESSION}/budget", {"POST": raise_budget}),
        (f"{_SESSION}/branches", {"POST": branch}),
        ("/api/workflows/{name}/runs", {"POST": run_workflow}),
        ("/api/runs", {"GET": admin.runs}),
        ("/api/runs/{runId}", {"GET": run}),
        ("/api/runs/{runId}/events/{name}", {"POST": send_event}),
        ("/api/submissions/{id}/stream", {"GET": stream}),
        ("/api/submissions/{id}/abort", {"POST": abort}),
    ]
)
