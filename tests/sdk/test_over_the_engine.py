"""The client against the real thing: a server on a port, its engine, a store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from flue import FlueContext, create_agent, tool
from flue.sdk import AsyncClient, FlueApiError, FlueSocketError
from flue.server.app import admin, asgi
from flue.stores import MemoryStore
from flue.testing import ScriptedModel, call
from tests.server.loopback import served


@tool(approval=True)
def refund(order: str) -> str:
    """Refund an order."""
    return f"{order} is refunded"


async def count(ctx: FlueContext) -> Any:
    for number in range(ctx.payload["to"]):
        ctx.log.info("counting", {"number": number})  # noqa: PLE1205 - not a logger's
    return ctx.payload


async def boom(ctx: FlueContext) -> None:
    raise ValueError("kaboom")


async def payment(ctx: FlueContext) -> Any:
    return {"paid": await ctx.wait_for_event("paid")}


async def report(ctx: FlueContext) -> str:
    return f"{ctx.id}: {ctx.payload}"


class Shop:
    """A server with one of everything, mounted at /api."""

    def __init__(self, model: ScriptedModel, address: str, token: str) -> None:
        self.model = model
        self.address = address
        self.token = token

    def client(self, **options: Any) -> AsyncClient:
        base_url = options.pop("base_url", f"http://{self.address}/api")
        return AsyncClient(base_url=base_url, token=self.token, **options)


@pytest.fixture
async def shop(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
    monkeypatch.setenv("FLUE_DISPATCH_TOKEN", "t0ken")
    model, store = ScriptedModel(), MemoryStore()
    agents = {"chat": create_agent(model=model, tools=[refund]), "reporter": report, "waiter": payment}
    app = asgi(agents=agents, workflows={"count": count, "boom": boom, "payment": payment}, store=store)
    mounted = Starlette(routes=[Mount("/admin", admin(app)), Mount("/api", app)])
    async with served(mounted) as address:
        yield Shop(model, address, "t0ken")
        await app.application.drain()
    await store.aclose()


@contextlib.asynccontextmanager
async def cutting(address: str, size: int) -> AsyncIterator[str]:
    """Stand between a client and a server, and cut every connection after so many bytes of its answers."""
    host, _, port = address.partition(":")
    tasks: set[asyncio.Task[Any]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int | None) -> None:
        with contextlib.suppress(OSError):
            while (left is None or left > 0) and (data := await reader.read(65_536)):
                writer.write(data if left is None else data[:left])
                left = None if left is None else left - len(data)
                await writer.drain()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            upstream, back = await asyncio.open_connection(host, int(port))
            both = {asyncio.create_task(pump(reader, back, None)), asyncio.create_task(pump(upstream, writer, size))}
            tasks.update(both)
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in both:
                    task.cancel()
                for end in (writer, back):
                    end.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield "127.0.0.1:{}".format(server.sockets[0].getsockname()[1])  # noqa: UP032 - an index in a text
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0)


async def test_a_workflow_is_run_streamed_and_looked_up(shop: Shop) -> None:
    async with shop.client() as client:
        done = await client.workflows.invoke("count", {"to": 2})
        assert done.result == {"to": 2}
        assert done.run_id is not None
        record = await client.runs.get(done.run_id)
        assert (record["status"], record["payload"]) == ("completed", {"to": 2})
        stored = await client.runs.events(done.run_id)
        assert [event["type"] for event in stored if event["type"] != "idle"] == ["run_start", "log", "log", "run_end"]
        assert [event async for event in client.runs.stream(done.run_id)] == stored
        assert [event async for event in client.runs.stream(done.run_id, last_event_id="2")] == stored[3:]
        assert [event async for event in client.runs.stream(done.run_id, last_event_id=str(len(stored) - 1))] == []
        assert [event["type"] async for event in client.workflows.stream("count", {"to": 1})][-1] == "run_end"


async def test_a_failing_run_tells_its_caller_little_and_its_record_more(shop: Shop) -> None:
    async with shop.client() as client:
        with pytest.raises(FlueApiError) as caught:
            await client.workflows.invoke("boom")
        assert (caught.value.status, caught.value.code) == (500, "internal_error")
        page = await client.admin.runs.list(status="errored")
        assert [run["isError"] for run in page.items] == [True]
        with pytest.raises(FlueApiError) as caught:
            await client.workflows.invoke("nothing")
        assert (caught.value.status, caught.value.code) == (404, "workflow_not_found")


async def test_a_run_gets_the_event_it_waits_for(shop: Shop) -> None:
    async with shop.client() as client:
        run_id = (await client.workflows.invoke("payment", wait=False)).run_id
        assert run_id is not None
        await client.runs.send_event(run_id, "paid", 5)
        assert [event["type"] async for event in client.runs.stream(run_id)][-1] == "run_end"
        assert (await client.runs.get(run_id))["result"] == {"paid": 5}


async def test_a_run_that_is_aborted_in_the_queue_has_an_end_with_the_reason(shop: Shop) -> None:
    async with shop.client() as client:
        runs = [(await client.agents.invoke("waiter", "ann", payload={}, wait=False)).run_id for _ in range(2)]
        first, queued = [run for run in runs if run is not None]
        following = asyncio.create_task(anext(client.runs.stream(queued)))
        record = await client.runs.abort(queued, reason="Not needed.")
        assert (record["status"], record["isError"]) == ("errored", True)
        end = await following
        assert end["type"] == "run_end"
        assert end["isError"]
        assert end["error"]["message"] == "Not needed."
        assert await client.runs.events(queued) == [end]
        await client.runs.abort(first)


async def test_an_agent_answers_by_request_stream_and_socket(shop: Shop) -> None:
    shop.model.add("one", "two", "three")
    heard: list[str] = []
    async with shop.client() as client:
        assert (await client.agents.invoke("chat", "ann", "Hi")).text == "one"
        streamed = [event async for event in client.agents.stream("chat", "ann", "Hi")]
        assert [event["result"]["text"] for event in streamed if event["type"] == "operation"] == ["two"]
        async with client.agents.connect("chat", "ann") as chat:
            chat.on_event(lambda event, request: heard.append(event["type"]))
            assert (await chat.prompt("Hi")).text == "three"
        assert heard == [event["type"] for event in streamed]
        assert (await client.agents.invoke("reporter", "ann", payload={"n": 1})).result == "ann: {'n': 1}"


async def test_a_call_that_waits_for_a_person_is_approved(shop: Shop) -> None:
    shop.model.add(call("refund", {"order": "A1"}, id="call_1"), "done")
    async with shop.client() as client:
        waiting = await client.agents.invoke("chat", "ann", "Refund A1")
        assert waiting.waiting_for == {"reason": "approval", "toolCallIds": ["call_1"]}
        assert waiting.submission_id is not None
        await client.agents.approve("chat", "ann", "call_1")
        async with asyncio.timeout(10):
            while (await client.agents.submission("chat", "ann", waiting.submission_id))["status"] != "completed":  # noqa: ASYNC110
                await asyncio.sleep(0.005)


async def test_what_was_dispatched_is_seen_in_the_instances_stream(shop: Shop) -> None:
    shop.model.add("done")
    async with shop.client() as client:
        receipt = await client.agents.dispatch("chat", "ann", {"order": "A1"}, dispatch_id="d1")
        assert receipt == await client.agents.dispatch("chat", "ann", {"order": "A1"}, dispatch_id="d1")
        async with asyncio.timeout(10), contextlib.aclosing(client.agents.follow("chat", "ann")) as events:
            seen = []
            async for id, event in events:
                seen.append((id, event))
                if event["type"] == "idle":
                    break
        assert {event["dispatchId"] for _, event in seen} == {"d1"}
        async with asyncio.timeout(10):
            middle = len(seen) // 2
            async with contextlib.aclosing(
                client.agents.follow("chat", "ann", last_event_id=seen[middle][0])
            ) as events:
                assert await anext(events) == seen[middle + 1]


async def test_agents_are_listed_for_those_who_run_them(shop: Shop) -> None:
    async with shop.client() as client:
        agents = {agent["name"]: agent for agent in await client.admin.agents.list()}
    assert agents["chat"]["transports"] == {"http": True, "websocket": True}
    assert agents["reporter"]["created"] is False


async def test_a_workflow_over_a_socket_gives_its_run(shop: Shop) -> None:
    heard: list[str] = []
    async with shop.client() as client:
        async with client.workflows.connect("count") as socket:
            socket.on_event(lambda event, request: heard.append(event["type"]))
            done = await socket.invoke({"to": 1})
        assert [type for type in heard if type != "idle"] == ["run_start", "log", "run_end"]
        assert done.run_id is not None
        assert (await client.runs.get(done.run_id))["result"] == done.result == {"to": 1}
        with pytest.raises(FlueSocketError):
            async with client.workflows.connect("boom") as socket:
                await socket.invoke()
        with pytest.raises(FlueSocketError, match="HTTP 404"):
            await client.workflows.connect("nothing").ready()


@pytest.mark.parametrize("size", [900, 1111, 2500])
async def test_a_run_streams_the_same_over_connections_that_all_break(shop: Shop, size: int) -> None:
    async with (
        cutting(shop.address, size) as address,
        shop.client() as direct,
        shop.client(base_url=f"http://{address}/api") as client,
    ):
        seen = [event async for event in client.workflows.stream("count", {"to": 20}, initial_retry_ms=1)]
        assert [event["attributes"]["number"] for event in seen if event["type"] == "log"] == list(range(20))
        assert seen == await direct.runs.events(seen[0]["runId"])


async def test_a_prompt_streams_the_same_over_connections_that_all_break(shop: Shop) -> None:
    shop.model.add("a long answer " * 20)
    async with (
        cutting(shop.address, 6000) as address,
        shop.client(base_url=f"http://{address}/api") as client,
    ):
        seen = [event async for event in client.agents.stream("chat", "ann", "Hi", initial_retry_ms=1)]
        assert [event["eventIndex"] for event in seen] == sorted({event["eventIndex"] for event in seen})
        assert seen[-1]["type"] == "idle"
        assert "".join(event["text"] for event in seen if event["type"] == "text_delta") == "a long answer " * 20
