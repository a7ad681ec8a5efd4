"""`flue dev --target cloudflare` with the real Wrangler; Cloudflare's runtime is played, as its Python is not here."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.build.cloudflare.tools import ROOT, WRANGLER, link_npm_packages, node_for_wrangler
from tests.build.conftest import write_files
from tests.serve.server_process import CODE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
HELLO = "route = True\nasync def run(ctx): return 'hello'\n"
# The port of the inspector is otherwise the same for all that run at a time.
QUIET = '"dev": {"inspector_port": 0}'
STAGING = '{"vars": {"PLACE": "canary_staging"}}'
FILES = {
    ".flue/workflows/hello.py": HELLO,
    ".env": "SECRET=canary_env\n",
    "wrangler.jsonc": f"{{{QUIET}}}",
}


class Dev:
    """A running `flue dev`."""

    def __init__(self, process: subprocess.Popen[str], stderr: Path) -> None:
        self.process = process
        self._stderr = stderr

    @property
    def said(self) -> str:
        return self._stderr.read_text(encoding="utf-8")

    def until(self, text: str, seconds: float = 120) -> str:
        """Wait until it has said something; return that line."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None and text not in self.said:
            time.sleep(0.05)
        assert text in self.said, self.said
        return next(line for line in self.said.splitlines() if text in line)

    def ask(self, path: str = "/") -> Any:
        """Return what the Worker answers."""
        address = self.until("Server: http://localhost:").rpartition(":")[2]
        connection = http.client.HTTPConnection("127.0.0.1", int(address), timeout=30)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal; return the exit code and how long it took."""
        began = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(30), time.monotonic() - began


Start = Callable[..., Dev]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `flue dev` in a project; variables of the environment go with it."""
    root = write_files(tmp_path / "project", FILES)
    link_npm_packages(root)
    (root / "node_modules" / "node").mkdir()
    (root / "node_modules" / "node" / "bin").symlink_to(Path(node_for_wrangler()).parent)
    with ExitStack() as stack:

        def run(*options: str, **variables: str) -> Dev:
            env = {name: value for name, value in os.environ.items() if not name.startswith(("FLUE_", "CLOUDFLARE_"))}
            env |= {"HOME": str(tmp_path / "home"), "FLUE_CACHE_DIR": str(ROOT / "build" / "cache"), **variables}
            command = [sys.executable, "-c", CODE, "dev", "--target", "cloudflare", "--port", "0", *options]
            stderr = stack.enter_context((tmp_path / "stderr").open("w"))
            process = stack.enter_context(subprocess.Popen(command, cwd=root, env=env, stderr=stderr, text=True))
            stack.callback(process.kill)
            return Dev(process, tmp_path / "stderr")

        yield run


@pytest.fixture
def played(tmp_path: Path) -> dict[str, str]:
    """Return the variables that have Wrangler start the runtime's stand-in."""
    program = tmp_path / "workerd"
    program.write_text(f"#!{sys.executable}\n{(Path(__file__).parent / 'fake_workerd.py').read_text()}")
    program.chmod(0o755)
    real = next(WRANGLER.glob("node_modules/@cloudflare/workerd-*/bin/workerd"))
    return {"MINIFLARE_WORKERD_PATH": str(program), "REAL_WORKERD": str(real)}


def test_it_serves_reloads_goes_on_after_a_mistake_and_ends_with_all_its_processes(
    start: Start, played: dict[str, str], tmp_path: Path
) -> None:
    root = tmp_path / "project"
    dev = start(**played)
    first = dev.ask()
    assert first["variables"] == ["canary_env"]
    assert "Try: curl 'http://localhost:" in dev.said
    assert dev.said.index("[flue] Building\n") < dev.said.index("Server: http")
    write_files(root, {".flue/workflows/hello.py": f"{HELLO}# changed\n"})
    dev.until("Reloaded in")
    second = dev.ask()
    assert second["version"] != first["version"]
    write_files(root, {".flue/workflows/hello.py": "def (\n"})
    assert "[module_syntax] The code before it goes on serving." in dev.until("SyntaxError")
    assert dev.ask() == second
    write_files(root, {".dev.vars": "SECRET=canary_dev_vars\n", ".flue/workflows/hello.py": HELLO})
    dev.until(".env does not count for the Worker beside .dev.vars")
    dev.until(".dev.vars, .flue/workflows/hello.py")
    assert dev.ask() == {"version": first["version"], "variables": ["canary_dev_vars"]}
    code, seconds = dev.end(signal.SIGINT)
    assert (code, seconds < 5) == (130, True)
    assert "Stopped." in dev.said
    assert "canary" not in dev.said
    assert processes_in(tmp_path) == []


