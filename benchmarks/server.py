"""Servers as processes, ours and the original's, and what is measured of them.

answers    from the start of the process to its first answer, and its memory then
reload     `flue dev`: from saving a file to an answer of the new code
requests   a workflow that does nothing, waited for over 16 connections, with our durable store on
decay      the same for a long time: the last requests beside the first
sockets    the memory of open WebSockets to agents that say nothing
follow     a run whose events many clients read, beside one that a single client reads
restart    conversations that wait for their models while the server is killed (`benchmarks.restart`)
"""

from __future__ import annotations

import http.client
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import original
from benchmarks.restart import restart
from benchmarks.scenarios import Samples, Task

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CONNECTIONS, WARM_UP = 16, 0.5
WORKERS = 2
FOLLOWERS, TICKS = 100, 100
RELOADS = 5
SCENARIOS = ("answers", "reload", "requests", "decay", "sockets", "follow", "restart")
NOOP, TICKING, SOCKET = "/workflows/noop?wait=result", "/workflows/ticks", "/agents/idle/{}"
_WORKFLOWS = {
    "version": "route = True\nasync def run(ctx):\n    return {version}\n",
    "noop": 'route = True\nasync def run(ctx):\n    return {{"ok": True}}\n',
    "ticks": (
        "import asyncio\nroute = True\nasync def run(ctx):\n    for _ in range(ctx.payload['ticks']):\n"
        "        await asyncio.sleep(0.01)\n        ctx.log.info('tick')\n"
    ),
}
_AGENT = "from flue import create_agent\nwebsocket = True\nagent = create_agent(model='demo/librarian')\n"


@dataclass(frozen=True, slots=True)
class Volume:
    """How much is done: seconds of requests; of a decay, our runs and their seconds; WebSockets."""

    seconds: float = 5.0
    runs: int = 100_000
    their_seconds: float = 30.0
    sockets: int = 1000

    def long_run(self, *, theirs: bool) -> tuple[float, int]:
        """Return the most seconds, and the most requests, of a decay."""
        return (self.their_seconds, sys.maxsize) if theirs else (600.0, self.runs)


QUICK = Volume(seconds=2.0, runs=3_000, their_seconds=4.0, sockets=200)


