"""An object is evicted at every single thing that it asks its storage, one after the other."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from flue.durable.records import Run, Submission
from flue.testing import RecordedRequest, call
from tests.cloudflare.office import CLERK, STEPS, at_rest, happened, submissions
from tests.cloudflare.site import Site, model
from tests.cloudflare.standin.world import Place
from tests.engine.scenes import texts
from tests.engine.test_prompts import check_conversation

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

ROUNDS = 400


@pytest.fixture
async def desk(cloud: Site) -> Site:
    happened.clear()
    await cloud.deploy_project({"agents/clerk.py": CLERK, "workflows/steps.py": STEPS})
    return cloud


def answer(request: RecordedRequest) -> Any:
    """Say what comes next, as the conversation has it: two calls, one more, the end."""
    asked = [message for message in request.messages if message.role == "user"]
    results = [message for message in request.messages if message.role == "toolResult"]
    prompts = sum("signal" not in texts([message])[0] for message in asked)
    match len(results) - 3 * (prompts - 1):
        case 0:
            return ["Two at once.", call("work", {"token": "a"}), call("work", {"token": "b"})]
        case 2:
            return [call("work", {"token": "c"})]
        case _:
            return f"All done, {prompts}."


class Bench:
    """Counts what ran, as `check_conversation` wants it."""

    def __init__(self) -> None:
        self.ran = list(happened)


async def test_a_prompt_survives_an_eviction_at_every_statement(desk: Site) -> None:
    model().add(*itertools.repeat(answer, 20 * ROUNDS))
    for at in range(1, ROUNDS):
        happened.clear()
        instance = f"ann{at}"
        desk.cut_next = at
        first = await desk.call("POST", f"/agents/clerk/{instance}", json={"message": "Go."})
        place = desk.agent("clerk", instance)
        through = not place.cut()
        await at_rest(place)
        found = await submissions(desk, place)
        assert [work.outcome for work in found] == ["completed"] * len(found), at
        assert len(found) == 1 if first.status == 200 else len(found) <= 1, at
        bench: Any = Bench()
        again = await desk.call("POST", f"/agents/clerk/{instance}", json={"message": "And again."})
        assert again.status == 200, at
        bench.ran = list(happened)
        check_conversation(await desk.said("clerk", instance), bench, accepted=bool(found), at=at)
        if through:
            assert at > 20
            return
    raise AssertionError("it never gets through")


async def test_a_workflow_survives_an_eviction_at_every_statement(desk: Site) -> None:
    model().add(*itertools.repeat("Well.", 5 * ROUNDS))
    known: set[str] = set()
    for at in range(1, ROUNDS):
        happened.clear()
        desk.cut_next = at
        await desk.call("POST", "/workflows/steps?wait=result", json={"a": at})
        (name,) = set(desk.names("FLUE_WORKFLOW_STEPS")) - known
        known.add(name)
        place = desk.workflow("steps", name)
        through = not place.cut()
        await at_rest(place)
        runs = [await run_of(desk, place, work) for work in await submissions(desk, place)]
        assert len(runs) in ((1,) if through else (0, 1, 2)), at
        if runs:
            # The last of the chain completed, the one before it names it; every recorded step ran once.
            assert runs[-1].status == "completed", at
            assert [run.restarted_as for run in runs] == [*(run.run_id for run in runs[1:]), None], at
            assert set(happened) == {"s0", "s1", "last"}, at
            assert len(happened) <= 4, at
            for run in runs:
                assert (await desk.call("GET", f"/runs/{run.run_id}")).json["status"] == run.status, at
        if through:
            assert at > 20
            return
    raise AssertionError("it never gets through")


async def run_of(cloud: Site, place: Place, work: Submission) -> Run:
    found = await cloud.store(place).get_run(work.id)
    assert found is not None
    return found