def test_the_named_environment_file_counts_and_the_environment_is_chosen(
    start: Start, played: dict[str, str], tmp_path: Path
) -> None:
    write_files(
        tmp_path / "project",
        {
            "my.env": "SECRET=canary_named\n",
            ".dev.vars": "SECRET=canary_dev_vars\n",
            "wrangler.jsonc": f'{{{QUIET}, "name": "x", "env": {{"staging": {STAGING}}}}}',
        },
    )
    dev = start("--env", "my.env", CLOUDFLARE_ENV="staging", **played)
    assert dev.ask()["variables"] == ["canary_named", "canary_staging"]
    assert dev.end()[0] == 143


def test_a_second_worker_is_served_beside_it_with_the_same_variables_and_without_docker(
    start: Start, played: dict[str, str], tmp_path: Path
) -> None:
    write_files(
        tmp_path / "project",
        {
            "wrangler.jsonc": """
                {
                    "dev": { "inspector_port": 0 },
                    "durable_objects": { "bindings": [{ "name": "Box", "class_name": "Sandbox" }] },
                    "migrations": [{ "tag": "v1", "new_sqlite_classes": ["Sandbox"] }],
                    "containers": [{ "class_name": "Sandbox", "image": "./Dockerfile" }]
                }
            """,
            "Dockerfile": "FROM docker.io/cloudflare/sandbox:0.12.10\n",
            "package.json": '{"dependencies": {"@cloudflare/sandbox": "0.12.10"}}',
        },
    )
    dev = start(PATH=str(Path(sys.executable).parent), **played)
    assert dev.ask()["variables"] == ["canary_env", "canary_env"]
    assert "Docker does not run here" in dev.said


def test_a_runtime_that_ends_because_python_cannot_go_on_is_started_again(start: Start, played: dict[str, str]) -> None:
    dev = start(**played)
    first = dev.ask()
    with suppress(http.client.HTTPException, OSError, ValueError):
        dev.ask("/__abort")
    dev.until("is being restarted")
    again, end = None, time.monotonic() + 60
    while again is None and time.monotonic() < end:
        with suppress(http.client.HTTPException, OSError, ValueError):  # not yet
            again = dev.ask()
    assert again == first


# BLD-04
@pytest.mark.parametrize("way", ["SIGTERM", "SIGINT twice", "SIGKILL", "Wrangler is killed"])
def test_no_process_outlives_it_whichever_way_it_ends(
    start: Start, played: dict[str, str], tmp_path: Path, way: str
) -> None:
    dev = start(**played, FAKE_WORKERD_DEAF="1")
    dev.ask()
    assert [line for line in processes_in(tmp_path, seconds=0) if str(tmp_path / "workerd") in line]
    match way:
        case "SIGINT twice":
            dev.process.send_signal(signal.SIGINT)
            assert dev.end(signal.SIGINT)[0] == 130
        case "Wrangler is killed":
            os.kill(wrangler_of(dev), signal.SIGKILL)
            dev.until("Wrangler has ended")
        case _:
            dev.end(signal.Signals[way])
    assert processes_in(tmp_path) == []


def wrangler_of(dev: Dev) -> int:
    """Return the process of Wrangler's that the guard started."""
    guard = next(iter(children(dev.process.pid)))
    return next(iter(children(guard)))


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_without_the_runtimes_python_it_says_so_and_ends(start: Start, tmp_path: Path) -> None:
    bundles = tmp_path / "bundles"
    bundles.mkdir()
    # What the installed runtime looks for; what it finds has not the checksum that it knows.
    (bundles / "pyodide_314.0.6_2026-08-17_11.capnp.bin").write_bytes(b"no bundle")
    dev = start(FLUE_WORKERD_BUNDLE_DIR=str(bundles))
    assert dev.process.wait(120) == 1
    assert "Cloudflare's local runtime has no Python" in dev.said
    assert "[no_python_bundle]" in dev.said
    assert processes_in(tmp_path) == []


def test_node_and_wrangler_are_asked_for_by_name(start: Start, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "project" / "node_modules")
    dev = start(PATH="/nowhere")
    assert dev.process.wait(60) == 1
    assert "[missing_node]" in dev.said


def processes_in(folder: Path, seconds: float = 4) -> list[str]:
    """Return the commands of processes that have to do with a folder, once they had time to go."""
    end = time.monotonic() + seconds
    while True:
        found = [command for command in commands() if str(folder) in command]
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.1)


def commands() -> Iterator[str]:
    """Yield the commands of all processes but this one."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        if path.parent.name != str(os.getpid()):
            with suppress(OSError):  # it has just ended
                yield path.read_bytes().replace(b"\0", b" ").decode()
