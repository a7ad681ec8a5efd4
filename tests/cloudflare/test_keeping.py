"""What a project's configuration says of its events holds in Durable Objects."""

from __future__ import annotations

from flue.engine.log_settings import LogSettings
from flue.engine.pruning import KeepFor
from tests.cloudflare.office import submissions, until
from tests.cloudflare.site import Site

FAILING = """
    route = True

    async def run(ctx):
        raise ValueError("canary-77")
"""
ECHO = """
    route = True

    async def run(ctx):
        return ctx.payload
"""
HOUR = 3_600_000
FOR_AN_HOUR = KeepFor(runs=3600.0, prompts=None, deltas=None, keys=None)


async def test_objects_leave_out_what_errors_say_if_the_configuration_wants_it(cloud: Site) -> None:
    await cloud.deploy_project({"workflows/failing.py": FAILING}, log=LogSettings(errors="redacted"))
    run_id = (await cloud.call("POST", "/workflows/failing", json={})).json["runId"]

    async def ended() -> bool:
        return bool((await cloud.call("GET", f"/runs/{run_id}")).json["status"] == "errored")

    await until(ended)
    for path in (f"/runs/{run_id}", f"/runs/{run_id}/events"):
        answer = await cloud.call("GET", path)
        assert answer.status == 200
        assert b"canary-77" not in answer.body


async def test_an_object_deletes_a_run_after_the_time_of_the_configuration(cloud: Site) -> None:
    await cloud.deploy_project({"workflows/echo.py": ECHO}, keep=FOR_AN_HOUR)
    began = cloud.clock.now_ms()
    run_id = (await cloud.call("POST", "/workflows/echo", json={})).json["runId"]
    place = cloud.workflow("echo", run_id)

    async def gone() -> bool:
        return not await submissions(cloud, place)

    await until(gone)
    assert HOUR <= cloud.clock.now_ms() - began < 2 * HOUR
    assert place.disk.alarm is None
