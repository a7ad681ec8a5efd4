"""The WebSocket protocol as state machines: the scenarios of the original, frame by frame."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flue.server.problems import invalid_request
from flue.server.sockets.agent import MAX_PENDING, AgentSocket
from flue.server.sockets.frames import MAX_MESSAGE_BYTES, StartPrompt, StartWorkflow
from flue.server.sockets.machine import MAX_REQUEST_ID, Pending
from flue.server.sockets.restore import restore
from flue.server.sockets.workflow import WorkflowSocket
from tests.server.socket_frames import Json, agent_socket, invoke, prompt, said, workflow_socket

RUN = "workflow:slow:01M7WRB727G9M6RS2J0E9WVEPT"
ERROR = {"type": "internal_error", "message": "Broken.", "details": "Look at the log."}


def is_malformed(frame: Any, request_id: str | None = None) -> bool:
    """Say whether a frame refuses a message; the text under `details` is free."""
    expected: Json = {"version": 1, "type": "error", "error": invalid_request("").to_json(local=False)["error"]}
    if request_id is not None:
        expected["requestId"] = request_id
    expected["error"]["details"] = frame["error"]["details"]
    return bool(frame == expected and frame["error"]["details"])


# --------------------------------------------------------------------------------------------------- agents


def test_an_agent_socket_greets_with_the_instance() -> None:
    machine = AgentSocket("chat", "customer-123")
    greeting = {"version": 1, "type": "ready", "target": "agent", "name": "chat", "instanceId": "customer-123"}
    assert said(machine.open()) == [greeting]


def test_a_ping_is_answered_with_its_id_or_with_none() -> None:
    machine = agent_socket()
    assert said(machine.message('{"version":1,"type":"ping","requestId":"p1"}')) == [
        {"version": 1, "type": "pong", "requestId": "p1"}
    ]
    assert said(machine.message('{"version":1,"type":"ping"}')) == [{"version": 1, "type": "pong"}]


def test_a_prompt_is_started_told_of_and_answered_with_frames_in_the_recorded_order_of_fields() -> None:
    machine = agent_socket()
    assert machine.message(prompt("r1", session="support")) == [StartPrompt("r1", "Hello", "support", "queue")]
    frames = [
        *machine.accepted("r1", "sub_1"),
        *machine.event("r1", 0, '{"type":"operation_start"}'),
        *machine.completed("r1", '{"text":"Echo"}'),
    ]
    assert [getattr(frame, "text", None) for frame in frames] == [
        '{"version":1,"type":"started","requestId":"r1"}',
        '{"version":1,"type":"event","requestId":"r1","event":{"type":"operation_start"}}',
        '{"version":1,"type":"result","requestId":"r1","result":{"text":"Echo"}}',
    ]
    assert machine.is_open


def test_without_more_a_prompt_goes_to_the_default_session_and_waits_its_turn() -> None:
    assert agent_socket().message(prompt("r1")) == [StartPrompt("r1", "Hello", "default", "queue")]


def test_a_prompt_may_ask_to_be_refused_by_a_busy_session() -> None:
    assert agent_socket().message(prompt("r1", busy="reject")) == [StartPrompt("r1", "Hello", "default", "reject")]


def test_a_prompt_that_fails_is_answered_and_the_socket_stays_open() -> None:
    machine = agent_socket()
    machine.message(prompt("r1"))
    machine.accepted("r1", "sub_1")
    assert said(machine.failed("r1", ERROR)) == [{"version": 1, "type": "error", "requestId": "r1", "error": ERROR}]
    assert machine.message(prompt("r1")) == [StartPrompt("r1", "Hello", "default", "queue")]


@pytest.mark.parametrize(
    "message",
    [
        "{bad",
        "[1]",
        "null",
        "",
        '"prompt"',
        "{}",
        '{"version":2,"type":"prompt","requestId":"a","message":"x"}',
        '{"version":true,"type":"ping"}',
        '{"version":1,"type":["prompt"]}',
        '{"version":1,"type":"invoke","requestId":"a"}',
        '{"version":1,"type":"prompt","message":"x"}',
        '{"version":1,"type":"prompt","requestId":"","message":"x"}',
        '{"version":1,"type":"prompt","requestId":"a"}',
        '{"version":1,"type":"prompt","requestId":"a","message":7}',
        '{"version":1,"type":"prompt","requestId":"a","message":"x","session":" "}',
        '{"version":1,"type":"prompt","requestId":"a","message":"x","session":null}',
        '{"version":1,"type":"prompt","requestId":"a","message":"x","busy":"wait"}',
        '{"version":1,"type":"ping","requestId":5}',
        '{"version":1,"type":"prompt","requestId":"a","message":"\\ud800"}',
        '{"version":1,"type":"ping","x":NaN}',
        "[" * 100_000,
        prompt("r" * (MAX_REQUEST_ID + 1)),
        prompt("é" * (MAX_REQUEST_ID // 2 + 1)),
        prompt("a\nb"),
    ],
    ids=lambda message: message[:60],
)
def test_a_malformed_message_is_refused_without_an_id_and_the_socket_stays_open(message: str) -> None:
    machine = agent_socket()
    (refusal,) = said(machine.message(message))
    assert is_malformed(refusal)
    assert said(machine.message('{"version":1,"type":"ping"}')) == [{"version": 1, "type": "pong"}]


def test_a_binary_message_is_refused_and_ends_the_connection() -> None:
    machine = agent_socket()
    refusal, end = said(machine.message(b"{}"))
    assert is_malformed(refusal)
    assert end == (1003, "Binary messages are not supported")
    assert machine.message(prompt("r1")) == []


@pytest.mark.parametrize("letter", ["x", "é"])
def test_a_message_of_more_than_a_mebibyte_ends_the_connection(letter: str) -> None:
    shortest = prompt("r1", "")
    room = (MAX_MESSAGE_BYTES - len(shortest)) // len(letter.encode())
    fits = shortest.replace('"message": ""', f'"message": "{letter * room}"')
    assert isinstance(agent_socket().message(fits)[0], StartPrompt)
    assert said(agent_socket().message(fits + " " * len(letter.encode()))) == [(1009, "Message too large")]


def test_an_id_that_waits_for_its_answer_is_not_taken_twice() -> None:
    machine = agent_socket()
    machine.message(prompt("r1"))
    (refusal,) = said(machine.message(prompt("r1", "again")))
    assert is_malformed(refusal)
    assert said(machine.completed("r1", "null")) == [
        {"version": 1, "type": "result", "requestId": "r1", "result": None}
    ]


def test_too_many_prompts_are_refused_one_by_one_until_one_is_answered() -> None:
    machine = agent_socket()
    for number in range(MAX_PENDING):
        assert isinstance(machine.message(prompt(f"r{number}"))[0], StartPrompt)
    (refusal,) = said(machine.message(prompt("more")))
    assert is_malformed(refusal, "more")
    machine.completed("r7", "null")
    assert isinstance(machine.message(prompt("more"))[0], StartPrompt)


def test_prompts_of_different_sessions_are_told_apart_by_their_ids() -> None:
    machine = agent_socket()
    machine.message(prompt("a", session="one"))
    machine.message(prompt("b", session="two"))
    machine.accepted("a", "sub_1")
    machine.accepted("b", "sub_2")
    (event,) = said(machine.event("b", 0, "{}"))
    assert event["requestId"] == "b"
    (error,) = said(machine.failed("b", ERROR))
    assert error["requestId"] == "b"
    (result,) = said(machine.completed("a", "1"))
    assert result["requestId"] == "a"


def test_after_its_answer_nothing_of_a_request_is_told() -> None:
    machine = agent_socket()
    machine.message(prompt("r1"))
    machine.accepted("r1", "sub_1")
    machine.completed("r1", "1")
    late = [machine.event("r1", 5, "{}"), machine.completed("r1", "2"), machine.failed("r1", ERROR)]
    assert late == [[], [], []]


def test_an_event_is_told_once() -> None:
    machine = agent_socket()
    machine.message(prompt("r1"))
    machine.accepted("r1", "sub_1")
    assert len(machine.event("r1", 0, "{}")) == 1
    assert machine.event("r1", 0, "{}") == []
    assert len(machine.event("r1", 1, "{}")) == 1


# ------------------------------------------------------------------------------------------------ workflows


def test_a_workflow_socket_greets_with_its_name() -> None:
    assert said(WorkflowSocket("slow").open()) == [
        {"version": 1, "type": "ready", "target": "workflow", "name": "slow"}
    ]


def test_an_invocation_is_started_told_of_answered_and_the_end() -> None:
    machine = workflow_socket()
    assert machine.message(invoke("r1", payload={"n": 2})) == [StartWorkflow("r1", {"n": 2})]
    of_run = {"requestId": "r1", "runId": RUN}
    assert said(machine.accepted("r1", RUN)) == [{"version": 1, "type": "started", **of_run}]
    assert said(machine.event("r1", 0, '{"type":"run_start"}')) == [
        {"version": 1, "type": "event", **of_run, "event": {"type": "run_start"}}
    ]
    assert said(machine.completed("r1", '"slow done"')) == [
        {"version": 1, "type": "result", **of_run, "result": "slow done"},
        (1000, "Workflow completed"),
    ]
    assert not machine.is_open


@pytest.mark.parametrize(("given", "payload"), [({}, {}), ({"payload": None}, None), ({"payload": [1]}, [1])])
def test_a_payload_is_any_json_and_an_empty_object_when_left_out(given: Json, payload: Any) -> None:
    assert workflow_socket().message(invoke("r1", **given)) == [StartWorkflow("r1", payload)]


def test_a_run_that_fails_is_told_with_its_id_and_the_end() -> None:
    machine = workflow_socket()
    machine.message(invoke("r1"))
    machine.accepted("r1", RUN)
    assert said(machine.failed("r1", ERROR)) == [
        {"version": 1, "type": "error", "requestId": "r1", "runId": RUN, "error": ERROR},
        (1011, "Workflow failed"),
    ]


def test_a_run_that_is_not_accepted_fails_without_an_id() -> None:
    machine = workflow_socket()
    machine.message(invoke("r1"))
    assert said(machine.failed("r1", ERROR)) == [
        {"version": 1, "type": "error", "requestId": "r1", "error": ERROR},
        (1011, "Workflow failed"),
    ]


def test_a_second_invocation_ends_the_connection_and_the_first_goes_on_unheard() -> None:
    machine = workflow_socket()
    machine.message(invoke("r1"))
    refusal, end = said(machine.message(invoke("r2")))
    assert is_malformed(refusal, "r2")
    assert end == (1008, "Workflow accepts one invocation only")
    assert [machine.accepted("r1", RUN), machine.event("r1", 0, "{}"), machine.completed("r1", "1")] == [[], [], []]


@pytest.mark.parametrize(
    "message",
    [
        '{"version":1,"type":"prompt","requestId":"r1","message":"x"}',
        '{"version":1,"type":"ping"}',
        '{"version":1,"type":"invoke"}',
        '{"version":2,"type":"invoke","requestId":"r1"}',
        "[]",
    ],
)
def test_a_malformed_message_leaves_a_workflow_socket_open(message: str) -> None:
    machine = workflow_socket()
    (refusal,) = said(machine.message(message))
    assert is_malformed(refusal)
    assert machine.message(invoke("r1")) == [StartWorkflow("r1", {})]


# ------------------------------------------------------------------------------------- ends and evictions


@pytest.mark.parametrize("machine", [agent_socket(), workflow_socket()])
def test_the_server_closes_a_socket_once(machine: AgentSocket | WorkflowSocket) -> None:
    assert said(machine.close(1012, "restart")) == [(1012, "restart")]
    assert machine.close(1012, "restart") == []


def test_a_reason_is_cut_to_what_a_close_frame_holds() -> None:
    ((_, reason),) = said(agent_socket().close(1001, "é" * 100))
    assert reason == "é" * 61


def test_after_the_connection_has_gone_nothing_is_said() -> None:
    machine = agent_socket()
    machine.message(prompt("r1"))
    machine.closed()
    assert [machine.accepted("r1", "s"), machine.completed("r1", "1"), machine.close(1000, "")] == [[], [], []]


def test_an_evicted_agent_socket_goes_on_from_its_attachment() -> None:
    machine = agent_socket()
    machine.message(prompt("a"))
    machine.message(prompt("b", "the password is swordfish"))
    machine.accepted("a", "sub_1")
    machine.event("a", 0, '{"secret":"swordfish"}')
    machine.event("a", 1, "{}")
    kept = json.dumps(machine.attachment())
    assert "swordfish" not in kept
    restored = restore(json.loads(kept) | {"requestUrl": "https://example.test/agents/chat/customer-123"})
    assert restored.pending == {"a": Pending("sub_1", 1), "b": Pending("", -1)}
    assert restored.event("a", 1, "{}") == []
    assert said(restored.completed("a", "1")) == said(machine.completed("a", "1"))
    assert len(restored.failed("b", ERROR)) == 1
    assert restored.open() == machine.open()


def test_an_evicted_workflow_socket_still_takes_one_invocation() -> None:
    machine = workflow_socket()
    assert restore(machine.attachment()).message(invoke("r1")) == [StartWorkflow("r1", {})]
    machine.message(invoke("r1"))
    machine.accepted("r1", RUN)
    restored = restore(json.loads(json.dumps(machine.attachment())))
    assert said(restored.completed("r1", "1"))[0]["runId"] == RUN
    assert said(restore(machine.attachment()).message(invoke("r2")))[1][0] == 1008


def test_a_full_attachment_fits_a_durable_object() -> None:
    machine = agent_socket()
    for number in range(MAX_PENDING):
        machine.message(prompt("é" * (MAX_REQUEST_ID // 2 - 1) + f"{number:02}"))
        machine.accepted(next(reversed(machine.pending)), "sub_01M7WRB4XMFCM7GWVH6SVJKFE4")
    # developers.cloudflare.com/durable-objects/api/state: serializeAttachment takes 16,384 bytes.
    assert len(machine.pending) == MAX_PENDING
    assert len(json.dumps(machine.attachment())) < 16_384


def test_an_attachment_of_another_version_is_not_guessed_at() -> None:
    with pytest.raises(ValueError, match="version 2"):
        restore(agent_socket().attachment() | {"version": 2})
