"""The socket of an agent's instance: prompts, several at once, and pings."""

from __future__ import annotations

from typing import Any

from flue.server.sockets.frames import Action, StartPrompt, frame, malformed
from flue.server.sockets.machine import ID_RULE, SocketMachine, is_request_id, speaks

MAX_PENDING = 32
"""Prompts that may wait for an answer on one socket; those over it are refused, each by an error of its own."""


class AgentSocket(SocketMachine):
    """See `SocketMachine`. The socket stays open after errors; prompts of one session are answered in turn."""

    target = "agent"

    def __init__(self, name: str, instance_id: str) -> None:
        super().__init__(name)
        self.instance_id = instance_id

    def open(self) -> list[Action]:
        """Greet the client."""
        return [frame("ready", target=self.target, name=self.name, instanceId=self.instance_id)]

    def attachment(self) -> dict[str, Any]:
        """Return what has to be kept to go on after an eviction."""
        return self._attachment(id=self.instance_id)

    def _received(self, message: dict[str, Any]) -> list[Action]:
        if not speaks(message, "prompt", "ping"):
            return [malformed('A message needs "version": 1 and the type "prompt" or "ping".')]
        return self._ping(message) if message["type"] == "ping" else self._prompt(message)

    def _ping(self, message: dict[str, Any]) -> list[Action]:
        request_id = message.get("requestId", "")
        if not isinstance(request_id, str):
            return [malformed('The "requestId" of a ping must be a text, if there is one.')]
        # An empty id is an id; the wire tells it from none.
        return [frame("pong", requestId=request_id if "requestId" in message else None)]

    def _prompt(self, message: dict[str, Any]) -> list[Action]:
        request_id, text = message.get("requestId"), message.get("message")
        if not is_request_id(request_id) or not isinstance(text, str):
            return [malformed(f'A prompt needs a "requestId" of {ID_RULE}, and a text "message".')]
        session = message.get("session", "default")
        if not isinstance(session, str) or not session.strip():
            return [malformed('The "session" of a prompt must be a text that is not blank, if there is one.')]
        busy = message.get("busy", "queue")
        if busy not in ("queue", "reject"):
            return [malformed('The "busy" of a prompt must be "queue" or "reject", if there is one.')]
        if request_id in self.pending:
            # Not addressed to the id: the client would take it for the answer to the request before.
            return [malformed("A request with this requestId is not answered yet.")]
        return self._start(StartPrompt(request_id, text, session, busy))

    def _start(self, prompt: StartPrompt) -> list[Action]:
        if len(self.pending) >= MAX_PENDING:
            return [malformed(f"At most {MAX_PENDING} prompts may wait on one socket.", prompt.request_id)]
        self._wait_for(prompt.request_id)
        return [prompt]
