"""What every release has left on disk is read by today's code, and the work that it was in the middle of goes on."""

from __future__ import annotations

import json
import re
import sqlite3
import tomllib
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flue.cloudflare.storage.store import DurableObjectStore
from flue.durable.records import Outcome, Submission
from flue.engine.admissions import session_lane
from flue.engine.engine import EngineSettings
from flue.engine.pruning import KeepFor
from flue.engine.service import Service
from flue.errors import SessionError
from flue.harness.entries import CompactionEntry, StoredEntries
from flue.harness.interrupted import GO_ON
from flue.harness.left_open import UNKNOWN
from flue.host import SystemClock, open_service
from flue.stores import SqliteStore
from flue.stores.sql.store import SqlStore
from tests.cloudflare.standin.storage import Disk, Storage
from tests.engine.scenes import conversation, texts
from tests.golden.project import PROMPTS, RUNS, Project
from tests.golden.record import runs

FOLDER = Path(__file__).parent
RELEASES = sorted(path.stem for path in FOLDER.glob("*.sql"))


@dataclass
class Old:
    """A service of today at work on a store of then."""

    project: Project
    store: SqlStore
    service: Service

    async def prompt(self, instance: str, agent: str = "desk") -> Submission:
        """Return what an instance was asked first, as it stands."""
        rows = await self.store._read(
            lambda tx: tx.rows(
                "SELECT id FROM submissions WHERE target = ? AND instance = ? ORDER BY sequence", agent, instance
            )
        )
        found = await self.service.get_submission(rows[0][0])
        assert found is not None
        return found

    async def ended(self, id: str) -> Outcome:
        """Wait for the end of work."""
        outcome = await self.service.engine.outcome(id)
        assert isinstance(outcome, Outcome)
        return outcome

    async def said(self, instance: str, agent: str = "desk") -> list[str]:
        """Return a conversation."""
        return texts(await conversation(self.store, agent, instance))

    async def result(self, instance: str, agent: str = "desk") -> str:
        """Wait for an answer and return its text."""
        outcome = await self.ended((await self.prompt(instance, agent)).id)
        assert outcome.kind == "completed", outcome
        return str(json.loads(outcome.result or "")["text"])

    async def run(self, name: str) -> Any:
        """Wait for the end of the last run with this payload and return its result."""
        (first, *_) = await runs(self.store, name)
        await self.ended(first)
        last = (await runs(self.store, name))[-1]
        outcome = await self.ended(last)
        return json.loads(outcome.result or "null")


@pytest.fixture(params=RELEASES)
async def old(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Old]:
    path = tmp_path / "flue.db"
    connection = sqlite3.connect(path)
    connection.executescript((FOLDER / f"{request.param}.sql").read_text(encoding="utf-8"))
    connection.close()
    disk = Disk(path) if request.param.endswith("-object") else None
    project = Project(recording=False)
    # What ended then ended long ago, and would be deleted.
    settings = EngineSettings(keep=KeepFor(runs=None, prompts=None, deltas=None, keys=None))
    async with (
        aclosing(SqliteStore(path) if disk is None else in_object(disk)) as store,
        open_service(project.catalog(), store=store, env={}, settings=settings) as service,
    ):
        await service.start()
        yield Old(project, store, service)
    if disk is not None:
        disk.close()


def in_object(disk: Disk) -> DurableObjectStore:
    """Return the store of an object's next isolate."""
    clock = SystemClock()
    return DurableObjectStore(Storage(disk, now=clock.now_ms), clock)


def test_there_is_a_recording_of_this_version() -> None:
    project = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = project["version"]
    assert {version, f"{version}-object"} <= set(RELEASES), f"Record it: python -m tests.golden.record {version}"


# DUR-39
async def test_prompts_that_were_cut_off_are_answered(old: Old) -> None:
    assert await old.result("cut-before-answer") == "All done: cut-before-answer."
    assert await old.said("cut-before-answer") == [
        "user: cut-before-answer please",
        "assistant: All done: cut-before-answer.",
    ]
    assert await old.result("cut-in-answer") == "The first half of the answer All done: cut-in-answer."
    assert await old.said("cut-in-answer") == [
        "user: cut-in-answer please",
        "assistant: The first half of the answer ",
        f"user: {GO_ON}",
        "assistant: All done: cut-in-answer.",
    ]
    assert await old.result("cut-in-tools") == "All done: cut-in-tools."
    assert (await old.said("cut-in-tools"))[2:] == [
        "toolResult: A-1 is on its way",
        f"toolResult: {UNKNOWN}",
        "assistant: All done: cut-in-tools.",
    ]
    assert not [line for line in old.project.ran if line.startswith(("look_up", "stall"))]


