"""The names of what accepted work is sent while it waits, and what stands in them."""

from __future__ import annotations

import json
from typing import Any

from flue.durable.records import Message
from flue.messages import Json

APPROVAL = "approve:"
BUDGET = "budget"
EVENT = "event:"


def approval_message(id: str, tool_call_id: str, *, approved: bool, reason: str | None) -> Message:
    """Return a decision on a tool call."""
    return Message(id, APPROVAL + tool_call_id, json.dumps({"approved": approved, "reason": reason}))


def budget_message(id: str, budget: Json) -> Message:
    """Return a raised budget."""
    return Message(id, BUDGET, json.dumps(budget))


def event_message(id: str, name: str, payload: Any) -> Message:
    """Return an event for a workflow that waits for it, or will."""
    return Message(id, EVENT + name, json.dumps(payload))
