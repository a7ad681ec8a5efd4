"""Sockets that sleep with their object: what a client hears, whenever the object is evicted."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from flue.cloudflare.sockets import BURST_BYTES, FULL_BYTES, MAX_ATTACHMENT_BYTES, MAX_WAITING, STALL_SECONDS
from flue.server.sockets.agent import MAX_PENDING, AgentSocket
from flue.server.sockets.frames import MAX_MESSAGE_BYTES
from flue.server.sockets.machine import MAX_REQUEST_ID, Pending
from flue.server.sockets.workflow import WorkflowSocket
from tests.cloudflare.hibernating import ATTACHMENT_LIMIT, HibernatingObject, PlatformSocket, settle
from tests.server.socket_frames import invoke, prompt
from tests.server.socket_service import Work


@pytest.fixture
async def object() -> HibernatingObject:
    return HibernatingObject()


def types(socket: PlatformSocket) -> list[str]:
    return [json.loads(frame)["type"] for frame in socket.frames]


def numbers(socket: PlatformSocket, request_id: str) -> list[int]:
    """Return the indices of the events that a client got for a request."""
    frames = [json.loads(frame) for frame in socket.frames]
    return [frame["event"]["eventIndex"] for frame in frames if "event" in frame and frame["requestId"] == request_id]


async def ends(work: Work, result: Any = "done") -> None:
    await work.complete(result)
    await settle()


# ------------------------------------------------------------------------------------------------ conversations


async def test_a_prompt_is_greeted_started_followed_and_answered(object: HibernatingObject) -> None:
    """The frames are those of a server."""
    socket = await object.agent()
    await object.message(socket, prompt("r1", session="support"))
    work = await object.service.nth(1)
    await work.emit(type="operation_start")
    await ends(work, {"text": "Echo"})
    assert types(socket) == ["ready", "started", "event", "result"]
    assert object.service.asked == [{"agent": "chat", "instance": "ann", "message": "Hello", "session": "support"}]
    await object.message(socket, prompt("r2", "Go on", session="support"))
    await ends(await object.service.nth(2))
    assert types(socket)[4:] == ["started", "result"]
    assert socket.closes == []


async def test_a_run_is_followed_and_closes_its_socket(object: HibernatingObject) -> None:
    """Code 1000 after a result; what the client still sends is ignored."""
    socket = await object.workflow()
    await object.message(socket, invoke("r1", payload={"n": 1}))
    work = await object.service.nth(1)
    await work.emit(type="run_start")
    await ends(work)
    assert types(socket) == ["ready", "started", "event", "result"]
    assert socket.closes == [(1000, "Workflow completed")]
    await object.message(socket, invoke("r2"))
    object.evict()
    await object.message(socket, invoke("r3"))
    assert len(object.service.work) == 1
    assert types(socket)[4:] == []


async def test_a_run_that_fails_closes_its_socket_with_1011(object: HibernatingObject) -> None:
    """Its own words stay inside."""
    socket = await object.workflow()
    await object.message(socket, invoke("r1"))
    await (await object.service.nth(1)).fail("the password is swordfish")
    await settle()
    assert types(socket) == ["ready", "started", "error"]
    assert "swordfish" not in "".join(socket.frames)
    assert socket.closes == [(1011, "Workflow failed")]


async def test_a_second_invocation_is_refused_also_after_an_eviction(object: HibernatingObject) -> None:
    """A workflow's socket takes one; the run goes on unheard."""
    socket = await object.workflow()
    await object.message(socket, invoke("r1"))
    object.evict()
    await object.message(socket, invoke("r2"))
    assert socket.closes == [(1008, "Workflow accepts one invocation only")]
    await ends(await object.service.nth(1))
    assert types(socket) == ["ready", "started", "error"]


