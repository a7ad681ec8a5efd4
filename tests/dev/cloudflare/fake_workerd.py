"""Stands in for Cloudflare's runtime where that cannot run Python for want of its bundle.

Wrangler starts it with a configuration on standard input. That of a Python Worker is answered with a server which says
what was configured; every other, Wrangler's own Workers, is given to the real runtime, which REAL_WORKERD names.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# Which sockets Wrangler waits for; that of the inspector has an event of its own.
_SOCKETS = re.compile(rb"(?:direct|connect):\d+:[\w$]*|entry:local|dev-registry")
# After an abort Wrangler asks for the port that there was.
_PORT = Path(__file__).with_name("port")


def main() -> int:
    """Serve until told to end."""
    config = sys.stdin.buffer.read()
    if b"flue_bundle" not in config:
        return _real(config)
    if os.environ.get("FAKE_WORKERD_DEAF"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Asked for it as Python asks, the runtime fails like this.
    if os.environ.get("FAKE_WORKERD_FAILS"):
        print(os.environ["FAKE_WORKERD_FAILS"], file=sys.stderr)  # noqa: T201
        return 1
    before = int(_PORT.read_text()) if _PORT.is_file() else 0
    server = ThreadingHTTPServer(("127.0.0.1", before), _handler(config))
    port = server.server_address[1]
    names = ["entry", "debug-port", *sorted({found.decode() for found in _SOCKETS.findall(config)})]
    events = [{"event": "listen", "socket": name, "port": port} for name in names]
    for event in [*events, {"event": "listen-inspector", "port": port}]:
        os.write(3, f"{json.dumps(event)}\n".encode())
    server.serve_forever()
    return 0


def _handler(config: bytes) -> type[BaseHTTPRequestHandler]:
    version = re.search(rb"version='([0-9a-f]+)'", config)
    facts = {
        "version": version[1].decode() if version else None,
        # Once for each Worker that has it.
        "variables": sorted(found.decode() for found in re.findall(rb"canary_\w+", config)),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/__abort":  # what the runtime does to a Python that cannot go on
                _PORT.write_text(str(self.connection.getsockname()[1]))
                os._exit(1)
            body = json.dumps(facts).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _real(config: bytes) -> int:
    process = subprocess.Popen([os.environ["REAL_WORKERD"], *sys.argv[1:]], stdin=subprocess.PIPE, pass_fds=(3,))
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    assert process.stdin is not None
    process.stdin.write(config)
    process.stdin.close()
    return process.wait()


if __name__ == "__main__":
    sys.exit(main())
