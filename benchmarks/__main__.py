"""`python -m benchmarks`: measure Flue beside raw httpx2 + json, pydantic-ai, openai-agents, and the original's server.

Every measurement is a process of its own against one fake provider server, which runs in another process and whose
work does not count. CPU time is that of the process that is measured, all threads included. Rounds are interleaved
(A B A B), so that what else the machine does falls on all of them. The table gives medians and the range; ratios
compare the fastest runs.

Goals are shown, not enforced: the exit code is 0 unless something crashed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import server
from benchmarks.cases import HEADINGS, cases, row
from benchmarks.rows import Case, Row
from benchmarks.scenarios import Samples, Task
from benchmarks.server_cases import ONCE

ROOT = Path(__file__).resolve().parents[1]
IMPORT_PROBE = """
import sys, time
began = time.perf_counter()
exec(sys.argv[1])
print((time.perf_counter() - began) * 1000, len(sys.modules))
"""
TIMEOUT = 300  # seconds for one measurement
COMPARED = defaultdict(lambda: ("raw",), original=("flue",))
"""What a contender is compared with."""
MEASURED = ("httpx2", "pydantic", "pydantic-ai-slim", "openai-agents", "openai", "anthropic")


def main(argv: list[str] | None = None) -> int:
    """Measure and print; return 1 when a contender crashed."""
    parser = argparse.ArgumentParser("python -m benchmarks", description="Measure Flue beside others.")
    parser.add_argument(
        "--quick", action="store_true", help="one round, less of each and fewer contenders, in about a minute"
    )
    parser.add_argument("--only", choices=HEADINGS, help="measure only this")
    parser.add_argument("--rounds", type=int, help="rounds to interleave (default 3, with --quick 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there too")
    options = parser.parse_args(argv)
    rounds = options.rounds or (1 if options.quick else 3)
    chosen = [
        case
        for case in cases(quick=options.quick, samples=2 if options.quick else 3)
        if options.only in (None, case.section)
    ]
    (ROOT / "build").mkdir(exist_ok=True)
    with provider_server() as url, tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        disk = fsyncs_per_second(Path(folder))
        volume = server.QUICK if options.quick else server.Volume()
        collected, crashed = measure(chosen, rounds, url, Path(folder), volume)
    rows = [table_row(case, collected) for case in chosen]
    about = {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "rounds": rounds,
        "fsyncs_per_second": round(disk),
        "versions": {name: _version(name) for name in MEASURED},
    }
    print_table(rows, about)
    if options.json:
        options.json.write_text(json.dumps({**about, "rows": [asdict(one) for one in rows]}, indent=1), "utf-8")
    return 1 if crashed else 0


@contextmanager
def provider_server() -> Iterator[str]:
    """Run the fake provider in a process of its own and give its address."""
    command = [sys.executable, "-m", "flue.testing.provider_server", "--port", "0", "--no-check"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def fsyncs_per_second(folder: Path) -> float:
    """Return how many appends of 4 KB the disk makes durable in a second, one after the other."""
    count, began = 0, time.perf_counter()
    with (folder / "fsync").open("wb", buffering=0) as file:
        while time.perf_counter() - began < 0.3:
            file.write(bytes(4096))
            os.fsync(file.fileno())
            count += 1
    return count / (time.perf_counter() - began)


def measure(
    chosen: list[Case], rounds: int, url: str, folder: Path, volume: server.Volume
) -> tuple[dict[Task, Samples], bool]:
    """Run every task once a round; return their samples (`{}` for what is missing) and whether one crashed."""
    first = {case.task: case for case in reversed(chosen)}
    collected: dict[Task, Any] = {}
    crashed = False
    for number in range(rounds):
        for case in [case for case in chosen if first[case.task] is case]:
            if "missing" in collected.get(case.task, {}) or (number and case.section in ONCE):
                continue
            progress(f"round {number + 1} of {rounds}: {case.section}, {case.label}")
            try:
                result = run_case(case.task, url, folder, volume)
            except (subprocess.SubprocessError, ValueError) as error:
                crashed = True
                result = {"missing": "crashed"}
                print(f"\n{case.label}: {error}\n{getattr(error, 'stderr', '')}", file=sys.stderr)
            if "missing" in result:
                collected[case.task] = result
                continue
            samples = collected.setdefault(case.task, {})
            for metric, values in result.items():
                samples.setdefault(metric, []).extend(values)
    progress("")
    return collected, crashed


def progress(text: str) -> None:
    """Show what is going on, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r{text:100}\r", end="", file=sys.stderr, flush=True)


def run_case(task: Task, url: str, folder: Path, volume: server.Volume) -> Any:
    """Return the samples of one measurement, made in a fresh process."""
    if task.scenario == "import":
        printed = _output([sys.executable, "-c", IMPORT_PROBE, task.variant], missing="ModuleNotFoundError")
        if printed is None:
            return {"missing": "not installed"}
        wall, modules = printed.split()
        return {"wall_ms": [float(wall)], "modules": [float(modules)]}
    if task.scenario == "command":
        name, *arguments = task.variant.split()
        began = time.perf_counter()
        _output([str(Path(sys.executable).with_name(name)), *arguments])
        return {"wall_ms": [(time.perf_counter() - began) * 1000]}
    with tempfile.TemporaryDirectory(dir=folder) as own:
        if task.scenario in server.SCENARIOS:
            return server.measure(task, Path(own), volume)
        if task.scenario == "work":
            return json.loads(_output([sys.executable, "-m", "benchmarks.work", task.variant, own]) or "")
        given = replace(task, url=url, folder=own)
        return json.loads(_output([sys.executable, "-m", "benchmarks.worker", json.dumps(asdict(given))]) or "")


def _output(command: list[str], missing: str | None = None) -> str | None:
    """Return what a command printed; None when it failed with the error named `missing`."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=TIMEOUT, check=False)
    if done.returncode and missing and missing in done.stderr:
        return None
    done.check_returncode()
    return done.stdout


def table_row(case: Case, collected: dict[Task, Any]) -> Row:
    """Return the line of a case from everything that was collected."""
    samples = collected[case.task]
    if "missing" in samples:
        return Row(case.section, case.label, missing=samples["missing"])
    same = [(case.task.scenario, case.task.api, contender) for contender in COMPARED[case.task.contender]]
    others = [found for task, found in collected.items() if (task.scenario, task.api, task.contender) in same]
    return row(case, samples, others[0] if others and "missing" not in others[0] else None)


def print_table(rows: list[Row], about: dict[str, Any]) -> None:
    """Print the rows under their headings."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    print(f"Python {about['python']}, {about['machine']}; {versions}")
    print(f"{about['rounds']} round(s); the disk makes {about['fsyncs_per_second']} fsyncs per second", end="")
    print("; ratios compare the fastest runs")
    section = ""
    for one in rows:
        if one.section != section:
            section = one.section
            print(f"\n{HEADINGS[section]}\n  {'':50} {'median':>9}  {'min-max':>17}  {'':44} {'goal':22} met")
        if one.missing:
            print(f"  {one.label:50} {one.missing}")
            continue
        middle, spread = _number(median(one.values)), f"{_number(min(one.values))}-{_number(max(one.values))}"
        met = {True: "yes", False: "no", None: ""}[one.met]
        print(f"  {one.label:50} {middle:>9}  {spread:>17}  {one.note:44} {one.goal:22} {met}".rstrip())


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"


if __name__ == "__main__":
    sys.exit(main())
