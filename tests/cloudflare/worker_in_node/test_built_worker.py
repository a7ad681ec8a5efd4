"""A built Worker asked over HTTP and WebSockets, killed, and started again.

Each scenario is played under the platform's Python in Node, and in the platform's own runtime where that can run.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from flue.dev.cloudflare.tools import BUNDLE_FOLDER
from flue.sdk import AsyncClient, FlueApiError, FlueTransportError
from flue.testing import ProviderServer
from flue.testing.provider_server import call, reply
from tests.cloudflare.worker_in_node.node_worker import NodeWorker
from tests.cloudflare.worker_in_node.project import build, free_port
from tests.cloudflare.worker_in_node.workerd_worker import WorkerdWorker

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
MIB = 2**20
VARIABLES = {"CITY": "Lisbon"}


@pytest.fixture(scope="module")
def port() -> int:
    """Return where the models are."""
    return free_port()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, port: int) -> Path:
    """Return the folder of the Worker of a build."""
    root = tmp_path_factory.mktemp("built") / "project"
    build(root, f"http://127.0.0.1:{port}")
    return root / "dist" / "worker"


Worker = NodeWorker | WorkerdWorker


@pytest.fixture(scope="module", params=[NodeWorker, WorkerdWorker], ids=["node", "workerd"])
def kind(request: pytest.FixtureRequest) -> type[Worker]:
    """Return how the Worker is run."""
    if request.param is WorkerdWorker and not os.environ.get(BUNDLE_FOLDER):
        pytest.skip(f"Cloudflare's runtime has no Python here: {BUNDLE_FOLDER} names no folder with it")
    chosen: type[Worker] = request.param
    return chosen


@pytest.fixture(scope="module")
def running(kind: type[Worker], built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """Have the Worker run; tests that do not kill it share it."""
    worker = kind(built, tmp_path_factory.mktemp("state"), VARIABLES)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop()


@pytest.fixture
def mortal(kind: type[Worker], built: Path, tmp_path: Path) -> Iterator[Worker]:
    """Have a Worker of one's own."""
    worker = kind(built, tmp_path / "state", VARIABLES)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop()


@pytest.fixture
async def models(port: int) -> AsyncIterator[ProviderServer]:
    """Have models that answer as their directives say."""
    async with ProviderServer(port=port) as server:
        yield server


def messages(models: ProviderServer) -> list[int]:
    """Return how many messages each request to a model had."""
    return [len(json.loads(request.body)["messages"]) for request in models.requests]


async def test_a_workflow_answers_with_what_the_environment_holds(running: Worker) -> None:
    async with AsyncClient(base_url=running.url) as client:
        done = await client.workflows.invoke("hello", {"name": "Ada"})
        assert done.result == {"hello": "Ada", "from": "Lisbon"}
        assert done.run_id is not None
        events = [event["type"] async for event in client.runs.stream(done.run_id)]
    assert events == ["run_start", "log", "idle", "run_end"]


async def test_an_answer_streams_while_the_model_speaks(running: Worker, models: ProviderServer) -> None:
    times: list[float] = []
    text = ""
    async with AsyncClient(base_url=running.url) as client:
        async for event in client.agents.stream("clerk", "streaming", "[[deltas 10 word]][[batch 1]][[delay 50]]"):
            if event["type"] == "text_delta":
                text += event["text"]
                times.append(time.monotonic())
    assert text == "word" * 10
    assert times[-1] - times[0] > 0.2


async def test_models_of_workers_ai_are_asked_through_the_binding(running: NodeWorker, models: ProviderServer) -> None:
    async with AsyncClient(base_url=running.url) as client:
        done = await client.agents.invoke("thinker", "adding", '[[call add {"a": 2, "b": 3}]][[then]]')
        failed = asyncio.create_task(
            client.agents.invoke("thinker", "failing", "[[times 1 error 529]] [[say At last.]]")
        )
        assert (await failed).result["text"] == "At last."
    assert (done.result["text"], done.result["model"]) == (
        "5",
        {"provider": "cloudflare", "id": "@cf/openai/gpt-oss-120b"},
    )
    assert {request.json["model"] for request in models.requests} == {"@cf/openai/gpt-oss-120b"}


async def test_a_socket_answers_two_prompts_the_second_after_the_object_slept(
    running: Worker, models: ProviderServer
) -> None:
    async with AsyncClient(base_url=running.url) as client:
        socket = client.agents.connect("clerk", "talking")
        await socket.ready()
        first = await socket.prompt("[[say One.]]")
        if isinstance(running, NodeWorker):  # the real runtime sends objects to sleep when it likes to
            await asyncio.to_thread(running.drop)
        second = await socket.prompt("[[say Two.]]")
        await socket.close()
    assert [first.text, second.text] == ["One.", "Two."]
    assert messages(models)[-1] == 3


