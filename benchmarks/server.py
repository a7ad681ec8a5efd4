"""`flue start` and `flue dev` as processes: when they answer, what they hold, how soon a saved file counts."""

from __future__ import annotations

import http.client
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.scenarios import Samples

_WORKFLOW = "route = True\nasync def run(ctx):\n    return {version}\n"
_RELOADS = 5


def measure(command: str, folder: Path) -> Samples:
    """Start a command on a project of one workflow, and end it; `flue dev` is also given files to reload."""
    _save(folder, 0)
    before = _cpu_of_children()
    with _running(command, folder) as (port, samples):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        assert _answer(connection) == 0
        samples["answers_ms"] = [(time.perf_counter() - samples.pop("began")[0]) * 1000]
        if command == "dev":
            samples["reload_ms"] = [_reload(connection, folder, number) for number in range(1, _RELOADS + 1)]
        connection.close()
    samples["cpu_s"] = [_cpu_of_children() - before]
    return samples


@contextmanager
def _running(command: str, folder: Path) -> Iterator[tuple[int, Samples]]:
    began = time.perf_counter()
    flue = [sys.executable, "-m", "flue", command, "--port", "0"]
    with subprocess.Popen(flue, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            said = ""
            while not (found := re.search(r"http://[^:]+:(\d+)", said)):
                said = process.stderr.readline()
                assert said, f"flue {command} ended"
            samples: Samples = {"began": [began]}
            yield int(found[1]), samples
            samples["rss_mb"] = [_resident_mb(process.pid)]
        finally:
            process.terminate()
            process.communicate()


def _save(folder: Path, version: int) -> None:
    path = folder / "workflows" / "version.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(_WORKFLOW.format(version=version), encoding="utf-8")


def _reload(connection: http.client.HTTPConnection, folder: Path, version: int) -> float:
    """Return the milliseconds from saving a file to its first answer."""
    began = time.perf_counter()
    _save(folder, version)
    while _answer(connection) != version:
        assert time.perf_counter() - began < 30, "the file was not reloaded"
    return (time.perf_counter() - began) * 1000


def _answer(connection: http.client.HTTPConnection) -> int:
    headers = {"content-type": "application/json"}
    connection.request("POST", "/workflows/version?wait=result", "{}", headers)
    found = re.match(rb'\{"result":(\d+)', connection.getresponse().read())
    assert found
    return int(found[1])


def _cpu_of_children() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _resident_mb(pid: int) -> float:
    statm = Path(f"/proc/{pid}/statm")
    if not statm.exists():
        printed = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True)  # noqa: S607
        return int(printed.stdout) / 1e3
    return int(statm.read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