async def test_messages_are_taken_in_order_while_the_first_is_still_being_admitted(object: HibernatingObject) -> None:
    """The platform delivers a message while the handler of the one before it still waits."""
    socket = await object.agent()
    async with asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(object.message(socket, prompt(f"r{number}", str(number))))
        group.create_task(object.message(socket, '{"version":1,"type":"ping"}'))
    assert [asked["message"] for asked in object.service.asked] == [str(number) for number in range(10)]
    assert types(socket) == ["ready", *["started"] * 10, "pong"]


async def test_a_client_that_sends_faster_than_it_is_served_is_closed(object: HibernatingObject) -> None:
    """An object cannot stop reading, so what waits is bounded."""
    socket = await object.agent()
    async with asyncio.TaskGroup() as group:
        for number in range(MAX_WAITING + 5):
            group.create_task(object.message(socket, prompt(f"r{number}")))
    assert socket.closes == [(1013, "Too many messages at once")]


async def test_sockets_of_one_object_do_not_disturb_each_other(object: HibernatingObject) -> None:
    """Ten clients of one instance, each with its own answer, one of them leaving in between."""
    sockets = [await object.agent() for _ in range(10)]
    for number, socket in enumerate(sockets):
        await object.message(socket, prompt("r", str(number), session=f"s{number}"))
    object.evict()
    await object.closed(sockets[0])
    for number, work in reversed(list(enumerate(object.service.work))):
        await work.emit(type="log", number=number)
        await work.complete(number)
    await settle()
    assert types(sockets[0]) == ["ready", "started"]
    for number, socket in enumerate(sockets[1:], 1):
        assert types(socket) == ["ready", "started", "event", "result"]
        assert socket.heard[-1]["result"] == number


# ---------------------------------------------------------------------------------------------------- evictions


async def test_what_happens_while_the_object_sleeps_is_told_when_it_wakes(object: HibernatingObject) -> None:
    """From the event after the last one sent on: no gap, nothing twice."""
    socket = await object.agent()
    await object.message(socket, prompt("r1"))
    work = await object.service.nth(1)
    await work.emit(type="one")
    await settle()
    object.evict()
    await work.emit(type="two")
    await work.emit(type="three")
    await settle()
    assert numbers(socket, "r1") == [0]
    await object.wake()
    await settle()
    assert numbers(socket, "r1") == [0, 1, 2]
    object.evict()
    await work.complete("done")
    await object.message(socket, '{"version":1,"type":"ping"}')
    await settle()
    assert sorted(types(socket)) == sorted(["ready", "started", *["event"] * 3, "pong", "result"])


@pytest.mark.parametrize("frames", [1, 2, 3])
async def test_an_eviction_after_every_frame_costs_nothing(object: HibernatingObject, frames: int) -> None:
    """Three sessions at once, the object evicted after each frame that it sends."""
    object.frames_each = object.isolate.frames_left = frames
    socket = await object.agent()
    for name in "abc":
        await settle()
        await object.message(socket, prompt(name, session=name))
    await settle()
    for number in range(12):
        await object.service.work[number % 3].emit(type="text_delta", text=str(number))
        await object.wake()
        await settle()
    for work in object.service.work:
        await work.complete(work.id)
    for _ in range(40):
        await object.wake()
        await settle()
    assert object.evictions >= 12 // frames
    for number, name in enumerate("abc", 1):
        assert numbers(socket, name) == [0, 1, 2, 3]
        (result,) = [frame for frame in socket.heard if frame["type"] == "result" and frame["requestId"] == name]
        assert result["result"] == f"work-{number}"


async def test_a_request_that_was_being_admitted_is_answered_with_an_error(object: HibernatingObject) -> None:
    """Nobody knows whether it was accepted; the client hears that, and the socket stays open."""
    socket = await object.agent()
    held = asyncio.ensure_future(object.message(socket, prompt("r1")))
    await asyncio.sleep(0)
    assert types(socket) == ["ready"]
    object.evict()
    held.cancel()
    await object.message(socket, '{"version":1,"type":"ping"}')
    lost, pong = socket.heard[1:]
    assert (lost["type"], lost["requestId"], lost["error"]["type"]) == ("error", "r1", "admission_lost")
    assert pong["type"] == "pong"
    await object.message(socket, prompt("r1"))
    assert types(socket)[-1] == "started"


