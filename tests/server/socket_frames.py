"""Machines of sockets in tests: what they say, as JSON values."""

from __future__ import annotations

import json
from typing import Any

from flue.server.sockets.agent import AgentSocket
from flue.server.sockets.frames import Action, Close, Send
from flue.server.sockets.workflow import WorkflowSocket

Json = dict[str, Any]


def said(actions: list[Action]) -> list[Any]:
    """Return frames as JSON, an end as `(code, reason)`, and what is to be started as it is."""
    return [_said(action) for action in actions]


def _said(action: Action) -> Any:
    match action:
        case Send(text):
            return json.loads(text)
        case Close(code, reason):
            return (code, reason)
    return action


def agent_socket() -> AgentSocket:
    """Return an agent's socket that has greeted."""
    machine = AgentSocket("chat", "customer-123")
    machine.open()
    return machine


def workflow_socket() -> WorkflowSocket:
    """Return a workflow's socket that has greeted."""
    machine = WorkflowSocket("slow")
    machine.open()
    return machine


def prompt(request_id: str, message: str = "Hello", **more: Any) -> str:
    """Return a prompt as a client sends it."""
    return json.dumps({"version": 1, "type": "prompt", "requestId": request_id, "message": message, **more})


def invoke(request_id: str, **more: Any) -> str:
    """Return an invocation as a client sends it."""
    return json.dumps({"version": 1, "type": "invoke", "requestId": request_id, **more})
