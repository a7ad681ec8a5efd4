"""A built Worker as a process: its Python under Pyodide in Node, the platform around it played by run.mjs."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.build.cloudflare.tools import PYODIDE, WRANGLER, node_for_wrangler

HERE = Path(__file__).resolve().parent


@dataclass
class NodeWorker:
    """A Worker that can be started, asked under `url`, killed, and started again over the same storage.

    `worker` is the folder of a build that holds wrangler.json; `state` is where storage is kept; `elsewhere` is the
    address at which objects of other Workers are reached.
    """

    worker: Path
    state: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    elsewhere: str = ""
    url: str = ""
    _process: subprocess.Popen[str] | None = None
    _log: Path | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.state.mkdir(parents=True, exist_ok=True)
        self._log = self.state / "log.txt"
        # node:sqlite says that it is experimental.
        command = [node_for_wrangler(), "--disable-warning=ExperimentalWarning", str(HERE / "run.mjs")]
        command += [str(PYODIDE / "node_modules" / "pyodide"), str(WRANGLER / "node_modules" / "ws")]
        command += [str(self.worker), str(self.state), json.dumps(dict(self.variables)), self.elsewhere]
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.log[-3000:]
        self.url = f"http://127.0.0.1:{json.loads(line)['port']}"

    def drop(self) -> None:
        """Have all objects dropped; what they keep in memory is lost, sockets and storage stay."""
        self.tell("evict")

    def kill(self) -> None:
        """End it as a power cut would."""
        process = self._process
        assert process is not None
        process.send_signal(signal.SIGKILL)
        self._wait(process)

    def stop(self) -> None:
        """End it."""
        process = self._process
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            self._wait(process)

    def tell(self, what: str) -> Any:
        """Have the harness do something (`evict`), and return what it knows of its memory."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=30)
        try:
            connection.request("POST", f"/__harness/{what}")
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    @property
    def log(self) -> str:
        """Return what it wrote to stderr, all starts together."""
        assert self._log is not None
        return self._log.read_text(encoding="utf-8", errors="replace")

    def _wait(self, process: subprocess.Popen[str]) -> None:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
        self._process = None
