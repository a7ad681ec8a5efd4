"""Whatever a client and a service do, in whatever order, a socket's machine keeps the protocol."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from flue.server.sockets.agent import AgentSocket
from flue.server.sockets.frames import Action, Close, Send, StartPrompt, StartWorkflow
from flue.server.sockets.restore import restore
from flue.server.sockets.workflow import WorkflowSocket

IDS = st.sampled_from(["a", "b", "c", "d"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
# Values that are right, and values that are anything.
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "version": st.just(1) | JSON,
        "type": st.sampled_from(["prompt", "ping", "invoke"]) | JSON,
        "requestId": IDS | JSON,
        "message": st.text() | JSON,
        "session": st.sampled_from(["one", "two"]) | JSON,
        "busy": st.sampled_from(["queue", "reject"]) | JSON,
        "payload": JSON,
    },
)
TEXTS = FIELDS.map(json.dumps) | JSON.map(json.dumps) | st.text(st.characters())


class Conversation(RuleBasedStateMachine):
    """A client that says anything, a service that does anything, and evictions in between."""

    def __init__(self) -> None:
        super().__init__()
        self.machine: AgentSocket | WorkflowSocket = AgentSocket("chat", "ann")
        self.started: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.over = False
        self.numbers: Counter[str] = Counter()

    def take(self, actions: list[Action]) -> None:
        for action in actions:
            assert not self.over, "something after the end"
            match action:
                case Send(text):
                    self.check(json.loads(text))
                case Close(code, reason):
                    assert code in {1000, 1003, 1008, 1009, 1011, 1012}
                    assert 0 < len(reason.encode()) <= 123
                    self.over = True
                case StartPrompt(request_id) | StartWorkflow(request_id):
                    assert self.answered[request_id] == self.started[request_id]
                    self.started[request_id] += 1

    def check(self, frame: dict[str, Any]) -> None:
        assert frame["version"] == 1
        assert frame["type"] in {"ready", "started", "event", "result", "error", "pong"}
        request_id: Any = frame.get("requestId")
        if frame["type"] == "error":
            assert {"type", "message", "details"} <= frame["error"].keys()
        is_waiting = request_id is not None and self.is_waiting(request_id)
        if frame["type"] in {"started", "event", "result"}:
            assert is_waiting
        if frame["type"] in {"result", "error"} and is_waiting:
            self.answered[request_id] += 1

    def is_waiting(self, request_id: str) -> bool:
        return self.started[request_id] > self.answered[request_id]

    @initialize(workflow=st.booleans())
    def open(self, workflow: bool) -> None:
        self.machine = WorkflowSocket("slow") if workflow else AgentSocket("chat", "ann")
        self.take(self.machine.open())

    @rule(text=TEXTS)
    def client_says(self, text: str) -> None:
        self.take(self.machine.message(text))

    @rule(request_id=IDS, kind=st.sampled_from(["prompt", "invoke"]))
    def client_asks(self, request_id: str, kind: str) -> None:
        self.take(
            self.machine.message(json.dumps({"version": 1, "type": kind, "requestId": request_id, "message": "x"}))
        )

    @rule(data=st.binary(max_size=4))
    def client_sends_bytes(self, data: bytes) -> None:
        self.take(self.machine.message(data))

    @rule(request_id=IDS)
    def accepted(self, request_id: str) -> None:
        self.take(self.machine.accepted(request_id, f"work-{request_id}"))

    @rule(request_id=IDS, ahead=st.integers(-1, 2), data=JSON)
    def happens(self, request_id: str, ahead: int, data: Any) -> None:
        self.numbers[request_id] += ahead
        self.take(self.machine.event(request_id, self.numbers[request_id], json.dumps(data)))

    @rule(request_id=IDS, result=JSON)
    def completed(self, request_id: str, result: Any) -> None:
        self.take(self.machine.completed(request_id, json.dumps(result)))

    @rule(request_id=IDS)
    def failed(self, request_id: str) -> None:
        self.take(self.machine.failed(request_id, {"type": "x", "message": "y", "details": "z"}))

    @rule()
    def evicted(self) -> None:
        if not self.over:
            self.machine = restore(json.loads(json.dumps(self.machine.attachment())))

    @rule(code=st.sampled_from([1000, 1012]))
    def server_closes(self, code: int) -> None:
        self.take(self.machine.close(code, "bye"))

    @invariant()
    def who_waits_is_known(self) -> None:
        if not self.over:
            waiting = {request_id for request_id in self.started if self.is_waiting(request_id)}
            assert waiting == set(self.machine.pending)

    @invariant()
    def no_request_is_answered_twice(self) -> None:
        assert all(self.answered[request_id] <= self.started[request_id] for request_id in self.answered)

    @invariant()
    def both_know_whether_it_is_over(self) -> None:
        assert self.machine.is_open is not self.over

    def teardown(self) -> None:
        """Answer all who still wait: each is answered exactly once."""
        for request_id in tuple(self.machine.pending):
            self.take(self.machine.completed(request_id, "null"))
        if not self.over:
            assert self.started == self.answered


TestConversation = Conversation.TestCase
TestConversation.settings = settings(stateful_step_count=30)
