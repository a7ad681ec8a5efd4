"""A socket's machine from what was kept of it."""

from __future__ import annotations

from typing import Any

from flue.server.sockets.agent import AgentSocket
from flue.server.sockets.frames import VERSION
from flue.server.sockets.machine import Pending
from flue.server.sockets.workflow import WorkflowSocket


def restore(attachment: dict[str, Any]) -> AgentSocket | WorkflowSocket:
    """Return the machine that gave an attachment, as it was then; keys of the driver's own are ignored.

    The driver follows the work of each request in `pending` from the event after `after` on. One without a `work_id`
    was lost while it was being admitted: answer it with `failed`. Raises `ValueError` for another version.
    """
    if attachment.get("version") != VERSION:
        raise ValueError(f"the attachment has version {attachment.get('version')!r}, known is {VERSION}")
    machine: AgentSocket | WorkflowSocket
    if attachment["target"] == "agent":
        machine = AgentSocket(attachment["name"], attachment["id"])
    else:
        machine = WorkflowSocket(attachment["name"], invoked=attachment["invoked"])
    machine.pending = {id: Pending(*values) for id, values in attachment["requests"].items()}
    return machine
