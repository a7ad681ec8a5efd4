"""`python -m tests.faults.nursery`: starts servers of the office in no time, by forking a process that has it loaded.

It takes lines of JSON from its standard input, `{"listen": <descriptor>, "workers": 1, …Setting}`, and forks a server,
or the supervisor of one that has several workers, for each. On
its standard output it says `started <pid>` and `ended <pid> <status>` of each, and the server itself `ready <pid>` when
its engine runs. It ends with its input.
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

import flue.stores.sqlite  # noqa: F401 - loaded here, so that no server has to
from flue.serve.http import served
from flue.serve.process import Stop
from flue.serve.running import serve_until_stopped
from flue.serve.site import Site
from flue.serve.supervisor import Supervisor, reaped
from flue.testing import ProviderServer
from tests.faults.office import Office, Setting


def serve(order: dict[str, Any]) -> int:
    """Be a server until a signal ends it; return the exit status."""
    listening, workers = socket.socket(fileno=order.pop("listen")), order.pop("workers")
    if workers > 1:
        command = [sys.executable, "-m", "tests.faults.office_worker", json.dumps(order)]
        return Supervisor(command, workers, listening, lambda _: say("ready", os.getpid())).run()
    app = Office(Setting(**order)).app()

    async def serving(stop: Stop) -> None:
        async with Site() as site:
            site.service = await app.application.service()
            say("ready", os.getpid())
            await serve_until_stopped(site, app, listening, stop, trust_proxy=False)
        await app.application.drain()

    return Stop().run(serving)


async def warm_up() -> None:
    """Do everything once: what a server loads when it first needs it is loaded before it is forked."""
    async with ProviderServer(record=False) as provider:
        setting = Setting("memory:", provider.base_url("anthropic-messages"), "/dev/null")
        app = Office(setting).app()
        service = await app.application.service()
        ticket = await service.prompt("clerk", "nobody", "Hello.")
        assert (await ticket.outcome()).kind == "completed"
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            async with served(app, listening, trust_proxy=False, grace=0.0):
                pass
        await app.application.drain()


def say(*words: object) -> None:
    """Tell the parent, in one write."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


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
        code = serve(order)
    except BaseException:  # noqa: BLE001 - the child must not go on as the nursery
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def reap() -> None:
    """Say which servers have ended, and how."""
    for pid, code in reaped():
        say("ended", pid, code)


if __name__ == "__main__":
    main()
