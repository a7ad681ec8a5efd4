"""A stand-in for a bridge Worker: its routes over the stand-in of one container."""

from __future__ import annotations

import base64
import json
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.cloudflare.containers.control_server import NO_SESSION, ControlServer, Failure

KEY = "key-of-the-bridge"


@dataclass
class BridgeServer:
    """Where it is, the container behind it, the ids it was asked for; `fails` is what it answers next, and `cut` has
    it break off the next answer of a command.
    """

    container: ControlServer
    url: str = ""
    ids: set[str] = field(default_factory=set)
    fails: tuple[int, str] | None = None
    cut: bool = False


@contextmanager
def served_bridge(workspace: str) -> Iterator[BridgeServer]:
    """Serve a bridge; its container's `/workspace` is a folder."""
    bridge = BridgeServer(ControlServer(workspace=workspace))

    class Handler(_Handler):
        served = bridge

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    bridge.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield bridge
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: BridgeServer

    def do_GET(self) -> None:
        self._answer(b"")

    def do_PUT(self) -> None:
        self._answer(self.rfile.read(int(self.headers["content-length"])))

    def do_POST(self) -> None:
        self.do_PUT()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _answer(self, content: bytes) -> None:
        _, version, kind, id, route, *rest = self.path.split("/")
        assert (version, kind) == ("v1", "sandbox")
        self.served.ids.add(id)
        path = "/" + "/".join(rest)
        if self.headers.get("authorization") != f"Bearer {KEY}":
            self._send(401, {"error": "Unauthorized", "code": "unauthorized"})
        elif self.served.fails:
            status, error = self.served.fails
            self._send(status, {"error": error, "code": "pool_error"})
        elif route == "exec":
            self._exec(json.loads(content))
        elif not path.startswith("/workspace/"):
            self._send(403, {"error": "path must resolve to a location within /workspace", "code": "invalid_request"})
        elif self.command == "PUT":
            body = {"path": path, "content": base64.b64encode(content).decode(), "encoding": "base64"}
            self.served.container.ask("/api/write", body)
            self._send(200, {"ok": True})
        else:
            events = list(self.served.container.read_stream({"path": path}))
            self._send(200, "".join(event.get("data", "") for event in events).encode())

    def _exec(self, body: dict[str, list[str]]) -> None:
        command = shlex.join(body["argv"])
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        if self.served.cut:
            self.served.cut = False
            return
        try:
            done = self.served.container.ask("/api/execute", {"command": command, "sessionId": NO_SESSION, "cwd": "/"})
        except Failure as failure:
            self._event("error", json.dumps({"error": str(failure), "code": "exec_error"}))
            return
        for kind in ("stdout", "stderr"):
            if done[kind]:
                self._event(kind, base64.b64encode(done[kind].encode()).decode())
        self._event("exit", json.dumps({"exit_code": done["exitCode"]}))

    def _event(self, name: str, data: str) -> None:
        self.wfile.write(f"event: {name}\ndata: {data}\n\n".encode())

    def _send(self, status: int, answer: object) -> None:
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
