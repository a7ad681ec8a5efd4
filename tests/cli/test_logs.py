"""`flue logs`: a run's events, from a server or from the project's own store."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flue.messages import Json
from flue.server.app import asgi
from tests.cli.conftest import Flue, Outcome, Write
from tests.sdk.scripted_server import Handler, Reply, Request, ScriptedServer, answer, events, problem, sse
from tests.server.loopback import served

COUNT = """
async def run(ctx):
    for number in range(ctx.payload.get("to", 3)):
        ctx.log.info(f"number {number}")
    if ctx.payload.get("fail"):
        raise ValueError("no more numbers")
    return "counted"
"""


class Background:
    """An event loop in a thread of its own, so that commands may use this thread's."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=10)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture
def background() -> Iterator[Background]:
    running = Background()
    yield running
    running.stop()


@pytest.fixture
def scripted(background: Background) -> Iterator[Callable[[Handler], str]]:
    """Start servers that answer as a test says; gives their addresses."""
    started: list[ScriptedServer] = []

    def start(handler: Handler) -> str:
        server = ScriptedServer(handler)
        background.run(server.__aenter__())
        started.append(server)
        return server.url

    yield start
    for server in started:
        background.run(server.__aexit__())


def run_of(done: Outcome) -> str:
    """Return the id that `flue run` has told."""
    return next(line for line in done.err.splitlines() if "Run ID: " in line).rpartition(" ")[2]


def events_of(done: Outcome) -> list[Json]:
    return [json.loads(line) for line in done.out.splitlines()]


def lines(done: Outcome, run_id: str) -> list[str]:
    """Return what was written for people, without ids and times."""
    return [
        line.replace(run_id, "RUN").rpartition("  (")[0] if "run:end" in line else line.replace(run_id, "RUN")
        for line in done.err.splitlines()
    ]


COUNTED = [
    "[flue] run:start  RUN  workflow=count",
    "[flue] info: number 0",
    "[flue] info: number 1",
    "[flue] info: number 2",
    "[flue] run:end    RUN  ok",
]


def test_a_run_is_read_from_the_store_without_a_server(flue: Flue, write: Write) -> None:
    write({"workflows/count.py": COUNT})
    run_id = run_of(flue("run", "count"))
    done = flue("logs", "--local", run_id)
    assert (done.code, done.out) == (0, "")
    assert lines(done, run_id) == COUNTED


def test_a_run_that_ended_with_an_error_is_exit_code_2(flue: Flue, write: Write) -> None:
    write({"workflows/count.py": COUNT})
    run_id = run_of(flue("run", "count", "--payload", '{"fail": true}'))
    for how in ([], ["--follow"], ["--no-follow"], ["--limit", "1"], ["--json"]):
        assert flue("logs", "--local", run_id, *how).code == 2
    assert lines(flue("logs", "--local", run_id), run_id)[-1] == "[flue] run:end    RUN  ERROR  no more numbers"


@pytest.mark.parametrize("form", [["--format", "json"], ["--format", "ndjson"], ["--json"]])
def test_each_event_is_a_line_of_json_where_it_is_asked_for(flue: Flue, write: Write, form: list[str]) -> None:
    write({"workflows/count.py": COUNT})
    run_id = run_of(flue("run", "count"))
    done = flue("logs", "--local", run_id, *form)
    assert done.err == ""
    found = events_of(done)
    assert [event["type"] for event in found if event["type"] != "idle"] == [
        "run_start",
        "log",
        "log",
        "log",
        "run_end",
    ]
    assert [event["eventIndex"] for event in found] == list(range(len(found)))


@pytest.mark.parametrize(
    ("options", "wanted", "limit"),
    [
        (["--since", "2"], lambda event: event["eventIndex"] > 2, None),
        (["--since", "99"], lambda event: False, None),
        (["--types", "log, run_end"], lambda event: event["type"] in ("log", "run_end"), None),
        (["--types", "log", "--limit", "2"], lambda event: event["type"] == "log", 2),
        (["--limit", "0"], lambda event: True, 0),
        (
            ["--since", "1", "--types", "log", "--limit", "9", "--follow"],
            lambda event: event["eventIndex"] in (2, 3),
            9,
        ),
        (["--limit", "2", "--follow"], lambda event: True, 2),
    ],
)
def test_a_part_of_the_events_can_be_asked_for(
    flue: Flue, write: Write, options: list[str], wanted: Callable[[Json], bool], limit: int | None
) -> None:
    write({"workflows/count.py": COUNT})
    run_id = run_of(flue("run", "count"))
    every = events_of(flue("logs", "--local", run_id, "--json"))
    part = events_of(flue("logs", "--local", run_id, "--json", *options))
    assert part == [event for event in every if wanted(event)][:limit]