async def test_work_that_is_gone_when_the_object_wakes_is_an_error(object: HibernatingObject) -> None:
    """An object that slept for months may have pruned it."""
    socket = await object.agent()
    await object.message(socket, prompt("r1"))
    object.evict()
    object.service.work.clear()
    await object.wake()
    await settle()
    assert socket.heard[-1]["error"]["type"] == "submission_not_found"


async def test_an_attachment_of_another_version_closes_the_socket(object: HibernatingObject) -> None:
    """A client that connects again finds the version that is there now."""
    socket = await object.agent()
    socket.attachment = '{"version":7,"key":"x"}'
    object.evict()
    await object.message(socket, '{"version":1,"type":"ping"}')
    assert socket.closes == [(1012, "The server restarts")]


async def test_a_service_that_does_not_start_is_an_error_of_the_request(
    object: HibernatingObject, caplog: pytest.LogCaptureFixture
) -> None:
    """A ping needs no service, and a prompt is told."""
    socket = await object.agent()
    object.service.failure = RuntimeError("the password is swordfish")
    with caplog.at_level(logging.CRITICAL, "flue"):
        await object.message(socket, prompt("r1"))
    await object.message(socket, '{"version":1,"type":"ping"}')
    assert types(socket) == ["ready", "error", "pong"]
    assert "swordfish" not in "".join(socket.frames)


# ----------------------------------------------------------------------------------------------------- the ends


@pytest.mark.parametrize(("code", "answer"), [(1000, 1000), (1001, 1001), (4001, 4001), (1005, None)])
async def test_a_clients_close_is_answered_with_its_code(
    object: HibernatingObject, code: int, answer: int | None
) -> None:
    """Without an answer the client waits; 1005 means that it sent none, and must not be sent."""
    socket = await object.agent()
    await object.message(socket, prompt("r1"))
    await object.closed(socket, code, "bye")
    assert socket.closes == [(answer, "" if answer is None else "bye")]


@pytest.mark.parametrize("code", [1006, 1015])
async def test_a_connection_that_broke_is_not_answered(object: HibernatingObject, code: int) -> None:
    """There is nobody to answer, and the platform refuses these codes."""
    socket = await object.agent()
    await object.closed(socket, code)
    assert socket.closes == []


async def test_an_error_of_the_connection_closes_it_with_1011(object: HibernatingObject) -> None:
    """As the platform's own examples do."""
    socket = await object.agent()
    await object.failed(socket)
    assert socket.closes == [(1011, "WebSocket error")]


async def test_a_client_that_leaves_aborts_nothing(object: HibernatingObject) -> None:
    """Its work goes on, and nothing follows it any more."""
    socket = await object.agent()
    await object.message(socket, prompt("r1"))
    work = await object.service.nth(1)
    await object.closed(socket)
    await work.emit(type="one")
    await settle()
    assert work.read == 0
    assert not work.settled
    await object.message(socket, prompt("r2"))
    assert types(socket) == ["ready", "started"]


async def test_a_connection_that_is_found_broken_while_sending_is_let_go(object: HibernatingObject) -> None:
    """The event that says so may come later, or never."""
    socket = await object.agent()
    await object.message(socket, prompt("r1", session="one"))
    await object.message(socket, prompt("r2", session="two"))
    socket.gone = True
    await object.service.work[0].emit(type="one")
    await object.service.work[1].emit(type="one")
    await settle()
    assert types(socket) == ["ready", "started", "started"]
    assert not object.isolate.sockets._awake


