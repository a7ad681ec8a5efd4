"""Runs and submissions as JSON values of the wire."""

from __future__ import annotations

import json

from flue.durable.records import Run, Submission
from flue.engine.json_text import WITHHELD
from flue.engine.messages import APPROVAL, EVENT
from flue.events import iso_time
from flue.messages import Json


def run_pointer(run: Run) -> Json:
    """Return a run as lists show it."""
    pointer = {"runId": run.run_id, **_owner(run), "status": run.status, "startedAt": iso_time(run.started_at)}
    return {**pointer, **_end(run)}


def run_record(run: Run, *, redacted: bool = False) -> Json:
    """Return a run with its payload and its result or error; `redacted` leaves the error's message out."""
    record = {"runId": run.run_id, **_owner(run), "status": run.status, "startedAt": iso_time(run.started_at)}
    if run.kind == "workflow":
        record["payload"] = _value(run.payload)
    if run.restarted_from is not None:
        record["restartedFromRunId"] = run.restarted_from
    if run.restarted_as is not None:
        record["restartedAsRunId"] = run.restarted_as
    record.update(_end(run))
    if run.status == "completed":
        record["result"] = _value(run.result)
    elif run.status == "errored":
        record["error"] = _error(run.error, redacted=redacted)
    return record


def submission_record(submission: Submission, *, redacted: bool = False) -> Json:
    """Return a submission as it stands; `redacted` leaves an error's message out."""
    record: Json = {
        "submissionId": submission.id,
        "agentName": submission.target,
        "instanceId": submission.instance,
        "kind": submission.kind,
        "status": submission_status(submission),
        "acceptedAt": iso_time(submission.accepted_at),
    }
    if submission.started_at is not None:
        record["startedAt"] = iso_time(submission.started_at)
    if submission.state == "parked":
        record["waitingFor"] = waiting_for(submission)
    if submission.settled_at is not None:
        record["settledAt"] = iso_time(submission.settled_at)
    if submission.outcome == "completed":
        record["result"] = _value(submission.result)
    elif submission.outcome is not None:
        record["error"] = _error(submission.error, redacted=redacted)
    return record


def submission_status(submission: Submission) -> str:
    """Return `queued`, `running` or `waiting`, and how it ended: `completed`, `failed` or `aborted`."""
    if submission.outcome is not None:
        return submission.outcome
    return "waiting" if submission.state == "parked" else submission.state


def waiting_for(submission: Submission) -> Json:
    """Return what a parked submission waits for: tool calls to be approved, a larger budget, an event, a time."""
    waits: Json = {"reason": submission.park_reason}
    if submission.park_reason == "approval":
        waits["toolCallIds"] = [name.removeprefix(APPROVAL) for name in submission.waiting_for]
    elif submission.park_reason == "event":
        waits["events"] = [name.removeprefix(EVENT) for name in submission.waiting_for]
    if submission.wake_at is not None:
        waits["until"] = iso_time(submission.wake_at)
    return waits


def _owner(run: Run) -> Json:
    if run.kind == "agent":
        return {"agentName": run.target, "instanceId": run.instance}
    return {"owner": {"kind": "workflow", "workflowName": run.target, "instanceId": run.run_id}}


def _end(run: Run) -> Json:
    if run.ended_at is None:
        return {}
    return {
        "endedAt": iso_time(run.ended_at),
        "isError": run.status == "errored",
        "durationMs": run.ended_at - run.started_at,
    }


def _value(text: str | None) -> object:
    return None if text is None else json.loads(text)


def _error(text: str | None, *, redacted: bool) -> Json:
    error = json.loads(text) if text else {}
    return {"name": error.get("name", "Error"), "message": WITHHELD if redacted else error.get("message", "")}
