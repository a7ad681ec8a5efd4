from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Receive, Scope, Send

from flue.serve.process import Stop
from flue.serve.running import serve_until_stopped
from flue.serve.site import Site


def test_while_a_process_serves_its_many_lasting_objects_are_rarely_looked_through() -> None:
    before, while_serving = gc.get_threshold(), []

    async def serve(_: Stop) -> None:
        while_serving.append(gc.get_threshold())

    assert Stop().run(serve) == 0
    assert while_serving[0][0] >= 10_000
    assert (while_serving[0][1:], gc.get_threshold()) == (before[1:], before)


def test_much_may_block_at_a_time() -> None:
    together = threading.Barrier(40)

    async def serve(_stop: Stop) -> None:
        await asyncio.gather(*(asyncio.to_thread(together.wait, 10) for _ in range(40)))

    assert Stop().run(serve) == 0


def test_who_was_let_in_as_the_signal_came_is_answered() -> None:
    """A busy process may take long from its first request to the line in which it waits for its end."""
    let_in = asyncio.Event()

    class Busy(Stop):
        async def wait(self) -> None:
            await let_in.wait()
            await super().wait()

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.01)  # the loop hears of the signal
        let_in.set()
        await asyncio.Event().wait()

    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as client,
    ):
        client.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")

        async def serve(stop: Stop) -> None:
            async with Site() as site:
                await serve_until_stopped(site, app, listening, stop, trust_proxy=False)

        assert Busy().run(serve) == 128 + signal.SIGTERM
        assert b"503 Service Unavailable" in client.recv(65536)


class Channel:
    """What binds a worker to its supervisor; both ends are here."""

    def __init__(self) -> None:
        self.supervisors, self.workers = socket.socketpair()

    def run(self, serve: Callable[[Stop], Awaitable[None]]) -> int:
        """Serve as a worker."""
        with self.supervisors, self.workers:
            return Stop(self.workers.fileno()).run(serve)


def test_a_worker_ends_in_good_order_when_its_supervisor_has_gone(capfd: pytest.CaptureFixture[str]) -> None:
    channel, ended = Channel(), []

    async def serve(stop: Stop) -> None:
        channel.supervisors.close()
        await stop.wait()
        ended.append(stop.left(3.0) > 2.0)

    assert channel.run(serve) == 128 + signal.SIGTERM
    assert ended == [True]
    assert capfd.readouterr().err == "", "its supervisor speaks for all"


def test_a_worker_takes_no_signal_for_a_second_one() -> None:
    """A terminal tells all processes, and the supervisor then tells its workers; nor is its end one."""
    channel, ended = Channel(), []

    async def serve(stop: Stop) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
            os.kill(os.getpid(), number)
        await stop.wait()
        channel.supervisors.close()
        await asyncio.to_thread(os.read, channel.workers.fileno(), 1)
        await asyncio.sleep(0.05)
        ended.append(True)

    assert channel.run(serve) == 128 + signal.SIGINT
    assert ended == [True]


def test_a_worker_lets_signals_come_that_were_held_back_while_it_was_started() -> None:
    async def serve(stop: Stop) -> None:
        await stop.wait()

    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
    try:
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)  # other threads of the tests do not hold it back
        assert Channel().run(serve) == 128 + signal.SIGTERM
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
