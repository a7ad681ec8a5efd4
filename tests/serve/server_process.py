"""`flue start` and `flue dev` as processes of their own."""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flue as package

SOURCE = str(Path(package.__file__).parent.parent)
CODE = f"import sys; sys.path.insert(0, {SOURCE!r}); from flue.cli.main import main; sys.exit(main())"
READY = {"start": "Server listening on ", "dev": "Server: "}


@dataclass(frozen=True)
class End:
    """How a process ended: its exit code, how long after the last signal, and all it wrote to stderr."""

    code: int
    seconds: float
    stderr: str


class Server:
    """A running server; `port` is its own."""

    def __init__(self, process: subprocess.Popen[bytes], command: str) -> None:
        self.process = process
        self.stderr = ""
        self.connections: list[http.client.HTTPConnection] = []
        line = self.until(READY[command])
        found = re.search(r":(\d+)$", line)
        assert found, line
        self.port = int(found[1])

    def until(self, text: str, seconds: float = 15.0) -> str:
        """Read stderr until a line holds `text`; return that line, from there on."""
        assert self.process.stderr is not None
        end, descriptor = time.monotonic() + seconds, self.process.stderr.fileno()
        while not (found := re.search(f"{re.escape(text)}.*\n", self.stderr)):
            ready, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
            data = os.read(descriptor, 65536) if ready else b""
            assert data, f"no {text!r} in: {self.stderr}"
            self.stderr += data.decode()
        return found[0].rstrip()

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection, which is closed with the server."""
        self.connections.append(http.client.HTTPConnection("127.0.0.1", self.port, timeout=15))
        return self.connections[-1]

    def send(self, path: str, payload: Any = None, **headers: str) -> http.client.HTTPConnection:
        """Send a request whose answer is read later."""
        connection = self.connect()
        method = "GET" if payload is None else "POST"
        body = None if payload is None else json.dumps(payload)
        connection.request(method, path, body, {"content-type": "application/json", **headers} if body else headers)
        return connection

    def call(self, path: str, payload: Any = None, **headers: str) -> tuple[int, http.client.HTTPMessage, Any]:
        """Return status, headers and JSON of an answer."""
        answer = self.send(path, payload, **headers).getresponse()
        return answer.status, answer.headers, json.loads(answer.read())

    def tell(self, number: int = signal.SIGTERM) -> float:
        """Send a signal; return when."""
        self.process.send_signal(number)
        return time.monotonic()

    def end(self, since: float) -> End:
        """Wait for the end."""
        _, rest = self.process.communicate(timeout=15)
        return End(self.process.returncode, time.monotonic() - since, self.stderr + rest.decode())

    def stop(self, number: int = signal.SIGTERM) -> End:
        """Send a signal and wait for the end."""
        return self.end(self.tell(number))


@contextmanager
def serving(root: Path, command: str = "start", *options: str, **environment: str) -> Iterator[Server]:
    """Run a command on a project; a process that is still there at the end is killed."""
    arguments = [sys.executable, "-c", CODE, command, "--port", "0", *options]
    env = {**os.environ, **environment}
    with subprocess.Popen(
        arguments,
        cwd=root,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,  # as a shell starts it: `os.killpg` is Ctrl-C
    ) as process:
        server = None
        try:
            server = Server(process, command)
            yield server
        finally:
            if process.poll() is None:
                process.kill()
            for connection in [] if server is None else server.connections:
                connection.close()
