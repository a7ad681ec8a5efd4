"""1,000 conversations whose server is killed while each waits for its model, and started again.

Everything is real but the models: `flue start` on a project, its SQLite file, requests over HTTP. What counts is when
each model has been asked again, from the start of the new process.
"""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from benchmarks.pace import watched
from benchmarks.rows import share
from benchmarks.scenarios import Samples

OPEN_SESSIONS = 1000
ACCEPTED = 202
WITHIN = 60.0  # seconds until all have been asked
_AGENT = """
from flue import create_agent, register_provider

register_provider("silent", api="anthropic-messages", base_url="http://127.0.0.1:{port}", api_key="none")
agent = create_agent(model="silent/model")
"""
_WORKFLOW = """
from flue import dispatch

route = True


async def run(ctx):
    for number in range({sessions}):
        await dispatch(agent="clerk", id=f"customer-{{number}}", input="Are you there?")
"""


class _Silent(asyncio.Protocol):
    """A model that is asked, once over each connection, and does not answer."""

    def __init__(self, models: _Models) -> None:
        self._models, self._new = models, True

    def data_received(self, data: bytes) -> None:
        """Note when the request came."""
        if self._new:
            self._new = False
            self._models.asked.append(time.perf_counter())
            if len(self._models.asked) == OPEN_SESSIONS:
                self._models.everybody.set()


class _Models(threading.Thread):
    """Their provider, in a thread of its own: `asked` are the moments in which one was asked."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.asked: list[float] = []
        self.everybody = threading.Event()
        self.port: Future[int] = Future()

    def run(self) -> None:
        """Serve until the process ends."""
        asyncio.run(self._serve())

    def again(self) -> None:
        """Forget who has asked."""
        self.asked.clear()
        self.everybody.clear()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Silent(self), "127.0.0.1", 0, backlog=2 * OPEN_SESSIONS)
        self.port.set_result(server.sockets[0].getsockname()[1])
        await server.serve_forever()


def restart(serving: Callable[[Path], AbstractContextManager[Any]], folder: Path) -> Samples:
    """Open the sessions, kill the server, start it again."""
    models = _Models()
    models.start()
    for name, text in (
        ("agents/clerk.py", _AGENT.format(port=models.port.result())),
        ("workflows/open.py", _WORKFLOW.format(sessions=OPEN_SESSIONS)),
    ):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    with serving(folder) as server:
        _post(server.port, "/workflows/open")
        assert models.everybody.wait(WITHIN)
        server.kill()
    models.again()
    with watched() as pace, serving(folder) as server:
        listens = time.perf_counter()
        assert models.everybody.wait(WITHIN)
        spent = server.cpu()
        server.kill()
    in_ms = [(at - server.began) * 1000 for at in models.asked]
    return {
        "listens_ms": [(listens - server.began) * 1000],
        "went_on_ms_p50": [share(in_ms, 0.5)],
        "went_on_ms_p99": [share(in_ms, 0.99)],
        "went_on_even_ms_p99": [share([pace.ms(server.began, at) for at in models.asked], 0.99)],
        "lost": [pace.lost],
        "cpu_ms": [spent / OPEN_SESSIONS * 1000],
    }


def _post(port: int, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WITHIN)
    connection.request("POST", path, "{}", {"content-type": "application/json"})
    assert connection.getresponse().status == ACCEPTED
    connection.close()
