"""`flue start --workers 2` as it is: several processes on one port and one file."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.serve.conftest import Write
from tests.serve.server_process import CODE, End, Server, serving

pytestmark = [pytest.mark.faults, pytest.mark.timeout(60)]
SECONDS = 15.0
FILES = {
    "src/workflows/where.py": "import os\nroute = True\nasync def run(ctx):\n    return os.getpid()\n",
    "src/workflows/steps.py": """
        import asyncio, os, pathlib
        route = True
        async def run(ctx):
            async def first():
                with open("first", "a") as file:
                    file.write(f"{ctx.lineage_id} {os.getpid()}\\n")
            await ctx.step("first", first)
            while not pathlib.Path("go").exists():
                await asyncio.sleep(0.02)
            return "done"
    """,
    "src/workflows/note.py": """
        import os
        from flue import schedule
        if "AT" in os.environ:
            schedule(workflow="note", id="once", at=os.environ["AT"], input={})
        async def run(ctx):
            with open("noted", "a") as file:
                file.write(f"{os.getpid()}\\n")
    """,
    "src/agents/clerk.py": """
        import asyncio, itertools, pathlib
        from flue import create_agent, tool
        from flue.testing import ScriptedModel, call

        route = websocket = True

        @tool
        async def hold() -> str:
            '''Wait.'''
            pathlib.Path("held").touch()
            while not pathlib.Path("go").exists():
                await asyncio.sleep(0.02)
            return "held"

        @tool(approval=True)
        async def refund() -> str:
            '''Give money back.'''
            return "given"

        def answer(request):
            said = request.messages[-1]
            if said.role != "user":
                return "done"
            text = str(said.content)
            return call("hold", {}) if "hold" in text else call("refund", {}) if "refund" in text else "done"

        agent = create_agent(model=ScriptedModel(itertools.repeat(answer)), tools=[hold, refund])
    """,
}


@pytest.fixture
def root(write: Write) -> Path:
    return write(FILES)


def eventually(happens: Callable[[], Any]) -> Any:
    """Return what comes of it, as soon as that is something."""
    end = time.monotonic() + SECONDS
    while not (found := happens()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
    return found


class Face:
    """A connection to one of the workers, which stays there."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self.connection = connection
        self.pid: int = self.call("/workflows/where?wait=result", {})["result"]

    def send(self, path: str, payload: Any = None, **headers: str) -> http.client.HTTPConnection:
        """Send a request whose answer is read later."""
        method = "GET" if payload is None else "POST"
        body = None if payload is None else json.dumps(payload)
        self.connection.request(
            method, path, body, {"content-type": "application/json", **headers} if body else headers
        )
        return self.connection

    def call(self, path: str, payload: Any = None, **headers: str) -> Any:
        """Return the JSON of an answer."""
        answer = self.send(path, payload, **headers).getresponse()
        return {"http": answer.status, **json.loads(answer.read())}


def faces(server: Server, *, beside: int | None = None, each: int = 1) -> list[list[Face]]:
    """Return connections to both workers; `beside` is the process id of one that is not meant."""
    found: dict[int, list[Face]] = {}

    def both() -> bool:
        face = Face(server.connect())
        if face.pid != beside:
            found.setdefault(face.pid, []).append(face)
        return len(found) == 2 and all(len(its) >= each for its in found.values())

    eventually(both)
    return list(found.values())


def completed(face: Face, path: str) -> None:
    """Wait until a run or a submission is."""
    eventually(lambda: face.call(path)["status"] == "completed")


def in_time(end: End, code: int = 143) -> None:
    assert end.code == code, end
    assert end.seconds < 5, end
    assert "Traceback" not in end.stderr, end.stderr
    assert (end.stderr.count("shutting down"), end.stderr.count("Stopped.")) == (1, 1), end.stderr


def events_of(stream: str) -> list[str]:
    return [line.removeprefix("event: ") for line in stream.splitlines() if line.startswith("event: ")]


def test_both_answer_on_one_port_and_one_of_them_says_so(root: Path) -> None:
    with serving(root, "start", "--workers", "2") as server:
        (one,), (other,) = ([face[0]] for face in faces(server))
        assert one.pid != other.pid
        assert server.process.pid not in (one.pid, other.pid)
        end = server.stop()
    in_time(end)
    assert end.seconds < 2
    lines = end.stderr.splitlines()
    assert lines[0].startswith("[flue] Server listening on http://localhost:")
    said = ["[flue] Workers: 2", "[flue] Agents: clerk", "[flue] Workflows: note, steps, where"]
    assert lines[1:] == [*said, "", "[flue] Received SIGTERM, shutting down…", "[flue] Stopped."]


