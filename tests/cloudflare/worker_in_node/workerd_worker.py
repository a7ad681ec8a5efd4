"""A built Worker in Cloudflare's own runtime, served by Wrangler: what NodeWorker is a stand-in for.

The runtime downloads its Python where it has internet; a folder with that download is named by FLUE_WORKERD_BUNDLE_DIR.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flue.build.cloudflare.node import Node
from flue.dev.cloudflare.tools import BUNDLE_FOLDER, Tools, workerd_with_bundle, wrangler_environment
from tests.build.cloudflare.tools import WRANGLER, node_for_wrangler
from tests.cloudflare.worker_in_node.project import free_port

_READY_SECONDS = 180


@dataclass
class WorkerdWorker:
    """A Worker that can be started, asked under `url`, killed, and started again over the same storage."""

    worker: Path
    state: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    _process: subprocess.Popen[bytes] | None = None
    _log: str = ""

    def start(self) -> None:
        """Start it, and wait until it serves."""
        self.state.mkdir(parents=True, exist_ok=True)
        tools = Tools(Node(node_for_wrangler(), (22, 12)), WRANGLER / "node_modules" / "wrangler")
        file = self.state / "variables"
        file.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in self.variables.items()))
        port = free_port()
        command = tools.command(
            [self.worker / "wrangler.json"],
            host="127.0.0.1",
            port=port,
            state=self.state / "storage",
            files=[file],
            containers=False,
        )
        program = workerd_with_bundle(tools, self.state, os.environ[BUNDLE_FOLDER])
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.state,
            env=wrangler_environment(os.environ | {"HOME": str(self.state)}, program),
            start_new_session=True,
        )
        self._until("Ready on http")
        self.url = f"http://127.0.0.1:{port}"

    def drop(self) -> None:
        """Have all objects dropped: there is no other way here than to begin anew."""
        self.kill()
        self.start()

    def kill(self) -> None:
        """End it as a power cut would."""
        process = self._process
        assert process is not None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        self._process = None

    def stop(self) -> None:
        """End it; its storage is not needed any more."""
        if self._process is not None:
            self.kill()

    def _until(self, text: str) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        descriptor, end = self._process.stdout.fileno(), time.monotonic() + _READY_SECONDS
        while text not in self._log:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
            data = os.read(descriptor, 65536) if ready else b""
            assert data, f"Wrangler does not serve: {self._log[-3000:]}"
            self._log += data.decode(errors="replace")
        self._log = ""
