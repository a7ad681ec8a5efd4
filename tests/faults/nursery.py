"""`python -m tests.faults.nursery`: starts servers of the office in no time, by forking a process that has it loaded.

It takes lines of JSON from its standard input, `{"listen": <descriptor>, …Setting}`, and forks a server for each. On
its standard output every server says `started <pid>` and, once it answers, `ready <pid>`; the nursery says
`ended <pid> <status>` of each. It ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import sys
import threading
from typing import Any

import uvicorn
import uvicorn.lifespan.on
import uvicorn.loops.auto

import flue.stores.sqlite  # noqa: F401 - loaded here, so that no server has to
from flue.testing import ProviderServer
from tests.faults.office import Office, Setting


class Server(uvicorn.Server):
    """A server that says when it answers."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        if not self.should_exit:
            say("ready", os.getpid())


async def warm_up() -> None:
    """Do everything once: what a server loads when it first needs it is loaded before it is forked."""
    async with ProviderServer(record=False) as provider:
        setting = Setting("memory:", provider.base_url("anthropic-messages"), "/dev/null")
        configure(setting).load()
        application = Office(setting).app().application
        service = await application.service()
        ticket = await service.prompt("clerk", "nobody", "Hello.")
        assert (await ticket.outcome()).kind == "completed"
        await application.drain()


def say(*words: object) -> None:
    """Tell the parent, in one write."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def configure(setting: Setting) -> uvicorn.Config:
    """Return how a server is run."""
    app: Any = Office(setting).app()
    return uvicorn.Config(app, lifespan="on", log_level="warning", access_log=False, timeout_graceful_shutdown=3)


def serve(order: dict[str, Any]) -> None:
    """Be a server until a signal ends it."""
    listening = socket.socket(fileno=order.pop("listen"))
    Server(configure(Setting(**order))).run(sockets=[listening])


def main() -> None:
    """Fork servers until the input ends."""
    asyncio.run(warm_up())
    assert threading.active_count() == 1, "no thread survives a fork"
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    say("nursery", os.getpid())
    left = b""
    while True:
        ready, _, _ = select.select([0, ended], [], [])
        if ended in ready:
            os.read(ended, 4096)
            reap()
        if 0 in ready:
            data = os.read(0, 65536)
            if not data:
                return
            *lines, left = (left + data).split(b"\n")
            for line in lines:
                fork(json.loads(line))


def fork(order: dict[str, Any]) -> None:
    """Start a server."""
    pid = os.fork()
    if pid:
        say("started", pid)
        return
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(0)
        serve(order)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:  # noqa: BLE001 - the child must not go on as the nursery
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def reap() -> None:
    """Say which servers have ended, and how."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        say("ended", pid, os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
