from __future__ import annotations

import asyncio
import json

import pytest

from tests.cloudflare.site import CHAT, Site, model
from tests.engine.scenes import texts

REPORT = """
    route = True

    async def run(ctx):
        await ctx.step("count", lambda: 1)
        return {"asked": ctx.payload, "id": ctx.id, "method": ctx.req.method}
"""
LOCKED = """
    import asyncio
    from weakref import WeakKeyDictionary

    from flue.cloudflare import get_cloudflare_context

    route = True
    locks = WeakKeyDictionary()

    async def work(done, name):
        async with locks.setdefault(get_cloudflare_context().agent_instance, asyncio.Lock()):
            await asyncio.sleep(0)
            done.append(name)

    async def run(ctx):
        done = []
        await asyncio.gather(work(done, "a"), work(done, "b"))
        return done
"""


async def test_a_prompt_is_answered_by_the_object_of_its_instance_which_keeps_the_conversation(cloud: Site) -> None:
    model().add("Good morning.", "Good evening.")
    await cloud.deploy_project({"agents/chat.py": CHAT})
    first = await cloud.call("POST", "/agents/chat/ann", json={"message": "Hello"})
    assert (first.status, first.json["result"]["text"]) == (200, "Good morning.")
    second = await cloud.call("POST", "/agents/chat/bob", json={"message": "Hello"})
    assert second.json["result"]["text"] == "Good evening."
    assert cloud.names("Chat") == ["ann", "bob"]
    assert texts(await cloud.said("chat", "ann"))[-1] == "assistant: Good morning."


async def test_an_answer_streams_through_the_worker(cloud: Site) -> None:
    model().add("Good morning to all of you, one and all.")
    await cloud.deploy_project({"agents/chat.py": CHAT})
    sse = {"accept": "text/event-stream"}
    async with cloud.open("POST", "/agents/chat/ann", json={"message": "Hello"}, headers=sse) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        await answer.until("text_delta")
        assert b'"type":"idle"' not in answer.seen
        assert b"one and all" in await answer.read()


async def test_a_run_has_an_object_of_its_own_named_by_its_id(cloud: Site) -> None:
    await cloud.deploy_project({"workflows/daily_report.py": REPORT})
    answer = await cloud.call("POST", "/workflows/daily-report?wait=result", json={"a": 1})
    run_id = answer.headers["x-flue-run-id"]
    assert answer.json["result"] == {"asked": {"a": 1}, "id": run_id, "method": "POST"}
    assert cloud.names("FLUE_WORKFLOW_DAILY_REPORT") == [run_id]
    record = await cloud.call("GET", f"/runs/{run_id}")
    assert (record.json["status"], record.json["payload"]) == ("completed", {"a": 1})
    events = await cloud.call("GET", f"/runs/{run_id}/events")
    assert [event["type"] for event in events.json["events"]][-1] == "run_end"


@pytest.mark.parametrize("path", ["/agents/nobody/x", "/workflows/nothing", "/elsewhere"])
async def test_what_is_not_served_is_answered_in_the_worker(cloud: Site, path: str) -> None:
    await cloud.deploy_project({"agents/chat.py": CHAT})
    answer = await cloud.call("POST", path, json={})
    assert (answer.status, json.loads(answer.body)["error"]["type"].endswith("_not_found")) == (404, True)
    assert cloud.names("Chat") == []


async def test_objects_given_to_asgi_are_refused_since_no_durable_object_would_keep_their_work(cloud: Site) -> None:
    app = """
        import flue

        app = flue.asgi(agents={"helper": flue.create_agent(model="anthropic/claude-haiku-4-5")})
    """
    cloud.variables["FLUE_MODE"] = "local"
    await cloud.deploy_project({"agents/chat.py": CHAT, "app.py": app})
    answer = await cloud.call("POST", "/agents/helper/ann", json={"message": "Hello"})
    assert answer.status == 500
    assert "On Cloudflare flue.asgi() serves the project's modules" in answer.json["error"]["dev"]


async def test_an_application_that_is_cancelled_is_an_answer_too(cloud: Site) -> None:
    """As it is by awaiting a task of its own that was; otherwise the client would wait until the platform gives up."""
    app = """
        import asyncio

        async def app(scope, receive, send):
            raise asyncio.CancelledError
    """
    await cloud.deploy_project({"agents/chat.py": CHAT, "app.py": app})
    async with asyncio.timeout(5):
        assert (await cloud.call("GET", "/")).status == 500


async def test_a_lock_that_is_kept_for_each_object_serves_its_own_calls_while_another_object_holds_its(
    cloud: Site,
) -> None:
    await cloud.deploy_project({"workflows/locked.py": LOCKED})
    answers = await asyncio.gather(
        *(cloud.call("POST", "/workflows/locked?wait=result", json={"n": number}) for number in range(3))
    )
    assert [answer.json["result"] for answer in answers] == [["a", "b"]] * 3