# ------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize("letter", ["x", "é", "世", "👩", '"', "\\"])
def test_the_largest_attachment_fits(letter: str) -> None:
    """Every id as long as it may be, every place taken, in whatever letters."""
    longest = letter * (512 // len(letter.encode()))
    machine = AgentSocket("a" * 63, longest)
    id = letter * ((MAX_REQUEST_ID - 3) // len(letter.encode()))
    machine.pending = {f"{id}{n}": Pending("sub_01M7WRB727G9M6RS2J0E9WVEPT", 10**9) for n in range(MAX_PENDING)}
    text = json.dumps({**machine.attachment(), "key": "01M7WRB727G9M6RS2J0E9WVEPT"}, separators=(",", ":"))
    assert text.isascii()
    assert len(text) <= MAX_ATTACHMENT_BYTES == ATTACHMENT_LIMIT - 5
    assert len(json.dumps({**WorkflowSocket("a" * 63).attachment(), "key": "x" * 26})) < 200


async def test_a_prompt_over_the_bound_is_refused_by_an_error_of_its_own(object: HibernatingObject) -> None:
    """Those before it are answered, also after an eviction."""
    socket = await object.agent(id="世" * 170)
    for number in range(MAX_PENDING + 1):
        await object.message(socket, prompt(f"{'é' * 62}{number:02}", session=f"s{number}"))
    assert types(socket) == ["ready", *["started"] * MAX_PENDING, "error"]
    object.evict()
    await object.wake()
    for work in object.service.work:
        await work.complete()
    await settle()
    assert types(socket)[MAX_PENDING + 2 :] == ["result"] * MAX_PENDING


async def test_an_attachment_holds_names_ids_and_numbers(object: HibernatingObject) -> None:
    """What a client said, and what it was told, is not in it."""
    socket = await object.agent()
    await object.message(socket, prompt("r1", "the password is swordfish", session="secret-session"))
    work = await object.service.nth(1)
    await work.emit(type="text_delta", text="swordfish")
    await settle()
    kept = json.loads(socket.attachment or "")
    assert kept == {
        "version": 1,
        "target": "agent",
        "name": "chat",
        "id": "ann",
        "requests": {"r1": ["work-1", 0]},
        "key": kept["key"],
    }


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"{}", 1003), ("x" * (MAX_MESSAGE_BYTES + 1), 1009), (b"\xff" * 100, 1003)],
    ids=["binary", "too long", "not even text"],
)
async def test_hostile_messages_end_the_connection(object: HibernatingObject, data: str | bytes, code: int) -> None:
    """With the codes of a server."""
    socket = await object.agent()
    await object.message(socket, data)
    assert socket.closes[0][0] == code
    await object.message(socket, prompt("r1"))
    assert object.service.asked == []


async def test_a_long_log_lets_others_have_their_turn(object: HibernatingObject) -> None:
    """Sending never waits on this platform, so a follower gives way by itself."""
    socket = await object.agent()
    await object.message(socket, prompt("r1"))
    work = await object.service.nth(1)
    for _ in range(10):
        await work.emit(type="log", text="x" * (BURST_BYTES // 4))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while len(socket.frames) < 12:
            turns += 1
            await asyncio.sleep(0)

    await asyncio.wait_for(count(), 5)
    assert turns >= 2


async def test_a_client_that_takes_nothing_is_given_up(object: HibernatingObject) -> None:
    """Events wait while the platform holds much that was not taken; when it stays so, the socket is closed."""
    socket = await object.agent()
    await object.message(socket, prompt("r1"))
    work = await object.service.nth(1)
    socket.buffered = FULL_BYTES + 1
    await work.emit(type="one")
    await work.emit(type="two")
    await object.clock.advance(STALL_SECONDS / 2)
    assert types(socket) == ["ready", "started"]
    socket.buffered = 0
    await object.clock.advance(1)
    assert types(socket) == ["ready", "started", "event", "event"]
    socket.buffered = FULL_BYTES + 1
    await work.emit(type="three")
    await object.clock.advance(STALL_SECONDS + 1)
    assert socket.closes == [(1013, "The client does not read; resume over HTTP")]
    assert not work.settled
