from __future__ import annotations

from functools import partial

from flue.testing import call
from tests.cloudflare.office import CLERK, happened, submissions, until
from tests.cloudflare.site import CHAT, Site, model
from tests.cloudflare.standin.values import JsArray, JsObject, jsnull
from tests.cloudflare.standin.world import Place
from tests.engine.scenes import texts

ECHO = """
    route = True

    async def run(ctx):
        if ctx.payload.get("fail"):
            raise ValueError("no")
        return ctx.payload
"""
ADMIN = """
    import flue
    from starlette.applications import Starlette
    from starlette.routing import Mount, Route
    from starlette.responses import JSONResponse

    async def order(request):
        receipt = await flue.dispatch("clerk", id="ann", input={"order": 1}, dispatch_id="d-1")
        return JSONResponse({"id": receipt.dispatch_id, "at": receipt.accepted_at})

    app = Starlette(routes=[Route("/order", order), Mount("/admin", flue.admin()), Mount("/", flue.asgi())])
"""
SCHEDULED = """
    import flue

    route = True
    flue.schedule(every="1h", id="nightly", workflow="nightly", input={"from": "schedule"})

    async def run(ctx):
        return ctx.payload
"""
CONTEXT = """
    import flue
    from flue.cloudflare.context import get_cloudflare_context

    route = True

    async def run(ctx):
        cloud = get_cloudflare_context()
        identity = cloud.durable_object_identity
        return [ctx.env["NAME"], cloud.env.NAME, identity.binding_name, identity.class_name, identity.name == ctx.id]
"""


async def test_runs_are_listed_newest_first_a_page_at_a_time(cloud: Site) -> None:
    await cloud.deploy_project({"agents/clerk.py": CLERK, "workflows/echo.py": ECHO, "app.py": ADMIN})
    ids = []
    for number in range(5):
        answer = await cloud.call("POST", "/workflows/echo?wait=result", json={"fail": number == 2})
        ids.append(answer.headers["x-flue-run-id"])
        await until(partial(_told, cloud.workflow("echo", ids[-1])))
    first = (await cloud.call("GET", "/admin/runs?limit=3")).json
    rest = (await cloud.call("GET", f"/admin/runs?limit=3&cursor={first['nextCursor']}")).json
    assert sorted(run["runId"] for run in first["items"] + rest["items"]) == sorted(ids)
    assert "nextCursor" not in rest
    errored = (await cloud.call("GET", "/admin/runs?status=errored")).json["items"]
    assert [run["runId"] for run in errored] == [ids[2]]
    assert (await cloud.call("GET", f"/admin/runs/{ids[0]}")).json["status"] == "completed"
    assert [agent["name"] for agent in (await cloud.call("GET", "/admin/agents")).json["items"]] == ["clerk"]


def _told(place: Place) -> bool:
    return place.disk.inner.execute("SELECT 1 FROM flue_untold").fetchone() is None


async def test_work_is_dispatched_to_the_object_of_its_agent_from_the_app_and_from_tools(cloud: Site) -> None:
    happened.clear()
    model().add([call("pass_on", {"token": "t1", "to": "bob"})], "Thank you.", "Passed on.", "Done.")
    await cloud.deploy_project({"agents/clerk.py": CLERK, "app.py": ADMIN})
    first = (await cloud.call("GET", "/order")).json
    assert (await cloud.call("GET", "/order")).json == first
    await until(lambda: "bob" in cloud.names("Clerk"))
    place = cloud.agent("clerk", "bob")

    async def answered() -> bool:
        found = await submissions(cloud, place)
        return bool(found) and found[0].state == "settled"

    await until(answered)
    assert happened == ["t1"]
    assert len(await submissions(cloud, cloud.agent("clerk", "ann"))) == 1
    assert "[Dispatch Input]" in texts(await cloud.said("clerk", "bob"))[0]


async def test_the_same_idempotency_key_leads_to_the_same_run(cloud: Site) -> None:
    await cloud.deploy_project({"workflows/echo.py": ECHO})
    headers = {"idempotency-key": "k-1"}
    answers = [await cloud.call("POST", "/workflows/echo", json={"a": 1}, headers=headers) for _ in range(2)]
    assert answers[0].json == answers[1].json
    assert len(cloud.names("FLUE_WORKFLOW_ECHO")) == 1
    other = await cloud.call("POST", "/workflows/echo", json={"a": 2}, headers=headers)
    assert (other.status, other.json["error"]["type"]) == (409, "idempotency_conflict")


async def test_a_schedule_starts_its_workflow_once_for_each_time(cloud: Site) -> None:
    await cloud.deploy_project({"agents/chat.py": CHAT, "workflows/nightly.py": SCHEDULED})
    await cloud.call("GET", "/openapi.json")
    await until(lambda: len(cloud.names("FLUE_WORKFLOW_NIGHTLY")) >= 2)
    for name in cloud.names("FLUE_WORKFLOW_NIGHTLY")[:2]:
        found = await submissions(cloud, cloud.workflow("nightly", name))
        assert [work.id for work in found] == [name]
        assert (await cloud.call("GET", f"/runs/{name}")).json["payload"] == {"from": "schedule"}


async def test_code_of_an_object_knows_the_platform(cloud: Site) -> None:
    cloud.variables["NAME"] = "worth"
    await cloud.deploy_project({"workflows/here.py": CONTEXT})
    answer = await cloud.call("POST", "/workflows/here?wait=result", json={})
    assert answer.json["result"] == ["worth", "worth", "FLUE_WORKFLOW_HERE", "HereWorkflow", True]


async def test_nulls_in_json_variables_are_none(cloud: Site) -> None:
    cloud.variables["LIMITS"] = JsObject({"a": jsnull, "b": JsArray([1, jsnull, JsObject({"c": jsnull})])})
    shown = """
        route = True

        async def run(ctx):
            return ctx.env["LIMITS"]
    """
    await cloud.deploy_project({"workflows/shown.py": shown})
    answer = await cloud.call("POST", "/workflows/shown?wait=result", json={})
    assert answer.json["result"] == {"a": None, "b": [1, None, {"c": None}]}


async def test_events_that_are_no_requests_are_handled_by_the_users_functions(cloud: Site) -> None:
    happened.clear()
    own = """
        from tests.cloudflare.office import happened

        async def scheduled(controller):
            happened.append(controller)
    """
    await cloud.deploy_project({"agents/chat.py": CHAT, "cloudflare.py": own}, handlers=["scheduled"])
    await cloud.event("scheduled", "tick", "env", "ctx")
    assert happened == ["tick"]