def test_connections_that_are_opened_in_one_moment_are_shared_out(root: Path) -> None:
    with serving(root, "start", "--workers", "2") as server:
        ((one, *_), _) = faces(server)
        parts = sorted(share_of(one.pid, [server.connect() for _ in range(16)]) for _ in range(7))
    assert 3 <= parts[3] <= 13, parts  # a busy machine may let one of them sleep now and then


def share_of(pid: int, connections: list[http.client.HTTPConnection]) -> int:
    """Open connections at once; return how many of them a worker has."""
    for connection in connections:
        connection.connect()
    return sum(Face(connection).pid == pid for connection in connections)


def test_the_environment_file_says_how_many(root: Path) -> None:
    (root / ".env").write_text("WEB_CONCURRENCY=2\n")
    with serving(root) as server:
        server.until("Workers: 2")
        assert len(faces(server)) == 2
    with serving(root, "start", "--workers", "1") as server:
        assert Face(server.connect()).pid == server.process.pid


# DUR-14
def test_what_a_killed_worker_had_accepted_goes_on_in_the_other_whose_clients_notice_nothing(root: Path) -> None:
    with serving(root, "start", "--workers", "2") as server:
        dying, living = faces(server, each=7)
        runs = [face.call("/workflows/steps", {})["runId"] for face in dying[:3]]
        streams = []
        for number, face in enumerate(dying[3:6]):
            path = f"/agents/clerk/customer-{number}"
            answer = face.send(path, {"message": "Please hold."}, accept="text/event-stream").getresponse()
            streams.append(f"{path}/submissions/{answer.headers['x-flue-submission-id']}")
        for face in living[:3]:
            face.send("/workflows/steps?wait=result", {})
        for number, face in enumerate(living[3:6]):
            face.send(f"/agents/clerk/other-{number}", {"message": "Please hold."})
        eventually(lambda: (root / "first").exists() and len((root / "first").read_text().split("\n")) == 7)
        os.kill(dying[0].pid, signal.SIGKILL)
        server.until(f"Worker {dying[0].pid} was killed by SIGKILL")
        look = living[6]
        eventually(lambda: all("restartedAsRunId" in look.call(f"/runs/{run}") for run in runs))
        (root / "go").touch()
        for face in living[:6]:
            answer = face.connection.getresponse()
            said = json.loads(answer.read())["result"]
            assert (answer.status, said if isinstance(said, str) else said["text"]) == (200, "done")
        for path in streams:
            completed(look, path)
            assert Counter(event["type"] for event in look.call(f"{path}/events?limit=1000")["events"])["idle"] == 1
        for run in runs:
            last = look.call(f"/runs/{run}")["restartedAsRunId"]
            completed(look, f"/runs/{last}")
            ended = [event["type"] for event in look.call(f"/runs/{last}/events")["events"]]
            assert (ended.count("run_end"), look.call(f"/runs/{last}")["result"]) == (1, "done")
        lineages = Counter(line.split()[0] for line in (root / "first").read_text().splitlines())
        assert set(lineages.values()) == {1}, "no recorded step ran again"
        assert living[0].pid in {face[0].pid for face in faces(server, beside=dying[0].pid)}, "another has come"
        in_time(server.stop())


def test_what_a_worker_does_can_be_followed_ended_and_decided_at_another(root: Path) -> None:
    with serving(root, "start", "--workers", "2") as server:
        here, there = faces(server, each=3)
        run = here[0].call("/workflows/steps", {})["runId"]
        aborted = here[0].call("/workflows/steps", {})["runId"]
        here[1].send("/agents/clerk/bob", {"message": "Please hold."})
        stream = there[0].send(f"/runs/{run}/stream").getresponse()
        assert there[1].call(f"/runs/{aborted}/abort", {})["http"] in (200, 202)
        eventually(lambda: here[0].call(f"/runs/{aborted}")["status"] == "errored")
        there[2].send("/agents/clerk/bob", {"message": "And then?"})  # waits for the one before
        eventually((root / "held").exists)
        (root / "go").touch()
        assert events_of(stream.read().decode())[-1] == "run_end"
        for face in (here[1], there[2]):
            assert json.loads(face.connection.getresponse().read())["result"]["text"] == "done"
        waits = here[0].call("/agents/clerk/cid", {"message": "A refund, please."})
        assert waits["waitingFor"]["reason"] == "approval"
        [call] = waits["waitingFor"]["toolCallIds"]
        assert there[0].call(f"/agents/clerk/cid/approvals/{call}", {"approved": True})["http"] == 202
        path = f"/agents/clerk/cid/submissions/{waits['submissionId']}"
        completed(there[0], path)
        same = {face.call("/workflows/where", {}, **{"idempotency-key": "k"})["runId"] for face in (here[0], there[0])}
        assert len(same) == 1


