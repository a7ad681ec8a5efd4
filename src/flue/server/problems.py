"""Errors as HTTP answers: one JSON envelope, whatever went wrong.

    {"error": {"type": "run_not_found", "message": "…", "details": "…", "dev": "…", "meta": {…}}}

`dev` is for developers and shown only with FLUE_MODE=local. Unknown exceptions become a fixed text with a reference,
under which the log has the traceback: what an exception says may be a secret.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.responses import Response

from flue.errors import AbortError, FlueError, UsageError
from flue.server.json_text import encode

logger = logging.getLogger("flue")

_STATUS_OF_CODE = {
    "agent_not_found": 404,
    "workflow_not_found": 404,
    "run_not_found": 404,
    "submission_not_found": 404,
    "approval_not_found": 404,
    "approval_decided": 409,
    "idempotency_conflict": 409,
    "run_ended": 409,
    "object_unreachable": 503,
    "shutting_down": 503,
}
_INVALID_REQUEST = frozenset({"invalid_id", "invalid_session_name", "invalid_text", "invalid_input"})


class Problem(Exception):  # noqa: N818 - it is an answer
    """An answer that is an error. `headers` are added to the response."""

    def __init__(
        self,
        status: int,
        type: str,
        message: str,
        details: str = "",
        *,
        dev: str = "",
        meta: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.message = message
        self.details = details
        self.dev = dev
        self.meta = meta
        self.headers = dict(headers or {})

    def to_json(self, *, local: bool) -> dict[str, Any]:
        """Return the envelope; with `local` what is meant for developers, too."""
        error: dict[str, Any] = {"type": self.type, "message": self.message, "details": self.details}
        if local and self.dev:
            error["dev"] = self.dev
        if self.meta:
            error["meta"] = self.meta
        return {"error": error}

    def response(self, *, local: bool) -> Response:
        """Return the answer."""
        return Response(encode(self.to_json(local=local)), self.status, self.headers, "application/json")


def problem_of(error: BaseException) -> Problem:
    """Return what to answer when `error` was raised. What nobody expected is logged with its traceback."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, FlueError):
        known = _known(error)
        if known is not None:
            return known
    reference = secrets.token_hex(6)
    logger.error("A request failed (reference %s).", reference, exc_info=error)
    return internal_error(reference)


def internal_error(reference: str | None = None) -> Problem:
    """Return the answer that gives nothing away; `reference` is where the log has more."""
    return Problem(
        500,
        "internal_error",
        "Something went wrong on the server.",
        "The request was understood but could not be completed. Only the server's own log and records say why.",
        meta={"reference": reference} if reference else None,
    )


def _known(error: FlueError) -> Problem | None:
    if error.code in _STATUS_OF_CODE:
        status, message = _STATUS_OF_CODE[error.code], shortened(error.message, 500)
        return Problem(status, error.code, message, shortened(error.hint, 500))
    if error.code == "session_busy":
        return invalid_request("Another prompt of this session is under way. Wait for it, or leave out ?busy=reject.")
    if isinstance(error, AbortError):
        return Problem(409, "aborted", "The work was aborted.", error.message)
    if isinstance(error, UsageError) and error.code in _INVALID_REQUEST:
        return invalid_request(shortened(str(error), 500))
    return None


def invalid_request(details: str) -> Problem:
    """Return 400: the request's shape is wrong."""
    return Problem(400, "invalid_request", "The request is not in order.", details)


def invalid_json(details: str) -> Problem:
    """Return 400: the body is no JSON."""
    return Problem(400, "invalid_json", "The request's body cannot be read as JSON.", details)


def validation_failed(where: str, issues: Iterable[tuple[str, str]]) -> Problem:
    """Return 400 for path or query parameters; `issues` are pairs of name and message."""
    listed = [{"message": message, "path": [name]} for name, message in issues]
    return Problem(
        400,
        "validation_failed",
        "A parameter of the request has a wrong value.",
        f"Invalid {where} parameters.",
        meta={"issues": listed},
    )


def workflow_not_found(name: str, known: Iterable[str]) -> Problem:
    """Return 404: there is no such workflow."""
    return Problem(
        404,
        "workflow_not_found",
        f'There is no workflow "{shortened(name)}".',
        "Check the name: it is that of a file in workflows/.",
        dev=f"Workflows: {_names(known)}.",
    )


def workflow_not_http(name: str) -> Problem:
    """Return 404: the workflow is not reachable over HTTP."""
    return Problem(
        404,
        "workflow_not_http",
        f'The workflow "{name}" is not reachable over HTTP.',
        "Its module has to define `route`.",
        dev="Add `route = True`, or an async function `route(request, call_next)`, to the workflow's module.",
    )


def agent_not_found(name: str, known: Iterable[str]) -> Problem:
    """Return 404: there is no such agent, or it is not reachable over HTTP; the answer is the same for both."""
    return Problem(
        404,
        "agent_not_found",
        f'There is no agent "{shortened(name)}".',
        "Check the name: it is that of a file in agents/ which defines `route`.",
        dev=f"Agents reachable over HTTP: {_names(known)}.",
    )


def run_not_found(run_id: str) -> Problem:
    """Return 404: no run has this id."""
    return Problem(
        404,
        "run_not_found",
        f'There is no run "{shortened(run_id)}".',
        "Check the id; old runs are deleted after some time.",
    )


def submission_not_found(submission_id: str) -> Problem:
    """Return 404: no submission of this agent's instance has this id."""
    return Problem(
        404,
        "submission_not_found",
        f'There is no submission "{shortened(submission_id)}" here.',
        "Check the id, the agent and the instance; old submissions are deleted after some time.",
    )


def route_not_found(method: str, path: str) -> Problem:
    """Return 404: nothing is served here."""
    return Problem(
        404,
        "route_not_found",
        "Nothing is served at this address.",
        f"Asked for was {shortened(method)} {shortened(path)}.",
    )


def method_not_allowed(method: str, allowed: str) -> Problem:
    """Return 405 with `Allow`."""
    return Problem(
        405,
        "method_not_allowed",
        f"{shortened(method)} is not possible here.",
        f"Possible: {allowed}.",
        headers={"Allow": allowed},
    )


def shortened(text: str, length: int = 200) -> str:
    """Return text of a client's fit to be repeated to it."""
    return text if len(text) <= length else f"{text[:length]}…"


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
