"""Streams of events survive every way a connection can end, and give each event once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, nullcontext
from typing import Any

import pytest

from flue.errors import UsageError
from flue.sdk import AsyncClient, FlueApiError, FlueTransportError
from flue.sdk import requests as sdk_requests
from flue.sdk.streams import Log, Retry, follow
from tests.sdk.scripted_server import Json, Reply, Request, ScriptedServer, answer, events, problem, sse

RUN = "workflow:slow:01M7"
LOG: list[Json] = [
    {"type": "run_start", "runId": RUN, "eventIndex": 0},
    *({"type": "text_delta", "text": "déjà\u2028vu" * n, "runId": RUN, "eventIndex": n} for n in range(1, 7)),
    {"type": "run_end", "runId": RUN, "result": None, "eventIndex": 7},
]
FAST: Any = {"initial_retry_ms": 1}


async def read(stream: AsyncIterator[Any]) -> list[Any]:
    return [event async for event in stream]


def run_server(*, cut_after: int, cleanly: bool, restarts: bool = False) -> ScriptedServer:
    """Return a server whose connections end after so many events, and which may know no `Last-Event-ID`."""

    def handler(request: Request) -> Reply:
        if not request.path.endswith("/stream"):
            return answer({"runId": RUN, "status": "active"})
        left = LOG if restarts else LOG[request.after + 1 :]
        shown = left[: cut_after + request.after + 1 if restarts else cut_after]
        return events([sse(event) for event in shown], cut=not cleanly)

    return ScriptedServer(handler)


@pytest.mark.parametrize("cleanly", [True, False])
@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("cut_after", range(1, len(LOG) + 1))
async def test_a_stream_cut_after_every_so_many_events_gives_the_same_events(
    cut_after: int, restarts: bool, cleanly: bool
) -> None:
    async with (
        run_server(cut_after=cut_after, cleanly=cleanly, restarts=restarts) as server,
        AsyncClient(base_url=server.url) as client,
    ):
        assert await read(client.runs.stream(RUN, **FAST)) == LOG


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
async def test_frames_may_be_split_at_every_byte(end: str) -> None:
    whole = b": heartbeat" + 2 * end.encode() + b"".join(sse(event, end=end) for event in LOG)

    def handler(request: Request) -> Reply:
        at = int(request.path.split("split-")[1].partition("/")[0])
        return events([whole[:at], whole[at:]] if at else [whole[i : i + 1] for i in range(len(whole))])

    async with ScriptedServer(handler) as server, AsyncClient(base_url=server.url) as client:
        for at in range(0, len(whole), 31):
            assert await read(client.runs.stream(f"split-{at}", **FAST)) == LOG


async def test_an_event_that_the_end_cuts_off_comes_whole_the_next_time() -> None:
    def handler(request: Request) -> Reply:
        if request.after == -1:
            return events([sse(LOG[0]), sse(LOG[1])[:-1]])
        return events([sse(event) for event in LOG[request.after + 1 :]])

    async with ScriptedServer(handler) as server, AsyncClient(base_url=server.url) as client:
        server._handler = lambda request: handler(request) if "stream" in request.path else answer({"status": "active"})
        assert await read(client.runs.stream(RUN, **FAST)) == LOG
        assert [request.after for request in server.requests if "stream" in request.path] == [-1, 0]


async def test_a_stream_goes_on_after_the_event_that_the_caller_knows() -> None:
    async with (
        run_server(cut_after=100, cleanly=True) as server,
        AsyncClient(base_url=server.url) as client,
    ):
        assert await read(client.runs.stream(RUN, last_event_id="4", **FAST)) == LOG[5:]


async def test_a_run_whose_end_is_known_already_has_nothing_more() -> None:
    def handler(request: Request) -> Reply:
        return events([]) if request.path.endswith("/stream") else answer({"runId": RUN, "status": "completed"})

    async with ScriptedServer(handler) as server, AsyncClient(base_url=server.url) as client:
        assert await read(client.runs.stream(RUN, last_event_id="7", **FAST)) == []


async def test_a_stream_that_brings_nothing_is_given_up_after_three_more_tries() -> None:
    def handler(request: Request) -> Reply:
        if not request.path.endswith("/stream"):
            return answer({"status": "active"})
        return events([sse(LOG[0])] if request.after < 0 else [])

    async with ScriptedServer(handler) as server, AsyncClient(base_url=server.url) as client:
        with pytest.raises(FlueTransportError, match=r"^SSE stream closed before run_end\.$") as caught:
            await read(client.runs.stream(RUN, **FAST))
        assert caught.value.code == "stream_closed"
        assert len([request for request in server.requests if "stream" in request.path]) == 1 + 3


async def test_the_tries_are_counted_anew_after_every_new_event() -> None:
    asked: dict[int, int] = {}

    def handler(request: Request) -> Reply:
        asked[request.after] = asked.get(request.after, 0) + 1
        shown = [LOG[request.after + 1]] if asked[request.after] == 3 else []
        return events(map(sse, shown), cut=True)

    async with ScriptedServer(handler) as server, AsyncClient(base_url=server.url) as client:
        assert await read(client.runs.stream(RUN, max_retries=3, **FAST)) == LOG


async def test_a_server_that_is_away_for_a_moment_is_asked_again() -> None:
    statuses = [503, 502, 429]

    def handler(request: Request) -> Reply:
        return problem(statuses.pop(), "shutting_down") if statuses else events(map(sse, LOG))

    async with ScriptedServer(handler) as server, AsyncClient(base_url=server.url) as client:
        assert await read(client.runs.stream(RUN, **FAST)) == LOG


async def test_a_refusal_is_no_reason_to_ask_again() -> None:
    async with (
        ScriptedServer(lambda _: problem(404, "run_not_found")) as server,
        AsyncClient(base_url=server.url) as client,
    ):
        with pytest.raises(FlueApiError) as caught:
            await read(client.runs.stream("nope"))
        assert (caught.value.status, caught.value.code) == (404, "run_not_found")
        assert len(server.requests) == 1


async def test_trouble_with_the_stream_itself_is_survived() -> None:
    error = b'event: error\ndata: {"error":{"type":"internal_error","message":"The store is away.","details":""}}\n\n'
    troubles = [error, error]

    def handler(request: Request) -> Reply:
        left = [sse(event) for event in LOG[request.after + 1 :]]
        return events([left[0], troubles.pop()] if troubles else left)

    async with ScriptedServer(handler) as server, AsyncClient(base_url=server.url) as client:
        assert await read(client.runs.stream(RUN, **FAST)) == LOG
        troubles += [error] * 20
        with pytest.raises(FlueApiError, match="The store is away"):
            await read(client.runs.stream(RUN, last_event_id="3", max_retries=0))


@pytest.mark.parametrize("data", ["{", "[]", "7", "null", '{"a":' + "[" * 100_000])
async def test_an_event_that_is_no_event_ends_the_stream_at_once(data: str) -> None:
    async with (
        ScriptedServer(lambda _: events([f"data: {data}\n\n".encode()])) as server,
        AsyncClient(base_url=server.url) as client,
    ):
        with pytest.raises(FlueTransportError) as caught:
            await read(client.runs.stream(RUN))
        assert caught.value.code == "server_protocol"
        assert len(server.requests) == 1


async def test_an_endless_event_does_not_fill_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flue.sdk.streams.MAX_EVENT_BYTES", 10_000)
    async with (
        ScriptedServer(lambda _: events([b"data: " + b"x" * 1000] * 100)) as server,
        AsyncClient(base_url=server.url) as client,
    ):
        with pytest.raises(FlueTransportError, match="longer than 10000 bytes"):
            await read(client.runs.stream(RUN))


async def test_another_kind_of_answer_is_no_stream() -> None:
    async with (
        ScriptedServer(lambda _: Reply(200, {"content-type": "text/html"}, [b"<html>"])) as server,
        AsyncClient(base_url=server.url) as client,
    ):
        with pytest.raises(FlueTransportError, match="not answered with a stream"):
            await read(client.runs.stream(RUN))


async def test_a_connection_that_went_silent_is_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk_requests, "STREAM_SILENCE", 0.05)

    def handler(request: Request) -> Reply:
        return events(map(sse, LOG[request.after + 1 :][:3]), hang=request.after < 5)

    async with ScriptedServer(handler) as server, AsyncClient(base_url=server.url) as client:
        assert await read(client.runs.stream(RUN, **FAST)) == LOG


async def test_leaving_a_stream_leaves_the_connection() -> None:
    async with (
        ScriptedServer(lambda _: events(map(sse, LOG[:2]), hang=True)) as server,
        AsyncClient(base_url=server.url) as client,
    ):
        async with aclosing(client.runs.stream(RUN)) as stream:
            assert [await anext(stream), await anext(stream)] == LOG[:2]
        waiting = asyncio.create_task(read(client.runs.stream(RUN)))
        async with asyncio.timeout(5):
            while len(server.requests) < 2:  # noqa: ASYNC110 - the server's doing
                await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        async with asyncio.timeout(5):
            while server.gone < 2:  # noqa: ASYNC110 - the server's doing
                await asyncio.sleep(0.001)


# --------------------------------------------------------------------------------------------------- agents

PROMPT: list[Json] = [
    {"type": "operation_start", "instanceId": "ann", "eventIndex": 0},
    {"type": "idle", "instanceId": "ann", "taskId": "t1", "parentSession": "default", "eventIndex": 1},
    {"type": "text_delta", "text": "Hi", "instanceId": "ann", "eventIndex": 2},
    {"type": "operation", "result": {"text": "Hi"}, "instanceId": "ann", "eventIndex": 3},
    {"type": "idle", "instanceId": "ann", "eventIndex": 4},
]
SUBMISSION = "/agents/chat/ann/submissions/sub_1"


def prompt_server(*, cut_after: int, cleanly: bool, outcome: str = "completed") -> ScriptedServer:
    """Return a server whose connections end after so many events of a prompt."""

    def handler(request: Request) -> Reply:
        if request.path == SUBMISSION:
            return answer({"submissionId": "sub_1", "status": outcome})
        assert request.path in ("/agents/chat/ann", f"{SUBMISSION}/stream")
        left = PROMPT[request.after + 1 :]
        cut = not cleanly and bool(left)
        return events(map(sse, left[:cut_after]), cut=cut, x_flue_submission_id="sub_1")

    return ScriptedServer(handler)


# DUR-34
@pytest.mark.parametrize("cleanly", [True, False])
@pytest.mark.parametrize("cut_after", range(1, len(PROMPT) + 1))
async def test_a_prompts_stream_is_resumed_wherever_it_was_cut(cut_after: int, cleanly: bool) -> None:
    async with (
        prompt_server(cut_after=cut_after, cleanly=cleanly) as server,
        AsyncClient(base_url=server.url) as client,
    ):
        assert await read(client.agents.stream("chat", "ann", "Hello", session="s", **FAST)) == PROMPT
        first = server.requests[0]
        assert (first.method, first.json) == ("POST", {"message": "Hello", "session": "s"})
        assert [request.method for request in server.requests].count("POST") == 1


@pytest.mark.parametrize("outcome", ["failed", "aborted"])
async def test_a_prompt_that_failed_out_of_sight_fails_in_the_end(outcome: str) -> None:
    seen = []
    async with (
        prompt_server(cut_after=2, cleanly=False, outcome=outcome) as server,
        AsyncClient(base_url=server.url) as client,
    ):
        with pytest.raises(FlueApiError, match=outcome):
            async for event in client.agents.stream("chat", "ann", "Hello", **FAST):
                seen.append(event)  # noqa: PERF401 - what came before the error counts
    assert seen == PROMPT


async def test_a_prompt_that_fails_says_so_in_its_stream() -> None:
    error = {"type": "error", "instanceId": "ann", "error": {"type": "internal_error", "message": "No.", "details": ""}}
    async with (
        ScriptedServer(lambda _: events([sse(PROMPT[0]), sse(error)], x_flue_submission_id="sub_1")) as server,
        AsyncClient(base_url=server.url) as client,
    ):
        with pytest.raises(FlueApiError, match=r"No\.") as caught:
            await read(client.agents.stream("chat", "ann", "Hello"))
        assert (caught.value.code, caught.value.status) == ("internal_error", 200)
        assert len(server.requests) == 1


async def test_a_server_that_cannot_resume_a_prompt_is_not_asked_to() -> None:
    async with (
        ScriptedServer(lambda _: events(map(sse, PROMPT[:2]), cut=True)) as server,
        AsyncClient(base_url=server.url) as client,
    ):
        with pytest.raises(FlueTransportError):
            await read(client.agents.stream("chat", "ann", "Hello"))
        assert len(server.requests) == 1
        server._handler = lambda _: events(map(sse, PROMPT))
        assert await read(client.agents.stream("chat", "ann", "Hello")) == PROMPT


async def test_a_prompt_is_never_sent_twice() -> None:
    async with (
        ScriptedServer(lambda _: problem(503, "shutting_down")) as server,
        AsyncClient(base_url=server.url) as client,
    ):
        with pytest.raises(FlueApiError, match=r"^Invocation stream failed with HTTP 503") as caught:
            await read(client.agents.stream("chat", "ann", "Hello"))
        assert caught.value.code == "shutting_down"
        assert len(server.requests) == 1


@pytest.mark.parametrize("event", [{"instanceId": "bob"}, {}, {"instanceId": "ann", "runId": RUN}])
async def test_events_of_somebody_else_are_refused(event: Json) -> None:
    async with (
        ScriptedServer(lambda _: events([sse({"type": "idle", **event})])) as server,
        AsyncClient(base_url=server.url) as client,
    ):
        with pytest.raises(FlueTransportError) as caught:
            await read(client.agents.stream("chat", "ann", "Hello"))
        assert caught.value.code == "server_protocol"


async def test_a_function_agents_stream_is_that_of_its_run() -> None:
    def handler(request: Request) -> Reply:
        shown = LOG[request.after + 1 :][:3]
        return events(map(sse, shown), cut=True, x_flue_run_id=RUN)

    async with ScriptedServer(handler) as server, AsyncClient(base_url=server.url) as client:
        assert await read(client.agents.stream("report", "ann", payload={"n": 1}, **FAST)) == LOG
        assert server.requests[0].json == {"n": 1}
        assert server.requests[1].path == "/runs/workflow%3Aslow%3A01M7/stream"


async def test_all_that_an_instance_does_is_followed_over_any_number_of_connections() -> None:
    places = [f"{offset}-{index}" for offset in range(1, 6) for index in range(2)]

    def handler(request: Request) -> Reply:
        last = request.headers.get("last-event-id")
        left = places[places.index(last) + 1 :] if last else places
        shown = [sse({"type": "log", "place": place}, id=place) for place in left[:3]]
        return events(shown, cut=True)

    async with ScriptedServer(handler) as server, AsyncClient(base_url=server.url) as client:
        seen = []
        with pytest.raises(FlueTransportError, match=r"^SSE stream closed\.$"):
            async for id, event in client.agents.follow("chat", "ann", last_event_id="1-0", **FAST):
                assert json.loads(json.dumps(event))["place"] == id
                seen.append(id)
        assert seen == places[1:]


@pytest.mark.parametrize(("steady_seconds", "survives"), [(0.0, True), (60.0, False)])
async def test_a_connection_that_held_for_long_counts_as_much_as_an_event(
    steady_seconds: float, survives: bool
) -> None:
    opened = 0

    class Quiet:
        def __init__(self) -> None:
            self.headers: Json = {}

        async def chunks(self) -> AsyncIterator[bytes]:
            yield b": heartbeat\n\n" if opened < 9 else b'data: {"type":"log"}\n\n'

    def open_quiet(last_id: str | None) -> Any:
        nonlocal opened
        opened += 1
        return nullcontext(Quiet())

    stream = follow(Log(open=open_quiet), Retry(max_retries=3, initial_ms=0, steady_seconds=steady_seconds))
    async with aclosing(stream):
        if survives:
            assert (await anext(stream)).event == {"type": "log"}
        else:
            with pytest.raises(FlueTransportError):
                await anext(stream)
    assert opened == (9 if survives else 4)


@pytest.mark.parametrize("given", [{}, {"message": "x", "payload": {}}])
async def test_an_agent_is_asked_by_a_message_or_by_a_payload(given: Any) -> None:
    async with AsyncClient(base_url="http://127.0.0.1:1") as client:
        with pytest.raises(UsageError, match="message or by a payload"):
            await client.agents.invoke("chat", "ann", **given)


# ------------------------------------------------------------------------------------------------ workflows


# DUR-34
@pytest.mark.parametrize("cut_after", range(1, len(LOG) + 1))
async def test_a_workflows_stream_is_resumed_wherever_it_was_cut(cut_after: int) -> None:
    def handler(request: Request) -> Reply:
        shown = LOG[request.after + 1 :][:cut_after]
        return events(map(sse, shown), cut=True, x_flue_run_id=RUN)

    async with ScriptedServer(handler) as server, AsyncClient(base_url=server.url) as client:
        assert await read(client.workflows.stream("slow", [1], **FAST)) == LOG
        assert [request.method for request in server.requests].count("POST") == 1


async def test_a_stream_that_does_not_name_its_run_is_refused() -> None:
    async with (
        ScriptedServer(lambda _: events(map(sse, LOG))) as server,
        AsyncClient(base_url=server.url) as client,
    ):
        with pytest.raises(FlueTransportError, match="does not name its run"):
            await read(client.workflows.stream("slow"))
