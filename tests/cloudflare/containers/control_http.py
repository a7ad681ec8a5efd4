"""The stand-ins of many containers behind one HTTP server: `/<object id>/port/<path>` is what a container is asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.cloudflare.containers.control_server import ControlServer, Failure, Json, event_bytes


class Containers:
    """All containers of a test, by the id of their Durable Object."""

    def __init__(self, version: str, workspace: str | None = None) -> None:
        self.url = ""
        self._workspace = workspace
        self.running: dict[str, ControlServer] = {}
        self._version = version
        self._lock = threading.Lock()
        self._broken: set[str] = set()

    def server(self, id: str) -> ControlServer:
        """Return the control server of a container, started now if it does not run."""
        with self._lock:
            if id not in self.running:
                self.running[id] = ControlServer(version=self._version, workspace=self._workspace)
            return self.running[id]

    def destroy(self, id: str) -> None:
        """End a container."""
        with self._lock:
            server = self.running.pop(id, None)
        if server:
            server.close()

    def break_off(self, id: str) -> None:
        """Have a container vanish while it answers the next command."""
        self._broken.add(id)

    def breaks_off(self, id: str) -> bool:
        """Say, once, whether a container is to vanish now."""
        found = id in self._broken
        self._broken.discard(id)
        return found

    def close(self) -> None:
        """End all of them."""
        for id in list(self.running):
            self.destroy(id)


@contextmanager
def served_containers(version: str, workspace: str | None = None) -> Iterator[Containers]:
    """Serve containers whose control servers say that they have a version of the image."""
    containers = Containers(version, workspace)

    class Handler(_Handler):
        served = containers

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    containers.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield containers
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        containers.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Containers

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        self._answer(json.loads(self._body() or b"{}"))

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _answer(self, body: Json) -> None:
        _, id, part, *rest = self.path.split("/")
        path = f"/{'/'.join(rest)}"
        if path == "/api/execute" and self.served.breaks_off(id):
            self.close_connection = True
        elif part == "destroy":
            self.served.destroy(id)
            self._send(200, {"success": True})
        elif path == "/":
            self._send(200, {})
        elif path == "/api/execute/stream":
            self._stream(self.served.server(id).stream(body))
        elif path == "/api/read/stream":
            self._stream(self.served.server(id).read_stream(body))
        else:
            try:
                self._send(200, self.served.server(id).ask(path, body))
            except Failure as failure:
                self._send(failure.status, failure.body)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _send(self, status: int, answer: Json) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, events: Iterator[Json]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in events:
            piece = event_bytes(event)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")