@pytest.mark.parametrize(
    ("types", "said"),
    [
        ("tool:start,log", ['[flue] No event has the type "tool:start". Did you mean "tool_start"?']),
        ("lgo", ['[flue] No event has the type "lgo". Did you mean "log"?']),
        ("xyzzy", ['[flue] No event has the type "xyzzy". docs/reference/events.md lists them.']),
        ("tool_call, run_end", []),
    ],
)
def test_a_type_that_no_event_has_is_said(flue: Flue, write: Write, types: str, said: list[str]) -> None:
    write({"workflows/count.py": COUNT})
    run_id = run_of(flue("run", "count"))
    done = flue("logs", "--local", run_id, "--json", "--types", types)
    assert (done.code, done.err.splitlines()) == (0, said)


def test_the_project_is_not_loaded_to_read_its_store(flue: Flue, write: Write) -> None:
    root = write({"workflows/count.py": COUNT})
    run_id = run_of(flue("run", "count"))
    (root / "workflows/count.py").write_text("1 / 0")
    assert lines(flue("logs", "--local", run_id), run_id) == COUNTED


def test_the_address_in_the_environment_selects_the_store(flue: Flue, write: Write) -> None:
    root = write({"workflows/count.py": COUNT, ".env": "FLUE_DATABASE_URL=sqlite:///elsewhere.db\n"})
    run_id = run_of(flue("run", "count"))
    assert (root / "elsewhere.db").exists()
    assert not (root / ".flue-data").exists()
    assert lines(flue("logs", "--local", run_id), run_id)[1:] == COUNTED


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--local", "workflow:count:X"], "There is no run workflow:count:X in the store."),
        (["--local", "x", "--server", "http://127.0.0.1:1"], "--local asks no server."),
        (["x", "--since", "-1"], "flue logs: argument --since: "),
        (["x", "--since", "soon"], '"soon" is not a whole number from 0 on'),
        (["x", "--limit", "1.5"], '"1.5" is not a whole number from 0 on'),
        (["x", "--follow", "--no-follow"], "not allowed with argument"),
        (["x", "--format", "xml"], "invalid choice: 'xml'"),
        (["x", "--header", "s3cret"], "--header takes NAME:VALUE."),
        (["x", "--server", "not a url"], "[invalid_url]"),
    ],
)
def test_bad_input_is_one_error_and_exit_code_1(flue: Flue, write: Write, arguments: list[str], problem: str) -> None:
    write({"workflows/count.py": COUNT})
    flue("run", "count")
    done = flue("logs", *arguments)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: ")
    assert problem in done.err
    assert "s3cret" not in done.err
    assert "Traceback" not in done.err


def test_reading_leaves_no_store_behind(flue: Flue, write: Write) -> None:
    root = write({"workflows/count.py": COUNT})
    done = flue("logs", "--local", "x")
    assert done.code == 1
    assert "[store_not_found]" in done.err
    assert not (root / ".flue-data").exists()


# ------------------------------------------------------------------------------------------------ from a server


@pytest.fixture
def server(write: Write, background: Background) -> Iterator[str]:
    """Serve a project that counts; gives the address."""
    root = write({"workflows/count.py": f"route = True\n{COUNT}"})

    @contextmanager
    def serving() -> Iterator[str]:
        app = asgi(root)
        context = served(app)
        yield f"http://{background.run(context.__aenter__())}"
        background.run(context.__aexit__(None, None, None))
        background.run(app.application.drain())

    with serving() as url:
        yield url


def test_a_run_is_read_from_a_server_however_long_it_is(flue: Flue, server: str) -> None:
    run_id = run_of(flue("run", "count", "--payload", '{"to": 2300}'))
    for how in ("--no-follow", "--follow"):
        done = flue("logs", run_id, "--server", server, "--json", how)
        assert (done.code, done.err) == (0, "")
        found = events_of(done)
        assert [event["eventIndex"] for event in found] == list(range(len(found)))
        logged = [event["message"] for event in found if event["type"] == "log"]
        assert logged == [f"number {number}" for number in range(2300)]
    rest = flue("logs", run_id, "--server", server, "--json", "--since", "2290", "--types", "log", "--limit", "5")
    assert [json.loads(line)["message"] for line in rest.out.splitlines()] == [f"number {n}" for n in range(2290, 2295)]


def test_an_unknown_run_of_a_server_is_told_as_the_server_told_it(flue: Flue, server: str) -> None:
    done = flue("logs", "workflow:count:X", "--server", server)
    assert done.code == 1
    assert done.err.startswith("error: HTTP 404: ")
    assert done.err.endswith("[run_not_found]\n")


def test_without_a_server_it_says_what_to_do(flue: Flue) -> None:
    done = flue("logs", "x", "--server", "http://127.0.0.1:9")
    assert done.code == 1
    assert "--local" in done.err
    assert "Traceback" not in done.err


def run_record(status: str, **more: Any) -> Json:
    return {"runId": "r", "status": status, "startedAt": "2026-01-01T00:00:00.000Z", **more}


