"""Serving a site until the process is told to end, and ending in good order within the time that there is.

at the signal     nothing is let in any more; WebSockets are closed with 1012; turns stop at their boundary, work
                  that waits is parked, what can do neither is given back for the next start
3 s later         what has not stopped is cancelled
then              answers that did not come become 503s, streams end, connections are closed, applications end
"""

from __future__ import annotations

import asyncio
import logging
import socket

from starlette.types import ASGIApp

from flue.serve.gate import Gate
from flue.serve.http import served
from flue.serve.process import Stop
from flue.serve.site import Site
from flue.server.sockets.asgi import close_sockets

DRAIN_SECONDS = 3.0
_CANCEL_SECONDS = 0.3
_FLUSH_SECONDS = 0.3

logger = logging.getLogger("flue")


async def serve_until_stopped(
    site: Site, app: ASGIApp, listening: socket.socket, stop: Stop, *, trust_proxy: bool
) -> None:
    """Serve `app`, which is the site or stands before it, until the process is to end."""
    gate = Gate(app)
    stop.started()  # somebody may be let in before the next line has been reached
    async with served(gate, listening, trust_proxy=trust_proxy, grace=_FLUSH_SECONDS):
        await stop.wait()
        gate.close()
        if site.service is not None:
            ended = await asyncio.gather(
                close_sockets(site.service), site.service.drain(stop.left(DRAIN_SECONDS)), return_exceptions=True
            )
            for error in ended:
                if isinstance(error, Exception):
                    logger.error("Work could not be stopped in good order.", exc_info=error)
        await gate.end(_CANCEL_SECONDS)
