from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from flue.serve.gate import Gate
from tests.serve.exchange import Exchange, until


async def hello(request: Request) -> Any:
    return PlainTextResponse("Hello.")


async def hang(request: Request) -> Any:
    await asyncio.sleep(1000)


async def busy(request: Request) -> Any:
    return PlainTextResponse("Come back.", 503)


async def stubborn(request: Request) -> Any:
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            if request.app.state.enough:
                raise


async def endless(request: Request) -> Any:
    async def pieces() -> Any:
        while True:
            yield b"more "
            await asyncio.sleep(1000)

    return StreamingResponse(pieces())


async def lingering(request: Request) -> Any:
    return PlainTextResponse("Hello.", background=BackgroundTask(asyncio.sleep, 1000))


async def closed(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close()
    await asyncio.sleep(1000)


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.receive()


ROUTES = [
    Route(f"/{route.__name__}", route, methods=["GET", "POST"])
    for route in (hello, hang, busy, stubborn, endless, lingering)
]


@pytest.fixture
def app() -> Starlette:
    made = Starlette(routes=[*ROUTES, WebSocketRoute("/socket", socket), WebSocketRoute("/closed", closed)])
    made.state.enough = False
    return made


@pytest.fixture
def gate(app: Starlette) -> Gate:
    return Gate(app)


async def test_an_open_gate_lets_everything_pass(gate: Gate) -> None:
    answer = Exchange(gate, "/hello")
    await answer.task
    assert (answer.status, answer.body) == (200, b"Hello.")


async def test_a_closed_gate_says_that_the_server_ends_and_when_to_come_again(gate: Gate) -> None:
    gate.close()
    answer = Exchange(gate, "/hello")
    await answer.task
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["connection"] == "close"
    assert json.loads(answer.body)["error"]["type"] == "shutting_down"


async def test_a_closed_gate_refuses_handshakes(gate: Gate) -> None:
    gate.close()
    handshake = Exchange(gate, "/socket", kind="websocket")
    await handshake.task
    assert handshake.status == 503


async def test_every_503_says_when_to_come_again(gate: Gate) -> None:
    answer = Exchange(gate, "/busy")
    await answer.task
    assert answer.headers["retry-after"] == "1"


async def test_an_answer_that_has_not_begun_becomes_a_503_in_the_end(gate: Gate) -> None:
    answer = Exchange(gate, "/hang")
    await asyncio.sleep(0)
    await gate.end(1)
    assert answer.task.done()
    assert answer.status == 503
    assert answer.complete


async def test_a_stream_ends_in_the_end(gate: Gate) -> None:
    answer = Exchange(gate, "/endless")
    await answer.begun.wait()
    await gate.end(1)
    assert (answer.status, answer.body, answer.complete) == (200, b"more ", True)


async def test_a_websocket_is_closed_with_a_code_and_a_reason_in_the_end(gate: Gate) -> None:
    talk = Exchange(gate, "/socket", kind="websocket")
    await talk.begun.wait()
    await gate.end(1)
    assert (talk.close_code, talk.close_reason) == (1012, "The server restarts")


async def test_what_is_complete_gets_no_last_words(gate: Gate) -> None:
    """The server would complain of them."""
    answer, talk = Exchange(gate, "/lingering"), Exchange(gate, "/closed", kind="websocket")
    await until(lambda: answer.complete and talk.close_code)
    await gate.end(1)
    assert answer.task.done()
    assert talk.task.done()
    assert answer.sent == ["http.response.start", "http.response.body"]
    assert talk.sent == ["websocket.accept", "websocket.close"]


async def test_who_does_not_want_to_end_is_waited_for_no_longer_than_agreed(gate: Gate, app: Starlette) -> None:
    answer = Exchange(gate, "/stubborn")
    await asyncio.sleep(0)
    await gate.end(0.01)
    assert not answer.task.done()
    app.state.enough = True
    answer.task.cancel()
    await asyncio.wait({answer.task})


async def test_a_request_that_its_server_cancels_stays_cancelled(gate: Gate) -> None:
    answer = Exchange(gate, "/hang")
    await asyncio.sleep(0)
    answer.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answer.task
    assert answer.status == 0