def test_an_active_run_is_followed_over_broken_connections(flue: Flue, scripted: Callable[[Handler], str]) -> None:
    asked: list[int] = []

    def handle(request: Request) -> Reply:
        if request.path.endswith("/runs/r"):
            return answer(run_record("errored" if len(asked) > 2 else "active"))
        asked.append(request.after)
        first = request.after + 1
        if len(asked) == 1:
            return events([sse(log(n)) for n in range(first, 3)], cut=True)
        if len(asked) == 2:
            return events([sse(log(n)) for n in range(first, 5)])
        return events([sse({"type": "run_end", "runId": "r", "isError": True, "durationMs": 1, "eventIndex": 5})])

    done = flue("logs", "r", "--server", scripted(handle), "--json")
    assert [json.loads(line)["eventIndex"] for line in done.out.splitlines()] == [0, 1, 2, 3, 4, 5]
    assert (done.code, asked) == (2, [-1, 2, 4])


def log(index: int) -> Json:
    return {"type": "log", "level": "info", "message": f"line {index}", "eventIndex": index}


def test_headers_are_sent_with_every_request(flue: Flue, scripted: Callable[[Handler], str]) -> None:
    seen: list[str | None] = []

    def handle(request: Request) -> Reply:
        seen.append(request.headers.get("authorization"))
        return answer({"events": []} if "events" in request.path else run_record("completed"))

    assert flue("logs", "r", "--server", scripted(handle), "--header", "Authorization: Bearer s3cret").code == 0
    assert set(seen) == {"Bearer s3cret"}
    assert len(seen) == 3


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, {"content-type": "text/html"}, [b"<h1>Welcome</h1>"]),
        answer(["not", "an", "object"]),
        answer({"events": "none"}),
        answer({"events": [{"type": "log"}]}),
        answer({"events": [{**log(0), "eventIndex": "soon"}]}),
        Reply(302, {"location": "http://127.0.0.1:9/"}),
        problem(500, "internal_error"),
        Reply(200, {"content-type": "application/json"}, [b"{", b"\xff" * 100], cut=True),
    ],
)
def test_a_server_that_is_no_flue_server_is_one_error(
    flue: Flue, scripted: Callable[[Handler], str], reply: Reply
) -> None:
    url = scripted(lambda request: reply if "events" in request.path else answer(run_record("completed")))
    done = flue("logs", "r", "--server", url)
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.err


def test_a_server_that_gives_the_same_page_for_ever_is_found_out(
    flue: Flue, scripted: Callable[[Handler], str]
) -> None:
    page = answer({"events": [log(0), log(1)]})
    url = scripted(lambda request: page if "events" in request.path else answer(run_record("completed")))
    done = flue("logs", "r", "--server", url)
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith("error: The run's events have no order.")


def test_text_of_a_server_does_not_reach_the_terminal_as_commands(
    flue: Flue, scripted: Callable[[Handler], str]
) -> None:
    evil = {**log(0), "message": "\x1b]0;owned\x07\ud800"}
    replies = iter([answer({"events": [evil]}), answer({"events": []})] * 2)
    url = scripted(
        lambda request: (
            next(replies) if "events" in request.path else answer(run_record("completed", restartedAsRunId="r2"))
        )
    )
    done = flue("logs", "r", "--server", url)
    assert "\x1b" not in done.err
    assert done.err.splitlines()[-1] == "[flue] Run r2 takes its place."
    assert json.loads(flue("logs", "r", "--server", url, "--json").out)["message"] == evil["message"]


@pytest.mark.e2e
def test_a_run_of_another_process_is_followed_while_it_goes_on_and_ctrl_c_ends_the_following(
    write: Write, spawn: Callable[..., Any]
) -> None:
    write(
        {
            "workflows/slow.py": """
                import asyncio, pathlib

                async def run(ctx):
                    ctx.log.info("begun")
                    while not pathlib.Path("go").exists():
                        await asyncio.sleep(0.01)
                    return "done"
            """
        }
    )
    running = spawn("run", "slow")
    running.until("info: begun")
    run_id = next(line for line in running.seen.decode().splitlines() if "Run ID" in line).rpartition(" ")[2]
    first, second = spawn("logs", "--local", run_id), spawn("logs", "--local", run_id)
    first.until("info: begun")
    second.until("info: begun")
    first.process.send_signal(signal.SIGINT)
    assert first.finish().code == 130
    Path("go").touch()
    assert running.finish().code == 0
    done = second.finish()
    assert done.code == 0
    assert "run:end" in done.err


@pytest.mark.e2e
def test_a_reader_of_stdout_that_goes_away_is_no_traceback(flue: Flue, write: Write, spawn: Callable[..., Any]) -> None:
    write({"workflows/count.py": COUNT})
    run_id = run_of(flue("run", "count", "--payload", '{"to": 2000}'))
    child = spawn("logs", "--local", run_id, "--json")
    child.process.stdout.readline()
    child.process.stdout.close()
    child.process.stdout = None
    done = child.process.wait(timeout=15)
    assert done == 1
    assert b"Traceback" not in child.process.stderr.read()
