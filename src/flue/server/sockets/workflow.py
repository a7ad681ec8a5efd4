"""The socket of a workflow: one run, then the end."""

from __future__ import annotations

from typing import Any

from flue.server.sockets.frames import Action, StartWorkflow, frame, malformed
from flue.server.sockets.machine import ID_RULE, Pending, SocketMachine, is_request_id, speaks


class WorkflowSocket(SocketMachine):
    """See `SocketMachine`. The work's id is the run's id. The run's end closes the connection: 1000, or 1011."""

    target = "workflow"

    def __init__(self, name: str, *, invoked: bool = False) -> None:
        super().__init__(name)
        self._invoked = invoked

    def open(self) -> list[Action]:
        """Greet the client."""
        return [frame("ready", target=self.target, name=self.name)]

    def attachment(self) -> dict[str, Any]:
        """Return what has to be kept to go on after an eviction."""
        return self._attachment(invoked=self._invoked)

    def _received(self, message: dict[str, Any]) -> list[Action]:
        request_id = message.get("requestId")
        if not speaks(message, "invoke") or not is_request_id(request_id):
            required = f'"version": 1, the type "invoke" and a "requestId" of {ID_RULE}'
            return [malformed(f"A message needs {required}.")]
        if self._invoked:
            refusal = malformed("A workflow's socket takes one invocation.", request_id)
            return [refusal, *self.close(1008, "Workflow accepts one invocation only")]
        self._invoked = True
        self._wait_for(request_id)
        return [StartWorkflow(request_id, message.get("payload", {}))]

    def _run(self, waiting: Pending) -> dict[str, str]:
        return {"runId": waiting.work_id} if waiting.work_id else {}

    def _after_result(self) -> list[Action]:
        return self.close(1000, "Workflow completed")

    def _after_failure(self) -> list[Action]:
        return self.close(1011, "Workflow failed")
