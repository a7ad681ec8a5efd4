"""What a project brings along for Cloudflare, and what its parts give each other to do."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from flue.testing import call
from tests.cloudflare.office import CLERK, happened, submissions, until
from tests.cloudflare.site import Site, model
from tests.engine.scenes import texts

COUNTER = """
    from workers import DurableObject, Response


    class Counter(DurableObject):
        def __init__(self, ctx, env):
            super().__init__(ctx, env)
            ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS counted (what TEXT)")

        async def fetch(self, request):
            self.ctx.storage.sql.exec("INSERT INTO counted VALUES (?)", request.url)
            return Response(f"{self.env.NAME} {self.ctx.storage.sql.exec('SELECT count(*) AS n FROM counted').one().n}")
"""
COUNTING = """
    route = True

    async def run(ctx):
        objects = ctx.env["Counter"]
        answer = await objects.get(objects.idFromName("all")).fetch("https://counter/")
        return await answer.text()
"""
QUEUE = """
    import flue

    async def queue(batch, env, ctx):
        for message in batch.messages:
            await flue.dispatch("clerk", id=message.body, input={"order": message.id}, dispatch_id=message.id)
"""
HANDLER = """
from flue.cloudflare import get_cloudflare_context
from tests.cloudflare.office import happened
"""
EMAIL = """
    import flue

    async def email(message):
        instance = message.to.partition("@")[0]
        await flue.dispatch("clerk", id=instance, input={"subject": message.subject}, dispatch_id=message.subject)
"""
NIGHTLY = """
    import flue
    from tests.cloudflare.office import happened

    flue.schedule(every="1h", id="nightly", workflow="nightly", input={})

    async def run(ctx):
        happened.append(ctx.id)
"""


async def test_a_durable_object_class_of_cloudflare_py_is_served_and_keeps_what_it_stores(cloud: Site) -> None:
    cloud.variables["NAME"] = "calls:"
    await cloud.deploy_project({"workflows/counting.py": COUNTING, "cloudflare.py": COUNTER}, own=["Counter"])
    counted = []
    for _ in range(3):
        answer = await cloud.call("POST", "/workflows/counting?wait=result", json={})
        counted.append(answer.json["result"])
        cloud.evict("Counter", "all")
    assert counted == ["calls: 1", "calls: 2", "calls: 3"]


async def test_a_batch_that_the_queue_delivers_twice_is_dispatched_once(cloud: Site) -> None:
    model().add("Thank you.", "Thank you.")
    await cloud.deploy_project({"agents/clerk.py": CLERK, "cloudflare.py": QUEUE}, handlers=["queue"])
    batch = SimpleNamespace(messages=[SimpleNamespace(id="m1", body="ann"), SimpleNamespace(id="m2", body="bob")])
    for _ in range(2):
        await cloud.event("queue", batch, "env", "ctx")
    assert cloud.names("Clerk") == ["ann", "bob"]
    for instance in ("ann", "bob"):
        place = cloud.agent("clerk", instance)
        await _settled(cloud, instance, 1)
        assert len(await submissions(cloud, place)) == 1
        assert texts(await cloud.said("clerk", instance))[-1] == "assistant: Thank you."


@pytest.mark.parametrize(
    ("name", "function", "given"),
    [
        ("email", "async def email(message): happened.append(message)", ["m"]),
        ("tail", "def tail(events, env): happened.extend([events, env.NAME])", ["m", "Ada"]),
        ("trace", "def trace(*given): happened.append(len(given))", [3]),
        ("scheduled", "def scheduled(): happened.append(get_cloudflare_context().env.NAME)", ["Ada"]),
    ],
)
async def test_every_event_is_handled_by_the_function_of_its_name_with_as_much_as_it_takes(
    cloud: Site, name: str, function: str, given: list[object]
) -> None:
    happened.clear()
    cloud.variables["NAME"] = "Ada"
    await cloud.deploy_project({"agents/clerk.py": CLERK, "cloudflare.py": HANDLER + function}, handlers=[name])
    await cloud.event(name, "m", cloud.env, "ctx")
    assert happened == given


async def test_an_event_that_fails_is_the_platforms_to_try_again(cloud: Site) -> None:
    failing = "async def email(message): raise ValueError('full')"
    await cloud.deploy_project({"agents/clerk.py": CLERK, "cloudflare.py": failing}, handlers=["email"])
    with pytest.raises(ValueError, match="full"):
        await cloud.event("email", "m", "env", "ctx")


async def test_what_an_email_sets_off_is_done_by_an_agent_after_the_event(cloud: Site) -> None:
    model().add("Filed.")
    await cloud.deploy_project({"agents/clerk.py": CLERK, "cloudflare.py": EMAIL}, handlers=["email"])
    await cloud.event("email", SimpleNamespace(to="ann@flue.example", subject="Refund"), "env", "ctx")
    await _settled(cloud, "ann", 1)
    said = texts(await cloud.said("clerk", "ann"))
    assert "Refund" in said[0]
    assert said[-1] == "assistant: Filed."


async def test_requests_are_the_applications_whatever_functions_there_are(cloud: Site) -> None:
    own = "async def fetch(request, env, ctx): raise AssertionError"
    await cloud.deploy_project(
        {"workflows/counting.py": "route = True\nasync def run(ctx): return 1", "cloudflare.py": own}
    )
    assert (await cloud.call("POST", "/workflows/counting?wait=result", json={})).json["result"] == 1
    assert (await cloud.call("GET", "/nowhere")).status == 404


async def test_an_agent_gives_its_own_instance_something_to_do_which_comes_after_what_it_does(cloud: Site) -> None:
    happened.clear()
    model().add([call("pass_on", {"token": "later", "to": "ann"})], "Passed on.", "Done.")
    await cloud.deploy_project({"agents/clerk.py": CLERK})
    answer = await cloud.call("POST", "/agents/clerk/ann", json={"message": "Remind yourself"})
    assert answer.json["result"]["text"] == "Passed on."
    await _settled(cloud, "ann", 2)
    said = texts(await cloud.said("clerk", "ann"))
    assert said[-1] == "assistant: Done."
    assert "[Dispatch Input]" in said[-2]
    assert happened == ["later"]


async def test_what_a_schedule_starts_is_handed_over_again_until_its_object_answers(
    cloud: Site, caplog: pytest.LogCaptureFixture
) -> None:
    happened.clear()
    cloud.unreachable["NightlyWorkflow"] = "overloaded"
    await cloud.deploy_project({"workflows/nightly.py": NIGHTLY})
    await cloud.call("GET", "/openapi.json")
    await until(lambda: caplog.text.count("of NightlyWorkflow does not answer") >= 3)
    (waiting,) = await submissions(cloud, cloud.place("FLUE_REGISTRY", "default"))
    assert (waiting.state, happened) == ("parked", [])
    del cloud.unreachable["NightlyWorkflow"]
    await until(lambda: len(happened) >= 2)
    assert happened[0] == waiting.id
    assert len(set(happened)) == len(happened)


async def _settled(cloud: Site, instance: str, count: int) -> None:
    async def settled() -> bool:
        found = await submissions(cloud, cloud.agent("clerk", instance))
        return len(found) >= count and all(one.state == "settled" for one in found)

    await until(settled)
