"""`POST /agents/:name/:id`: a prompt for an agent, or a run of a function agent."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

from starlette.responses import Response

from flue.durable.records import Submission
from flue.engine.service import Ticket
from flue.engine.wire_records import waiting_for
from flue.project.modules import AgentModule, Exposure
from flue.server.call import Call, check_id, frames_of, json_response, spliced
from flue.server.event_stream import frame
from flue.server.json_text import text_of
from flue.server.problems import Problem, agent_not_found, invalid_request, problem_of, validation_failed
from flue.server.workflows import RUN_ID, Mode, answer, result_of

SUBMISSION_ID = "X-Flue-Submission-Id"
DEFAULT_SESSION = "default"


def exposed_agent(call: Call, name: str) -> tuple[AgentModule, Exposure]:
    """Return an agent that is reachable over HTTP, and how. Raises `Problem` (404), the same for hidden ones."""
    agents = call.application.served.agents
    module = agents.get(name)
    exposure = None if module is None else exposure_of(module, local=call.application.local)
    if module is None or exposure is None:
        reachable = [each for each, other in agents.items() if exposure_of(other, local=call.application.local)]
        raise agent_not_found(name, reachable)
    return module, exposure


def exposure_of(module: AgentModule, *, local: bool) -> Exposure:
    """Return how an agent is reached over HTTP; on a developer's machine every function agent is."""
    if module.route is not None or module.agent is not None:
        return module.route
    return True if module.webhook or local else None


async def post(call: Call, name: str, id: str) -> Response:
    """Answer a prompt, or run a function agent."""
    module, exposure = exposed_agent(call, name)
    check_id(id, "agent's instance id")
    if module.agent is None:
        return await _run(call, name, id, exposure)
    return await call.guarded(exposure, lambda: _prompt(call, name, id))


# --------------------------------------------------------------------------------------------------- prompts


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a client says to an agent."""

    message: str
    session: str


def read_prompt(body: Any) -> Prompt:
    """Return a prompt from JSON values; other keys are ignored. Raises `Problem` (400)."""
    if not isinstance(body, dict):
        raise invalid_request("The body must be a JSON object with a `message`.")
    message = body.get("message")
    if not isinstance(message, str):
        raise invalid_request("`message` must be text.")
    return Prompt(message, read_session(body))


def read_session(body: dict[str, Any]) -> str:
    """Return the name of the session that a body means. Raises `Problem` (400)."""
    session = body.get("session", DEFAULT_SESSION)
    if not isinstance(session, str):
        raise invalid_request("`session` must be text.")
    return check_id(session, "session's name")


async def _prompt(call: Call, name: str, id: str) -> Response:
    if _is_webhook(call):
        raise invalid_request(
            "This agent answers whoever asks; X-Webhook is for agents with `run`. To leave it work without waiting, "
            "use dispatch."
        )
    busy = _busy(call)
    prompt = read_prompt(await call.body.json())
    service = await call.service()
    ticket = await service.prompt(name, id, prompt.message, session=prompt.session, busy=busy, key=call.idempotency_key)
    headers = {SUBMISSION_ID: ticket.id}
    if call.wants_stream:
        response: Response = call.stream(_attached(ticket), lambda error: _error_frame(call, id, error))
        response.headers.update(headers)
        return response
    try:
        return await _answer(call, ticket, headers)
    except Problem as problem:
        problem.headers.update(headers)
        raise


async def _answer(call: Call, ticket: Ticket, headers: dict[str, str]) -> Response:
    outcome = await call.awaited(ticket.rest())
    if isinstance(outcome, Submission):
        waiting = {"status": "waiting", "submissionId": ticket.id, "waitingFor": waiting_for(outcome)}
        return json_response(waiting, 202, headers)
    return spliced(f'{{"result":{result_of(outcome)}}}', 200, headers)


async def _attached(ticket: Ticket) -> AsyncGenerator[bytes, None]:
    async with aclosing(frames_of(ticket.events())) as frames:
        async for data in frames:
            yield data
    result_of(await ticket.outcome())


def _error_frame(call: Call, id: str, error: BaseException) -> bytes:
    envelope = problem_of(error).to_json(local=call.application.local)
    return frame("error", text_of({"type": "error", "instanceId": id, **envelope}), 0)


def _busy(call: Call) -> Literal["queue", "reject"]:
    busy = call.request.query_params.get("busy", "queue")
    if busy == "reject":
        return "reject"
    if busy != "queue":
        raise validation_failed("query", [("busy", 'Expected "queue" or "reject".')])
    return "queue"


def _is_webhook(call: Call) -> bool:
    return call.request.headers.get("x-webhook", "").lower() == "true"


# ------------------------------------------------------------------------------------------- function agents


async def _run(call: Call, name: str, id: str, exposure: Exposure) -> Response:
    mode: Mode = "accepted" if _is_webhook(call) else "stream" if call.wants_stream else "result"

    async def work() -> Response:
        payload = await call.body.json()
        service = await call.service()
        ticket = await service.start_agent(name, id, payload, key=call.idempotency_key, request=call.replay())
        return await answer(call, ticket, mode)

    spare = f"run_{call.application.ids.ulid()}"
    return await call.guarded(exposure, work, failure_headers={RUN_ID: spare})