def test_a_socket_at_one_worker_and_a_stream_at_the_other_tell_the_same(root: Path) -> None:
    with serving(root, "start", "--workers", "2") as server:
        (here,), (there,) = ([face[0]] for face in faces(server))
        stream = there.send("/agents/clerk/ann/stream").getresponse()
        assert here.connection.sock is not None
        with connect(f"ws://127.0.0.1:{server.port}/agents/clerk/ann", sock=here.connection.sock) as ws:
            assert json.loads(ws.recv())["type"] == "ready"
            ws.send(json.dumps({"version": 1, "type": "prompt", "requestId": "r1", "message": "Hello."}))
            while json.loads(frame := ws.recv(timeout=SECONDS))["type"] != "result":
                pass
            assert json.loads(frame)["result"]["text"] == "done"
            seen = ""
            while "event: idle" not in seen:
                seen += stream.readline().decode()
            since = server.tell()
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    ws.recv(timeout=SECONDS)
        in_time(server.end(since))
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1012, "The server restarts")


def test_a_schedule_fires_once(root: Path) -> None:
    at = datetime.now(UTC) + timedelta(seconds=4)
    with serving(root, "start", "--workers", "2", AT=at.isoformat()) as server:
        faces(server)
        eventually((root / "noted").exists)
        time.sleep(0.5)
        assert len((root / "noted").read_text().split()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("group", [False, True], ids=["the-supervisor", "everybody"])
def test_in_the_middle_of_answers_all_workers_end_in_good_order_and_say_nothing(
    root: Path, number: int, group: bool
) -> None:
    """A terminal's Ctrl-C and systemd's SIGTERM come to everybody."""
    with serving(root, "start", "--workers", "2") as server:
        asked = [face[0] for face in faces(server)]
        for face in asked:
            face.send("/workflows/steps?wait=result", {})
        eventually(lambda: (root / "first").exists() and len((root / "first").read_text().split("\n")) == 3)
        since = time.monotonic()
        if group:
            os.killpg(server.process.pid, number)
        else:
            server.tell(number)
        for face in asked:
            answer = face.connection.getresponse()
            assert (answer.status, json.loads(answer.read())["error"]["type"]) == (503, "shutting_down")
        in_time(server.end(since), 128 + number)


def test_the_second_signal_ends_all_at_once(root: Path) -> None:
    with serving(root, "start", "--workers", "2") as server:
        for face in faces(server):
            face[0].send("/workflows/steps?wait=result", {})
        server.tell()
        server.until("shutting down")
        end = server.stop(signal.SIGINT)
    assert end.code == 130
    assert end.seconds < 0.5, end


def test_no_worker_outlives_its_supervisor(root: Path) -> None:
    with serving(root, "start", "--workers", "2") as server:
        asked = [face[0] for face in faces(server)]
        for face in asked:
            face.send("/workflows/steps?wait=result", {})
        end = server.stop(signal.SIGKILL)  # waits until nobody has its end of the pipe any more
        assert [face.connection.getresponse().status for face in asked] == [503, 503]
        with pytest.raises(ConnectionRefusedError):
            server.connect().connect()
    assert end.code == -signal.SIGKILL
    assert end.seconds < 5, end


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"src/workflows/where.py": "route = True\nimport nothing_of_this_name\n"}, "nothing_of_this_name"),
        ({"flue.toml": "targt = 'server'\n"}, "targt"),
    ],
)
def test_a_project_that_does_not_load_is_said_once_and_ends_the_command(
    write: Write, files: dict[str, str], says: str
) -> None:
    root = write({**FILES, **files})
    arguments = [sys.executable, "-c", CODE, "start", "--port", "0", "--workers", "2"]
    done = subprocess.run(arguments, cwd=root, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert done.stderr.count("error: ") == done.stderr.count("\n") == 1, done.stderr
    assert says in done.stderr


def test_workers_that_cannot_start_any_more_are_tried_again_with_growing_pauses(root: Path) -> None:
    module = root / "src/workflows/where.py"
    text = module.read_text()
    with serving(root, "start", "--workers", "2") as server:
        one, other = faces(server)
        module.write_text("route = nothing\n")
        os.kill(other[0].pid, signal.SIGKILL)
        server.until("was killed by SIGKILL; the next one starts in 0.5 s")
        server.until("ended with exit code 1; the next one starts in 1 s")
        assert one[0].call("/workflows/where?wait=result", {})["result"] == one[0].pid
        module.write_text(text)
        faces(server)
        end = server.stop()
    in_time(end)
    assert end.stderr.count("error: ") == 1
