"""What a project's configuration says of its events holds in Durable Objects."""

from __future__ import annotations

import pytest

from flue.cloudflare.names import REGISTRY
from flue.durable.records import Run, RunQuery, RunStatus
from flue.engine.log_settings import LogSettings
from flue.engine.pruning import KeepFor
from tests.cloudflare.office import submissions, until
from tests.cloudflare.site import Site
from tests.cloudflare.standin.storage import Disk, Storage
from tests.stores.plans import slow_statements

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
WAITING = """
    route = True

    async def run(ctx):
        await ctx.wait_for_event("go")
"""
NAPPING = """
    route = True

    async def run(ctx):
        await ctx.sleep(10.0)
"""
ADMIN = """
    import flue
    from starlette.applications import Starlette
    from starlette.routing import Mount

    app = Starlette(routes=[Mount("/admin", flue.admin()), Mount("/", flue.asgi())])
"""
PROJECT = {"workflows/echo.py": ECHO, "workflows/waiting.py": WAITING, "app.py": ADMIN}
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


async def test_a_run_that_its_object_has_deleted_is_not_found_and_not_listed(cloud: Site) -> None:
    await cloud.deploy_project(PROJECT, keep=FOR_AN_HOUR)
    waiting = (await cloud.call("POST", "/workflows/waiting", json={})).json["runId"]
    run_id = (await cloud.call("POST", "/workflows/echo", json={})).json["runId"]

    async def gone() -> bool:
        return not await submissions(cloud, cloud.workflow("echo", run_id))

    await until(gone)
    paths = (f"/runs/{run_id}", f"/runs/{run_id}/events", f"/runs/{run_id}/stream", f"/admin/runs/{run_id}")
    known = [await cloud.call("GET", path) for path in paths]
    assert await listed(cloud) == [waiting]
    forgotten = [await cloud.call("GET", path) for path in paths]
    for answer in (*known, *forgotten, await cloud.call("POST", f"/runs/{run_id}/abort", json={})):
        assert (answer.status, answer.json["error"]["type"]) == (404, "run_not_found")
    assert (await cloud.call("GET", f"/runs/{waiting}")).json["status"] == "active"


async def test_a_registry_that_nobody_asks_forgets_when_it_is_told_of_another_run(cloud: Site) -> None:
    await cloud.deploy_project(PROJECT, keep=FOR_AN_HOUR)
    first = (await cloud.call("POST", "/workflows/echo", json={})).json["runId"]

    async def gone() -> bool:
        return not await submissions(cloud, cloud.workflow("echo", first))

    await until(gone)
    assert pointers(cloud) == [first]
    second = (await cloud.call("POST", "/workflows/echo", json={})).json["runId"]
    assert pointers(cloud) == [second]


async def test_a_run_that_is_deleted_before_the_registry_could_be_told_of_its_end_is_not_left_there_as_active(
    cloud: Site,
) -> None:
    await cloud.deploy_project(
        {"workflows/napping.py": NAPPING}, keep=KeepFor(runs=30.0, prompts=None, deltas=None, keys=None)
    )
    run_id = (await cloud.call("POST", "/workflows/napping", json={})).json["runId"]
    place = cloud.workflow("napping", run_id)
    assert pointers(cloud) == [run_id]
    cloud.unreachable[REGISTRY.class_name] = "network connection lost"

    async def gone() -> bool:
        return not await submissions(cloud, place)

    await until(gone)
    assert pointers(cloud) == [run_id]
    cloud.unreachable.clear()
    await until(lambda: pointers(cloud) == [])
    await until(lambda: place.disk.alarm is None)


async def test_runs_that_are_kept_for_ever_stay_in_the_list(cloud: Site) -> None:
    await cloud.deploy_project(PROJECT)
    run_id = (await cloud.call("POST", "/workflows/echo?wait=result", json={})).headers["x-flue-run-id"]
    await cloud.clock.sleep(400 * 86_400)
    assert await listed(cloud) == [run_id]


@pytest.mark.usefixtures("cloud")
async def test_what_has_ended_is_forgotten_oldest_first_a_bounded_number_at_a_time_and_without_a_scan() -> None:
    from flue.cloudflare.registry.client import Pointer
    from flue.cloudflare.registry.pointers import FORGOTTEN_AT_ONCE, Pointers

    disk = Disk()
    statements: list[str] = []
    found = Pointers(Storage(disk, now=lambda: 0, before=statements.append))

    def left() -> list[int]:
        return sorted(run.started_at for run in found.page(RunQuery(limit=1000)))

    ended = FORGOTTEN_AT_ONCE + 50
    found.tell(Pointer(run_of(number, ended_at=number), "object") for number in range(ended))
    found.tell([Pointer(run_of(ended, ended_at=None), "object")])
    found.forget(ended_before=ended - 10)
    assert left() == [*range(FORGOTTEN_AT_ONCE, ended + 1)]
    found.forget(ended_before=ended - 10)
    assert left() == [*range(ended - 10, ended + 1)]
    assert any(sql.startswith("DELETE") for sql in statements)
    assert slow_statements(disk.inner, set(filter(None, statements))) == {}


def run_of(number: int, *, ended_at: int | None) -> Run:
    """Return a run as a list has it."""
    status: RunStatus = "active" if ended_at is None else "completed"
    return Run(f"r{number:04}", "workflow", "echo", "", status, number, f"r{number:04}", ended_at=ended_at)


async def listed(cloud: Site) -> list[str]:
    """Return the ids of the runs that an administrator sees."""
    return [found["runId"] for found in (await cloud.call("GET", "/admin/runs")).json["items"]]


def pointers(cloud: Site) -> list[str]:
    """Return the ids of the runs that the registry has."""
    registry = cloud.place(REGISTRY.binding, REGISTRY.name)
    return [id for (id,) in registry.disk.inner.execute("SELECT id FROM flue_pointers")]
