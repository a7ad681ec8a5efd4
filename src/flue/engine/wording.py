"""What the engine writes into conversations."""

from __future__ import annotations

import json
from typing import Any

from flue.durable.records import Submission
from flue.events import iso_time


def dispatch_text(submission: Submission, payload: dict[str, Any]) -> str:
    """Return dispatched input as the model reads it; the lines are those of the original's format."""
    lines = {
        "agent": submission.target,
        "id": submission.instance,
        "session": payload["session"],
        "targetAgent": submission.target,
        "dispatchId": payload["dispatchId"],
        "acceptedAt": iso_time(submission.accepted_at),
    }
    head = "\n".join(f"{name}: {value}" for name, value in lines.items())
    written = json.dumps(payload["input"], indent=2, sort_keys=True, ensure_ascii=False)
    return f"[Dispatch Input]\n{head}\n\ninput:\n{written}"