@dataclass(slots=True)
class Running:
    """A server: its port, its process, when that was started, and how often it committed once it has ended."""

    port: int
    pid: int
    began: float
    commits: int = 0
    workers: bool = False

    def cpu(self) -> float:
        """Return the CPU seconds spent so far, with those of its workers, if it has some."""
        stats = [_stat(Path(f"/proc/{self.pid}"))]
        if self.workers:
            found = [_stat(process) for process in Path("/proc").iterdir() if process.name.isdigit()]
            stats += [fields for fields in found if fields[1:2] == [str(self.pid)]]
        return sum(int(fields[11]) + int(fields[12]) for fields in stats) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """End it without a word, with its workers."""
        os.killpg(self.pid, signal.SIGKILL)

    def memory(self) -> float:
        """Return the resident MB."""
        statm = Path(f"/proc/{self.pid}/statm")
        if not statm.exists():
            command = ["ps", "-o", "rss=", "-p", str(self.pid)]
            return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 1e3
        return int(statm.read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _stat(process: Path) -> list[str]:
    """Return the fields after the name: state, parent, …; none of a process that has ended."""
    try:
        return (process / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return []


Serving = Callable[[Path], AbstractContextManager[Running]]


def measure(task: Task, folder: Path, volume: Volume) -> Any:
    """Return the samples of one measurement; `{"missing": reason}` where there is nothing to measure."""
    theirs = task.contender == "original"
    if theirs and not original.is_installed():
        return {"missing": original.MISSING}
    match task.scenario:
        case "answers":
            return answers(_theirs if theirs else _started, folder)
        case "reload":
            return reload(folder)
        case "requests":
            return requests(_theirs if theirs else _of(task), folder, volume.seconds)
        case "decay":
            return decay(_theirs if theirs else _counted, folder, *volume.long_run(theirs=theirs))
        case "restart":
            return restart(_of(task), folder)
        case "sockets":
            return sockets(_theirs if theirs else _counted, folder, volume.sockets)
        case _:
            return follow(_theirs if theirs else _counted, folder)


# ------------------------------------------------------------------------------------------------ what is measured


def answers(serving: Serving, folder: Path) -> Samples:
    """Start a server and ask it once."""
    before = _cpu_of_children()
    with serving(folder) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        _answer(connection, "noop")
        taken = {"answers_ms": [(time.perf_counter() - server.began) * 1000], "rss_mb": [server.memory()]}
        connection.close()
    return {**taken, "cpu_s": [_cpu_of_children() - before]}


def reload(folder: Path) -> Samples:
    """Give `flue dev` files to reload."""
    with _flue("dev", folder) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        _answer(connection, "version")
        taken = {"reload_ms": [_reload(connection, folder, number) for number in range(1, RELOADS + 1)]}
        connection.close()
    return taken


def requests(serving: Serving, folder: Path, seconds: float) -> Samples:
    """Have a workflow that does nothing run as often as it can."""
    with serving(folder) as server:
        warm = _load("hammer", server, path=NOOP, connections=CONNECTIONS, seconds=WARM_UP)
        before = server.cpu()
        load = _load("hammer", server, path=NOOP, connections=CONNECTIONS, seconds=seconds)
        spent = server.cpu() - before
    taken = {
        "per_second": [load["requests"] / load["seconds"]],
        "cpu_ms": [spent * 1000 / load["requests"]],
    }
    if server.commits:
        taken["per_fsync"] = [(warm["requests"] + load["requests"]) / server.commits]
    return taken


def decay(serving: Serving, folder: Path, seconds: float, most: int) -> Samples:
    """Go on with that for a long time; compare the last tenth with the first.

    What a request costs in CPU tells more than how many there are a second: other work on the machine changes it less.
    """
    with serving(folder) as server:
        _load("hammer", server, path=NOOP, connections=CONNECTIONS, seconds=WARM_UP)
        tenths = [_tenth(server, seconds / 10, most // 10) for _ in range(10)]
        memory = server.memory()
    first, last = tenths[0], tenths[-1]
    return {
        "last": [last["per_second"]],
        "first": [first["per_second"]],
        "last_cpu_ms": [last["cpu_ms"]],
        "first_cpu_ms": [first["cpu_ms"]],
        "runs": [sum(tenth["runs"] for tenth in tenths)],
        "rss_mb": [memory],
    }


def _tenth(server: Running, seconds: float, most: int) -> dict[str, float]:
    before = server.cpu()
    load = _load("hammer", server, path=NOOP, connections=CONNECTIONS, seconds=seconds, requests=most)
    runs = load["requests"]
    return {
        "per_second": runs / load["seconds"],
        "cpu_ms": (server.cpu() - before) * 1000 / runs,
        "runs": runs,
    }


def sockets(serving: Serving, folder: Path, count: int) -> Samples:
    """Open WebSockets to as many agents; what they take is what the server grows by."""
    with serving(folder) as server:
        _load("sockets", server, path=SOCKET, count=10)  # what is loaded for the first ones is not theirs
        before = server.memory()
        command = _loader("sockets", server, path=SOCKET, count=count)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as client:
            assert client.stdout is not None
            assert client.stdout.readline() == "open\n"
            grown = server.memory() - before
            client.communicate("")
    return {"each_kb": [grown * 1000 / count], "sockets": [count]}


def follow(serving: Serving, folder: Path) -> Samples:
    """Have the same run followed by one client, and by many."""
    with serving(folder) as server:
        _load("follow", server, path=TICKING, ticks=10, clients=1)
        alone = _load("follow", server, path=TICKING, ticks=TICKS, clients=1)["duration_ms"]
        before = server.cpu()
        among = _load("follow", server, path=TICKING, ticks=TICKS, clients=FOLLOWERS)["duration_ms"]
        spent = server.cpu() - before
    return {"many_ms": [among], "one_ms": [alone], "frame_us": [spent * 1e6 / (FOLLOWERS * TICKS)]}


def _load(what: str, server: Running, **options: Any) -> Any:
    done = subprocess.run(
        _loader(what, server, **options), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True, cwd=ROOT
    )
    return json.loads(done.stdout.splitlines()[-1])


def _loader(what: str, server: Running, **options: Any) -> list[str]:
    return [sys.executable, "-m", "benchmarks.load", what, str(server.port), json.dumps(options)]


def _reload(connection: http.client.HTTPConnection, folder: Path, version: int) -> float:
    """Return the milliseconds from saving a file to its first answer."""
    began = time.perf_counter()
    _save(folder, "version", version)
    while _answer(connection, "version") != version:
        assert time.perf_counter() - began < 30, "the file was not reloaded"
    return (time.perf_counter() - began) * 1000


def _answer(connection: http.client.HTTPConnection, workflow: str) -> Any:
    connection.request("POST", f"/workflows/{workflow}?wait=result", "{}", {"content-type": "application/json"})
    return json.loads(connection.getresponse().read())["result"]


def _cpu_of_children() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


# ------------------------------------------------------------------------------------------------------ servers


@contextmanager
def _theirs(folder: Path) -> Iterator[Running]:
    with original.serving(HERE / "theirs") as (port, pid, began):
        yield Running(port, pid, began)


def _started(folder: Path) -> AbstractContextManager[Running]:
    return _flue("start", folder)


def _of(task: Task) -> Serving:
    return _with_workers if task.variant == "workers" else _counted


def _counted(folder: Path) -> AbstractContextManager[Running]:
    return _flue("start", folder, module="benchmarks.counted")


def _with_workers(folder: Path) -> AbstractContextManager[Running]:
    return _flue("start", folder, "--workers", str(WORKERS), module="benchmarks.counted")


@contextmanager
def _flue(command: str, folder: Path, *options: str, module: str = "flue") -> Iterator[Running]:
    for name in _WORKFLOWS:
        _save(folder, name, 0)
    (folder / "agents").mkdir(exist_ok=True)
    (folder / "agents" / "idle.py").write_text(_AGENT, encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    began = time.perf_counter()
    started = [sys.executable, "-m", module, command, "--port", "0", "--root", str(folder), *options]
    with subprocess.Popen(
        started, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, process_group=0
    ) as process:
        assert process.stderr is not None
        server = None
        try:
            said = ""
            while not (found := re.search(r"http://[^:]+:(\d+)", said)):
                said = process.stderr.readline()
                assert said, f"flue {command} ended"
            server = Running(int(found[1]), process.pid, began, workers="--workers" in options)
            yield server
        finally:
            process.terminate()
            printed, _ = process.communicate()
            if server is not None and printed.strip():
                server.commits = int(printed)


def _save(folder: Path, workflow: str, version: int) -> None:
    path = folder / "workflows" / f"{workflow}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(_WORKFLOWS[workflow].format(version=version), encoding="utf-8")
