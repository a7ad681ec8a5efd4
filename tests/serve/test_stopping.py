"""What becomes of a real server, and of everybody who talks to it, when it is told to end."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.serve.conftest import Write
from tests.serve.server_process import End, serving

pytestmark = [pytest.mark.faults, pytest.mark.timeout(60)]
FILES = {
    "src/workflows/quick.py": "route = True\nasync def run(ctx):\n    return 'done'\n",
    "src/workflows/hang.py": """
        import asyncio, sys
        route = True
        async def run(ctx):
            print("hanging", file=sys.stderr, flush=True)
            while True:
                try:
                    await asyncio.sleep(1000)
                except asyncio.CancelledError:
                    pass
    """,
    "src/workflows/block.py": """
        import sys, time
        route = True
        def run(ctx):
            print("blocking", file=sys.stderr, flush=True)
            time.sleep(ctx.payload["seconds"])
    """,
    "src/workflows/steps.py": """
        import asyncio, pathlib, sys
        route = True
        async def run(ctx):
            async def first():
                with open("first", "a") as file:
                    file.write("x")
            await ctx.step("first", first)
            print("waiting", file=sys.stderr, flush=True)
            while not pathlib.Path("go").exists():
                await asyncio.sleep(0.02)
            return "done"
    """,
    "src/workflows/chatty.py": """
        import asyncio
        route = True
        async def run(ctx):
            while True:
                ctx.log.info("x" * 20000)
                await asyncio.sleep(0)
    """,
    "src/agents/clerk.py": """
        import asyncio, sys
        from flue import create_agent, tool
        from flue.testing import ScriptedModel, call

        route = websocket = True

        @tool
        async def wait() -> str:
            '''Wait.'''
            print("waiting", file=sys.stderr, flush=True)
            await asyncio.sleep(1000)
            return ""

        agent = create_agent(model=ScriptedModel([call("wait", {}, id="c1")]), tools=[wait])
    """,
}


@pytest.fixture
def root(write: Write) -> Path:
    return write(FILES)


def in_time(end: End, code: int = 143) -> None:
    assert end.code == code, end
    assert end.seconds < 5, end
    assert "Traceback" not in end.stderr, end.stderr


def numbers(stream: str) -> list[int]:
    return [int(line.removeprefix("id: ")) for line in stream.splitlines() if line.startswith("id: ")]


@pytest.mark.parametrize("command", ["start", "dev"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_idle_server_ends_at_once_with_the_signals_code(root: Path, command: str, number: int, code: int) -> None:
    with serving(root, command) as server:
        assert server.call("/workflows/quick?wait=result", {})[2]["result"] == "done"
        end = server.stop(number)
    in_time(end, code)
    assert end.seconds < 2
    assert f"[flue] Received {signal.Signals(number).name}, shutting down…" in end.stderr
    assert end.stderr.endswith("[flue] Stopped.\n")


def test_who_waits_for_work_that_hangs_is_told_to_come_again_and_the_server_ends(root: Path) -> None:
    with serving(root) as server:
        waiting = server.send("/workflows/hang?wait=result", {})
        server.until("hanging")
        since = server.tell()
        answer = waiting.getresponse()
        end = server.end(since)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert json.loads(answer.read())["error"]["type"] == "shutting_down"
    in_time(end)


def test_new_work_is_refused_while_the_server_ends(root: Path) -> None:
    with serving(root) as server:
        kept = server.connect()
        kept.connect()
        waiting = server.send("/workflows/hang?wait=result", {})
        server.until("hanging")
        since = server.tell()
        server.until("shutting down")
        for connection in (kept, server.connect()):
            connection.request("POST", "/workflows/quick", "{}", {"content-type": "application/json"})
            answer = connection.getresponse()
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert json.loads(answer.read())["error"]["type"] == "shutting_down"
        waiting.getresponse().read()
        in_time(server.end(since))


def test_sockets_are_closed_with_a_code_and_a_reason(root: Path) -> None:
    with serving(root) as server:
        with connect(f"ws://127.0.0.1:{server.port}/agents/clerk/ann") as idle:
            assert json.loads(idle.recv())["type"] == "ready"
            idle.send(json.dumps({"version": 1, "type": "prompt", "requestId": "r1", "message": "Hi."}))
            server.until("waiting")
            since = server.tell()
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    idle.recv(timeout=10)
        in_time(server.end(since))
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1012, "The server restarts")


def test_streams_end_and_can_be_resumed_from_where_they_were(root: Path) -> None:
    with serving(root) as server:
        run = server.call("/workflows/steps", {})[2]["runId"]
        server.until("waiting")
        stream = server.send(f"/runs/{run}/stream").getresponse()
        since = server.tell()
        first = stream.read().decode()  # ends, and is complete: http.client raises IncompleteRead else
        in_time(server.end(since))
    last = numbers(first)[-1]
    (root / "go").touch()
    with serving(root) as server:
        headers = {"last-event-id": str(last)}
        rest = server.send(f"/runs/{run}/stream", **headers).getresponse().read().decode()
    assert "event: run_resume" in rest
    assert "event: run_end" in rest
    assert min(numbers(rest)) > last


# DUR-26
def test_accepted_work_goes_on_after_the_next_start_and_steps_are_not_repeated(root: Path) -> None:
    with serving(root) as server:
        run = server.call("/workflows/steps", {})[2]["runId"]
        server.until("waiting")
        in_time(server.stop())
    (root / "go").touch()
    with serving(root) as server:
        seen: Any = {"status": "active"}
        while seen["status"] == "active" or seen.get("restartedAsRunId"):
            run = seen.get("restartedAsRunId", run)
            seen = server.call(f"/runs/{run}")[2]
            seen = seen.get("run", seen)
        in_time(server.stop())
    assert (seen["status"], seen["result"]) == ("completed", "done")
    assert (root / "first").read_text() == "x"


def test_clients_that_never_read_do_not_hold_the_server(root: Path) -> None:
    with serving(root) as server, contextlib.ExitStack() as stack:
        run = server.call("/workflows/chatty", {})[2]["runId"]
        silent = [stack.enter_context(socket.socket()) for _ in range(3)]
        for connection in silent:
            connection.settimeout(15)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(f"GET /runs/{run}/stream HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        half = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        half.sendall(b"POST /workflows/quick HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{")
        for connection in silent:
            assert connection.recv(12) == b"HTTP/1.1 200"
        end = server.stop()
    in_time(end)
    assert "Stopped." in end.stderr, "work that tells more than can be written is given back in good order"


@pytest.mark.parametrize("seconds", [2, 60])
def test_a_function_that_blocks_the_loop_does_not_hold_the_server(root: Path, seconds: int) -> None:
    with serving(root) as server:
        server.send("/workflows/block", {"seconds": seconds})
        server.until("blocking")
        end = server.stop()
    assert end.code == 143
    assert end.seconds < 5, end


@pytest.mark.parametrize("path", ["hang", "block"])
def test_the_second_signal_ends_it_at_once(root: Path, path: str) -> None:
    with serving(root) as server:
        server.send(f"/workflows/{path}", {"seconds": 60})
        server.until(f"{path}ing")
        server.tell()
        server.until("shutting down")
        end = server.stop(signal.SIGINT)
    assert end.code == 130
    assert end.seconds < 0.5, end
