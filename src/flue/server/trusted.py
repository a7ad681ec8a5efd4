"""What only trusted callers may ask for over HTTP: those that know FLUE_DISPATCH_TOKEN.

They need no `route`: any agent can be given work. Without a token in the environment these routes do not exist.
"""

from __future__ import annotations

import hmac
from typing import Any

from starlette.responses import Response

from flue.errors import DefinitionError
from flue.server.agents import read_session
from flue.server.call import Call, check_id, json_response
from flue.server.problems import Problem, agent_not_found, invalid_request, route_not_found

TOKEN = "FLUE_DISPATCH_TOKEN"  # noqa: S105 - the name of the variable


async def dispatch(call: Call, name: str, id: str) -> Response:
    """Accept work for an agent's instance and answer at once."""
    check_trusted(call, name, id)
    body = await _object(call)
    if "input" not in body:
        raise invalid_request("`input` is missing: what the agent is told.")
    dispatch_id = body.get("dispatchId", call.idempotency_key)
    if dispatch_id is not None:
        if not isinstance(dispatch_id, str):
            raise invalid_request("`dispatchId` must be text.")
        check_id(dispatch_id, "dispatch's id")
    service = await call.service()
    receipt = await service.dispatch(name, id, body["input"], session=read_session(body), dispatch_id=dispatch_id)
    return json_response({"dispatchId": receipt.dispatch_id, "acceptedAt": receipt.accepted_at}, 202)


async def raise_budget(call: Call, name: str, id: str) -> Response:
    """Give a session that used its budget up a larger one; it goes on by itself."""
    check_trusted(call, name, id)
    body = await _object(call)
    session = read_session(body)
    limits = {key: value for key, value in body.items() if key != "session"}
    service = await call.service()
    try:
        await service.raise_budget(name, id, limits, session=session)
    except DefinitionError as error:
        raise invalid_request(str(error)) from None
    return json_response({"status": "accepted"}, 202)


def check_trusted(call: Call, name: str, id: str) -> None:
    """Raise `Problem` for who does not know the token, or names no agent that has conversations."""
    token = call.application.env.get(TOKEN, "").strip()
    if not token:
        raise route_not_found(call.request.method, call.request.url.path)
    scheme, _, given = call.request.headers.get("authorization", "").partition(" ")
    same = hmac.compare_digest(given.strip().encode("utf-8", "surrogatepass"), token.encode("utf-8", "surrogatepass"))
    if scheme.lower() != "bearer" or not same:
        raise Problem(
            401,
            "unauthorized",
            "This needs the dispatch token.",
            'Send it as "Authorization: Bearer …".',
            headers={"WWW-Authenticate": "Bearer"},
        )
    agents = call.application.served.agents
    if name not in agents or agents[name].agent is None:
        raise agent_not_found(name, agents)
    check_id(id, "agent's instance id")


async def _object(call: Call) -> dict[str, Any]:
    body = await call.body.json()
    if not isinstance(body, dict):
        raise invalid_request("The body must be a JSON object.")
    return body
