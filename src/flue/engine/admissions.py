"""What is asked for as admissions: checked, in its lane, with its key and its bounds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from flue.definitions.agent import Agent
from flue.definitions.durability import Durability
from flue.definitions.schedule import Schedule
from flue.durable.records import Admission
from flue.engine.catalog import AgentEntry, Catalog
from flue.engine.place import RESERVED
from flue.errors import SessionError, UsageError
from flue.harness.harness import session_key
from flue.harness.json_values import as_json
from flue.messages import ImageContent
from flue.ports import Ids

# Sorted, so that equal content is equal text; escaped, so that any text can be stored.
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
# What has no limit of its own; stores keep a number.
_FOREVER = 100 * 365 * 24 * 3600.0
_MAX_ID = 512


class Admissions:
    """Makes admissions for one engine. Raises the errors that `Service` documents."""

    def __init__(self, catalog: Callable[[], Catalog], ids: Ids, owner: str) -> None:
        self._catalog = catalog
        self._ids = ids
        self._owner = owner

    def prompt(
        self,
        agent: str,
        instance: str,
        message: str,
        *,
        session: str = "default",
        images: Sequence[ImageContent] = (),
        key: str | None = None,
        alone: bool = False,
    ) -> Admission:
        """Return the admission of a message; `alone` has it refused where it would have to wait."""
        entry = self._conversational(agent)
        lane = session_lane(agent, instance, session)
        if not message.strip():
            raise UsageError("A message must not be empty.", code="invalid_text")
        payload: dict[str, Any] = {"message": message, "session": session}
        if images:
            payload["images"] = [image.to_json() for image in images]
        return Admission(
            id=f"sub_{self._ids.ulid()}",
            lane=lane,
            kind="prompt",
            target=agent,
            payload=_text(payload),
            instance=instance,
            key=None if key is None else f"prompt:{agent}:{instance}:{key}",
            alone=alone,
            **self._bounds(entry.durability),
        )

    def dispatch(
        self,
        agent: Agent | str,
        instance: str,
        input: Any,
        *,
        session: str = "default",
        dispatch_id: str | None = None,
    ) -> Admission:
        """Return the admission of dispatched input; the same id has the same key, always (DUR-30)."""
        name = self._catalog().name_of(agent)
        entry = self._conversational(name)
        chosen = self._ids.uuid() if dispatch_id is None else check_id(dispatch_id, "dispatch id")
        payload = {"dispatchId": chosen, "input": json_input(input), "session": session}
        return Admission(
            id=f"sub_{self._ids.ulid()}",
            lane=session_lane(name, instance, session),
            kind="dispatch",
            target=name,
            payload=_text(payload),
            instance=instance,
            key=f"dispatch:{name}:{instance}:{chosen}",
            **self._bounds(entry.durability),
        )

    def workflow(self, name: str, payload: Any, *, key: str | None = None, run_id: str | None = None) -> Admission:
        """Return the admission of a workflow's run."""
        entry = self._catalog().workflow(name)
        run_id = run_id or f"workflow:{name}:{self._ids.ulid()}"
        return Admission(
            id=run_id,
            lane=run_id,
            kind="workflow",
            target=name,
            payload=_text(json_input(payload)),
            key=None if key is None else f"workflow:{name}:{key}",
            recorded="workflow",
            **self._bounds(entry.durability),
        )

    def agent_run(self, name: str, instance: str, payload: Any, *, key: str | None = None) -> Admission:
        """Return the admission of a function agent's run."""
        entry = self._catalog().agent(name)
        if entry.run is None:
            raise UsageError(
                f'Agent "{name}" answers prompts and has no run of its own.',
                code="agent_not_runnable",
                hint="Send it a message.",
            )
        return Admission(
            id=f"run_{self._ids.ulid()}",
            lane=f"run:{name}/{check_id(instance, 'instance id')}",
            kind="workflow",
            target=name,
            payload=_text(json_input(payload)),
            instance=instance,
            key=None if key is None else f"run:{name}:{instance}:{key}",
            recorded="agent",
            **self._bounds(entry.durability),
        )

    def scheduled(self, schedule: Schedule, time_ms: int) -> Admission:
        """Return the admission of what a schedule starts at a time; always the same key for the same time."""
        key = f"schedule:{schedule.id}:{time_ms}"
        if schedule.workflow is not None:
            return self.workflow(schedule.workflow, schedule.input, key=key)
        assert schedule.agent is not None
        return self.dispatch(
            schedule.agent, schedule.instance, schedule.input, session=schedule.session, dispatch_id=key
        )

    def _conversational(self, name: str) -> AgentEntry:
        entry = self._catalog().agent(name)
        if entry.agent is None:
            raise UsageError(
                f'Agent "{name}" runs a function and holds no conversation.',
                code="agent_not_connectable",
                hint="Start a run of it instead.",
            )
        return entry

    def _bounds(self, durability: Durability) -> dict[str, Any]:
        timeout = _FOREVER if durability.timeout is None else durability.timeout
        return {
            "home": self._owner,
            "max_attempts": durability.max_attempts,
            "timeout_ms": round(timeout * 1000),
            "reserve": RESERVED,
        }


def session_lane(agent: str, instance: str, session: str) -> str:
    """Return the lane of a session: the key that its conversation is stored under."""
    if not session.strip() or session.startswith("task:"):
        raise SessionError(f'"{session}" is no name for a session.', code="invalid_session_name")
    return f"{agent}/{session_key(check_id(instance, 'instance id'), 'default', check_id(session, 'session name'))}"


def check_id(text: str, what: str) -> str:
    """Return an id that a caller chose. Raises `UsageError` (`invalid_id`)."""
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        length = 0
    if not text.strip() or "\x00" in text or not 0 < length <= _MAX_ID:
        raise UsageError(
            f"The {what} must be text that is not blank, of {_MAX_ID} bytes at most.",
            code="invalid_id",
            hint="Zero bytes and broken surrogates are not allowed either.",
        )
    return text


def json_input(value: Any) -> Any:
    """Return a value as JSON values. Raises `UsageError` (`invalid_input`)."""
    try:
        return as_json(value)
    except ValueError as error:
        raise UsageError(f"The input cannot be written as JSON: {error}.", code="invalid_input") from error


def _text(payload: Any) -> str:
    return _ENCODER.encode(payload)
