"""The original's own `flue logs`, unmodified, reads runs of our server."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from urllib.error import HTTPError

import pytest

from benchmarks import original

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def start(address: str, workflow: str, wait: str = "?wait=result") -> str:
    """Run a workflow and return the run's id."""
    request = urllib.request.Request(f"{address}/api/workflows/{workflow}{wait}", method="POST")  # noqa: S310 - loopback
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:  # noqa: S310 - loopback
            return str(answer.headers["X-Flue-Run-Id"])
    except HTTPError as failed:
        with failed:
            return str(failed.headers["X-Flue-Run-Id"])


def logs(address: str, run_id: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the original's `flue logs` against an address."""
    command = original.flue("logs", run_id, "--server", f"{address}/api", *options)
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def types(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the types of the events that were printed."""
    return [json.loads(line)["type"] for line in done.stdout.splitlines()]


def test_a_run_that_has_ended_is_shown(ours: str) -> None:
    done = logs(ours, start(ours, "echo"))
    assert done.returncode == 0
    assert "info: echoing" in done.stderr
    assert "run:end" in done.stderr


def test_a_run_under_way_is_followed_to_its_end(ours: str) -> None:
    done = logs(ours, start(ours, "slow", ""), "--follow", "--format", "ndjson")
    assert done.returncode == 0
    assert types(done) == ["run_start", "log", "log", "log", "log", "idle", "run_end"]


def test_its_filters_are_understood(ours: str) -> None:
    run_id = start(ours, "echo")
    assert types(logs(ours, run_id, "--types", "log", "--format", "json")) == ["log"]
    assert types(logs(ours, run_id, "--since", "1", "--format", "json")) == ["idle", "run_end"]
    assert types(logs(ours, run_id, "--no-follow", "--limit", "1", "--format", "json")) == ["run_start"]


def test_a_run_that_failed_and_one_that_is_not_there_are_told_apart(ours: str) -> None:
    assert logs(ours, start(ours, "boom")).returncode == 2
    missing = logs(ours, "nope")
    assert missing.returncode == 1
    assert "HTTP 404 [run_not_found]" in missing.stderr