# DUR-39
async def test_messages_that_waited_are_answered_in_order(old: Old) -> None:
    await old.result("queued")
    lane = session_lane("desk", "queued", "default")
    while waiting := await old.store.list_lane(lane):
        await old.ended(waiting[0].id)
    asked = [line for line in await old.said("queued") if line.startswith("user: ") and "<signal" not in line]
    assert asked == ["user: queued please", "user: second in the queue"]
    assert (await old.said("queued"))[-1] == "assistant: All done: second."


# DUR-39
async def test_approvals_and_budgets_count_whenever_they_came(old: Old) -> None:
    assert await old.result("decided") == "All done: decided."
    waiting = await old.prompt("approval")
    assert (waiting.state, waiting.park_reason) == ("parked", "approval")
    assert old.project.ran.count("refund A-1") == 1
    call_id = waiting.waiting_for[0].removeprefix("approve:")
    await old.service.decide("desk", "approval", call_id, approved=False, reason="Too late.")
    assert await old.result("approval") == "All done: approval."
    assert any("Too late." in line for line in await old.said("approval"))
    assert old.project.ran.count("refund A-1") == 1
    await old.service.raise_budget("thrifty", "ann", {"turns": 9})
    assert await old.result("ann", "thrifty") == "All done: budget."
    with pytest.raises(SessionError):
        await old.service.decide("desk", "approval", call_id, approved=True)


# DUR-39
async def test_runs_go_on_over_what_they_had_recorded(old: Old) -> None:
    assert await old.run("complete") == ["FIRST COMPLETE", "SECOND COMPLETE", None]
    assert await old.run("asleep") == ["FIRST ASLEEP", "SECOND ASLEEP", None]
    assert await old.run("told") == ["FIRST TOLD", "SECOND TOLD", {"amount": 5}]
    (waiting,) = await runs(old.store, "waiting")
    await old.service.send_event(waiting, "paid", 7)
    assert await old.run("waiting") == ["FIRST WAITING", "SECOND WAITING", 7]
    assert await old.run("cut-in-body") == ["FIRST CUT-IN-BODY", "SECOND CUT-IN-BODY", None]
    first, second = await runs(old.store, "cut-in-body")
    replaced, replacement = await old.service.get_run(first), await old.service.get_run(second)
    assert replaced is not None
    assert replacement is not None
    assert (replaced.status, replaced.restarted_as) == ("errored", second)
    assert (replacement.restarted_from, replacement.lineage_id) == (first, first)
    steps = [line for line in old.project.ran if line.startswith("step")]
    assert sorted(steps) == [f"step second {name}" for name in ("asleep", "cut-in-body", "told", "waiting")]


# DUR-39
async def test_what_had_ended_is_found_as_it_was(old: Old) -> None:
    assert await old.result("complete") == "All done: complete."
    assert await old.result("dispatched") == "All done: dispatch."
    (failed,) = await runs(old.store, "failed")
    run = await old.service.get_run(failed)
    assert run is not None
    assert (run.status, json.loads(run.error or "")["message"]) == ("errored", "Nobody is at home.")
    # Keys and dispatches that were accepted then are accepted no second time.
    assert (await old.service.start_workflow("errand", "complete", key="complete")).created is False
    before = await old.said("dispatched")
    await old.service.dispatch("desk", "dispatched", {"order": "A-1"}, dispatch_id="d-1")
    assert await old.said("dispatched") == before
    stored = await old.store.load_session(session_lane("talker", "ann", "default"))
    assert stored is not None
    path = StoredEntries(stored.entries).visible_path(stored.head.leaf_id)
    assert path
    assert isinstance(path[0], CompactionEntry)


# DUR-39
async def test_every_log_is_read_from_its_beginning(old: Old) -> None:
    ids = await old.store._read(lambda tx: tx.rows("SELECT id FROM submissions ORDER BY sequence"))
    assert len(ids) >= len(PROMPTS) + len(RUNS)
    for (id,) in ids:
        events = await old.service.log.read(id, limit=10_000)
        indices = [event.index for event in events]
        assert indices == sorted(set(indices))
        for event in events:
            assert re.fullmatch("[a-z_]+", event.type)
            assert json.loads(event.data)["eventIndex"] == event.index
