"""JSON Schemas of the wire, as OpenAPI lists them."""

from __future__ import annotations

from flue.messages import Json
from flue.server.call import MAX_ID_BYTES

TEXT: Json = {"type": "string"}
TIME: Json = {"type": "string", "format": "date-time"}
BOOLEAN: Json = {"type": "boolean"}
ANYTHING: Json = {}
NAME: Json = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_ID_BYTES,
    "pattern": r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$",
}


def object_of(required: Json, optional: Json | None = None) -> Json:
    """Return the schema of an object."""
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}


ERROR = object_of(
    {"error": object_of({"type": TEXT, "message": TEXT, "details": TEXT}, {"dev": TEXT, "meta": {"type": "object"}})}
)
FAILURE = object_of({"name": TEXT, "message": TEXT})
EVENT = object_of({"type": TEXT, "eventIndex": {"type": "integer"}, "timestamp": TIME})
EVENTS = object_of({"events": {"type": "array", "items": EVENT}})

ACCEPTED_RUN = object_of({"status": {"const": "accepted"}, "runId": TEXT})
ACCEPTED = object_of({"status": {"const": "accepted"}})
WORKFLOW_RESULT = object_of({"result": ANYTHING, "_meta": object_of({"runId": TEXT})})
AGENT_RESULT = object_of({"result": ANYTHING}, {"_meta": object_of({"runId": TEXT})})
PROMPT = object_of({"message": TEXT}, {"session": NAME})
ABORT = {"type": "object", "properties": {"reason": TEXT}}
DECISION = object_of({"approved": BOOLEAN}, {"reason": TEXT, "session": NAME})
_LIMIT: Json = {"type": "number", "exclusiveMinimum": 0}
BUDGET: Json = {
    "type": "object",
    "properties": {**dict.fromkeys(("usd", "tokens", "turns", "seconds"), _LIMIT), "session": NAME},
    "additionalProperties": False,
}
DISPATCH = object_of({"input": ANYTHING}, {"session": NAME, "dispatchId": NAME})
DISPATCHED = object_of({"dispatchId": TEXT, "acceptedAt": TIME})

_OWNER = object_of({"kind": {"const": "workflow"}, "workflowName": TEXT, "instanceId": TEXT})
_STATUS: Json = {"type": "string", "enum": ["active", "completed", "errored"]}
_RUN = {"runId": TEXT, "status": _STATUS, "startedAt": TIME}
_RUN_END = {"endedAt": TIME, "isError": BOOLEAN, "durationMs": {"type": "integer"}}
_RUN_OWNER = {"owner": _OWNER, "agentName": TEXT, "instanceId": TEXT}
RUN_POINTER = object_of(_RUN, {**_RUN_OWNER, **_RUN_END})
RUN = object_of(
    _RUN,
    {
        **_RUN_OWNER,
        "payload": ANYTHING,
        "restartedFromRunId": TEXT,
        "restartedAsRunId": TEXT,
        **_RUN_END,
        "result": ANYTHING,
        "error": FAILURE,
    },
)
RUNS = object_of({"items": {"type": "array", "items": RUN_POINTER}}, {"nextCursor": TEXT})

WAITING_FOR = object_of(
    {"reason": {"type": "string", "enum": ["sleep", "event", "approval", "budget", "retry"]}},
    {
        "toolCallIds": {"type": "array", "items": TEXT},
        "events": {"type": "array", "items": TEXT},
        "until": TIME,
    },
)
WAITING = object_of({"status": {"const": "waiting"}, "submissionId": TEXT, "waitingFor": WAITING_FOR})
_SUBMISSION_STATUS: Json = {
    "type": "string",
    "enum": ["queued", "running", "waiting", "completed", "failed", "aborted"],
}
SUBMISSION = object_of(
    {
        "submissionId": TEXT,
        "agentName": TEXT,
        "instanceId": TEXT,
        "kind": {"type": "string", "enum": ["prompt", "dispatch"]},
        "status": _SUBMISSION_STATUS,
        "acceptedAt": TIME,
    },
    {"startedAt": TIME, "settledAt": TIME, "waitingFor": WAITING_FOR, "result": ANYTHING, "error": FAILURE},
)
_TRANSPORTS: Json = {"type": "object", "properties": {"http": {"const": True}, "websocket": {"const": True}}}
AGENTS = object_of(
    {"items": {"type": "array", "items": object_of({"name": TEXT, "transports": _TRANSPORTS, "created": BOOLEAN})}}
)
