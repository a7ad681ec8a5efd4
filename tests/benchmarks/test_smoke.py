"""The benchmarks run: a tiny round of what needs nothing beside the development tools."""

from __future__ import annotations

import asyncio
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import original, recovery, restart, scenarios, server, work, work_cases
from benchmarks.__main__ import main
from benchmarks.cases import cases, row
from benchmarks.rows import Case
from benchmarks.scenarios import SCENARIOS, Samples, Task
from benchmarks.worker import measure
from flue.registrations import PROCESS
from flue.testing.provider_server import ProviderServer
from tests.prerequisites import require

APIS = ("anthropic-messages", "openai-completions", "openai-responses")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make long conversations short, and keep what the contenders register out of other tests."""
    monkeypatch.setattr(scenarios, "EARLY", range(2, 4))
    monkeypatch.setattr(scenarios, "LATE", range(9, 11))
    monkeypatch.setattr(scenarios, "LOOP_TURNS", 5)
    monkeypatch.setattr(scenarios, "DELTAS", 50)
    monkeypatch.setattr(PROCESS, "providers", {})
    monkeypatch.setattr(PROCESS, "observers", [])


async def take(scenario: str, contender: str, api: str, folder: Path, variant: str = "") -> Samples:
    module = importlib.import_module(f"benchmarks.contenders.{contender}")
    async with ProviderServer(record=False) as server:
        task = Task(scenario, contender, api, server.url, variant, samples=1, folder=str(folder))
        async with module.conversations(task) as new:
            return await SCENARIOS[scenario](task, new)


@pytest.mark.parametrize(
    ("contender", "api"),
    [("flue", APIS[0]), ("raw", APIS[0]), *(pytest.param("raw", api, marks=pytest.mark.faults) for api in APIS[1:])],
)
@pytest.mark.parametrize("scenario", ["stream", "loop", "prompts", "calls"])
async def test_a_contender_does_what_is_measured(scenario: str, contender: str, api: str, tmp_path: Path) -> None:
    samples = await take(scenario, contender, api, tmp_path)
    assert samples
    assert all(value > 0 for values in samples.values() for value in values)


@pytest.mark.parametrize("variant", ["listener", "observe", "sqlite"])
async def test_flue_is_measured_with_what_a_user_may_add(variant: str, tmp_path: Path) -> None:
    assert await take("loop", "flue", "anthropic-messages", tmp_path, variant)
    assert (tmp_path / "flue.db").exists() == (variant == "sqlite")


def test_a_contender_that_is_not_installed_is_reported_as_missing() -> None:
    assert "no_such_thing" in str(measure(Task("stream", "no_such_thing", "anthropic-messages"))["missing"])


SERVERS = [case for case in cases(quick=True, samples=1) if case.task.scenario in server.SCENARIOS]


@pytest.mark.e2e
@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "task", dict.fromkeys(case.task for case in SERVERS), ids=lambda task: f"{task.scenario} {task.contender}"
)
def test_servers_are_measured(task: Task, tmp_path: Path) -> None:
    require(task.contender == "flue" or original.is_installed(), original.MISSING)
    samples = server.measure(task, tmp_path, server.Volume(seconds=0.2, runs=300, their_seconds=0.2, sockets=20))
    assert all(value > 0 for values in samples.values() for value in values)
    for case in SERVERS:
        if case.task == task:
            assert row(case, samples, None).values


@pytest.mark.parametrize(("last", "met"), [(1.05, True), (1.3, False)])
def test_a_long_run_is_judged_by_what_its_last_requests_cost(last: float, met: bool) -> None:
    case = next(case for case in SERVERS if case.task == Task("decay", "flue", ""))
    samples = {
        "last": [300.0],
        "first": [900.0],
        "last_cpu_ms": [last],
        "first_cpu_ms": [1.0],
        "runs": [100_000.0],
        "rss_mb": [48.0],
    }
    line = row(case, samples, None)
    assert line.met is met
    assert line.note == f"1.00 to {last:.2f} ms CPU, 48 MB"


def test_the_originals_row_compares_it_with_ours() -> None:
    case = next(case for case in SERVERS if case.task == Task("requests", "original", ""))
    theirs, ours = {"per_second": [500.0, 400.0], "cpu_ms": [2.0, 2.0]}, {"per_second": [900.0, 1100.0]}
    line = row(case, theirs, ours)
    assert line.note == "2.00 ms CPU, flue 2.20"
    assert line.met is True
    assert row(case, theirs, None).goal == ""


@pytest.mark.e2e
@pytest.mark.parametrize("case", [*work_cases.cases(quick=False)], ids=lambda case: case.metric)
async def test_accepted_work_is_measured(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SECONDS": 0.05, "WARM_UP_SECONDS": 0.01}.items():
        monkeypatch.setattr(work, name, value)
    for module in (recovery, restart):
        monkeypatch.setattr(module, "OPEN_SESSIONS", 3)
    if case.task.scenario == "work":
        samples = await work.VARIANTS[case.task.variant](tmp_path)
        require("missing" not in samples, str(samples.get("missing")))
    else:
        samples = await asyncio.to_thread(server.measure, case.task, tmp_path, server.QUICK)
    assert all(value > 0 or name == "lost" for name, values in samples.items() for value in values)
    line = row(case, samples, None)
    assert line.values == samples[case.metric]
    assert line.goal


@pytest.mark.parametrize(("ours", "met"), [(199.0, True), (201.0, False)])
def test_a_row_says_whether_its_goal_is_met(ours: float, met: bool) -> None:
    case = Case("stream", "flue", Task("stream", "flue", "anthropic-messages"))
    line = row(case, {"cpu_ms": [300.0, ours]}, {"cpu_ms": [100.0, 150.0]})
    assert line.met is met
    assert line.note == f"{ours / 100:.2f} times raw"


def test_every_comparison_has_its_limit_measured_in_the_same_run() -> None:
    for quick in (True, False):
        tasks = {(case.task.scenario, case.task.api, case.task.contender) for case in cases(quick=quick, samples=1)}
        compared = {(scenario, api) for scenario, api, _ in tasks if scenario in ("stream", "loop")}
        assert compared
        assert all((scenario, api, "raw") in tasks for scenario, api in compared)


@pytest.mark.e2e
def test_the_runner_prints_a_table_and_writes_its_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    assert main(["--quick", "--only", "memory", "--json", str(report)]) == 0
    printed = capsys.readouterr().out
    assert "raw httpx2 + json" in printed
    assert "fsyncs per second" in printed
    written: dict[str, Any] = json.loads(report.read_text("utf-8"))
    assert [line["missing"] for line in written["rows"]] == ["", ""]
    assert all(line["samples"]["rss_mb"][0] > 1 for line in written["rows"])