async def test_the_application_serves_sockets_of_its_own(running: Worker) -> None:
    address = f"{running.url.replace('http', 'ws', 1)}/echo"
    async with connect(address, subprotocols=[Subprotocol("echo")]) as socket:
        assert socket.subprotocol == "echo"
        for text in ("Grüße", "again"):
            await socket.send(text)
            assert await socket.recv() == text.encode()
        await socket.close(4000, "enough")
    assert (socket.close_code, socket.close_reason) == (4000, "enough")


async def test_a_session_goes_on_after_its_object_was_dropped_and_after_the_process_was_killed(
    mortal: Worker, models: ProviderServer
) -> None:
    for again in (mortal.drop, mortal.kill, None):
        async with AsyncClient(base_url=mortal.url) as client:
            await client.agents.invoke("clerk", "ann", "[[say Yes.]]")
        if again is not None:
            await asyncio.to_thread(again)
        if again == mortal.kill:
            await asyncio.to_thread(mortal.start)
    assert messages(models) == [1, 3, 5]


async def test_a_prompt_that_was_under_way_when_the_process_was_killed_is_finished_by_the_alarm(
    mortal: Worker, port: int
) -> None:
    asked, again = asyncio.Event(), asyncio.Event()

    async def answer(request: Any) -> str:
        if asked.is_set():
            again.set()
            return "Here I am again."
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with ProviderServer(answer, port=port) as models, AsyncClient(base_url=mortal.url) as client:
        lost = asyncio.create_task(client.agents.invoke("clerk", "bob", "Are you there?"))
        await asyncio.wait_for(asked.wait(), 60)
        await asyncio.to_thread(mortal.kill)
        with pytest.raises(FlueTransportError):
            await lost
        await asyncio.to_thread(mortal.start)
        # Nobody asks the Worker for anything: its alarm alone makes it go on.
        await asyncio.wait_for(again.wait(), 60)
        async with AsyncClient(base_url=mortal.url) as later:
            await later.agents.invoke("clerk", "bob", "And now?")
        conversation = models.requests[-1].body.decode()
    assert "Are you there?" in conversation
    assert conversation.count("Here I am again.") == 1


# SBX-20
async def test_a_command_that_kills_the_isolate_is_not_run_again_and_the_model_is_told(
    mortal: Worker, port: int
) -> None:
    again = asyncio.Event()
    bomb = """f='eval "$f"'; eval "$f\""""  # calls itself until the stack overflows
    bombed = reply(calls=[call("bash", {"command": bomb})])
    # The second one goes off in what the alarm has taken up.
    answers = iter([bombed, bombed, "What became of them?", "Still here."])

    def answer(request: Any) -> Any:
        if request.body.count(b"The outcome of this call is unknown") == 2:
            again.set()
        return next(answers)

    async with ProviderServer(answer, port=port) as models, AsyncClient(base_url=mortal.url) as client:
        with pytest.raises((FlueTransportError, FlueApiError)):
            await client.agents.invoke("clerk", "eve", "Run the bomb.")
        # Nobody asks the Worker for anything: its alarm alone makes it go on.
        await asyncio.wait_for(again.wait(), 120)
        done = await client.agents.invoke("clerk", "eve", "And now?")
        conversation = models.requests[-1].body.decode()
    assert done.result["text"] == "Still here."
    assert len(models.requests) == 4
    assert conversation.count("The outcome of this call is unknown") == 2
    assert "files that you made or changed before are gone" in conversation
    assert "What became of them?" in conversation


async def test_memory_stays_below_100_mib_with_a_session_and_a_sandbox_at_work(
    mortal: Worker, models: ProviderServer, record_property: Any
) -> None:
    began = time.monotonic()
    async with AsyncClient(base_url=mortal.url) as client:
        done = await client.workflows.invoke("report", {})
        seconds = time.monotonic() - began
        assert done.result["shell"] == "1998:"
        assert "line 7: 0" in done.result["grep"]
        await client.agents.invoke("clerk", "ann", "[[say Hello.]]")
    if not isinstance(mortal, NodeWorker):
        return  # which tells nobody how much it needs
    facts = mortal.tell("memory")
    for name, value in {"first_answer": seconds, **facts["seconds"], "mib": facts["heap"] / MIB}.items():
        record_property(name, round(value, 2))
    print(f"first answer {seconds:.1f} s, import {facts['seconds']}, memory {facts['heap'] / MIB:.0f} MiB")  # noqa: T201
    assert facts["heap"] < 100 * MIB
