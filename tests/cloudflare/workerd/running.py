"""The runtime of Cloudflare Workers itself, with a Durable Object that can be asked what its storage does."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.prerequisites import require

HERE = Path(__file__).resolve().parent
INSTALLED = HERE.parents[2] / "build" / "wrangler"
CONFIG = """
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .probe), (name = "disk", disk = (path = "DISK", writable = true))],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")],
);
const probe :Workerd.Worker = (
  modules = [(name = "object.js", esModule = embed "object.js")],
  compatibilityDate = "2026-09-08",
  durableObjectNamespaces = [(className = "Probe", uniqueKey = "probe", enableSql = true)],
  durableObjectStorage = (localDisk = "disk"),
  bindings = [(name = "PROBE", durableObjectNamespace = "Probe")],
);
"""


class Workerd:
    """A running workerd."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/"

    def ask(self, steps: list[dict[str, Any]]) -> list[Any]:
        """Do steps in a new object and return what came of each."""
        request = urllib.request.Request(self._url, json.dumps(steps).encode(), method="POST")  # noqa: S310  (loopback)
        with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310
            found = json.load(response)
        assert isinstance(found, list)
        return found


@contextmanager
def running(directory: Path) -> Iterator[Workerd]:
    """Run workerd for a block, with its data in a directory."""
    binaries = [*INSTALLED.glob("node_modules/@cloudflare/workerd-*/bin/workerd")]
    require(bool(binaries), "workerd is not installed; run: make e2e-setup")
    (directory / "disk").mkdir()
    (directory / "object.js").write_bytes((HERE / "object.js").read_bytes())
    config = directory / "config.capnp"
    config.write_text(CONFIG.replace("DISK", str(directory / "disk")), encoding="utf-8")
    reading, writing = os.pipe()
    command = [str(binaries[0]), "serve", str(config), f"--control-fd={writing}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, pass_fds=[writing])
    os.close(writing)
    try:
        with os.fdopen(reading, encoding="utf-8") as control:
            # The first line tells of the socket; there is none when workerd cannot start.
            yield Workerd(json.loads(control.readline())["port"])
    finally:
        process.kill()
        process.wait()
