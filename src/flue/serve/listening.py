"""The socket of a server, taken before anything else is imported: who connects meanwhile waits instead of failing."""

from __future__ import annotations

import socket
import time
from typing import Any

from flue.errors import ConfigError

WAITING_CONNECTIONS = 2048
"""How many may be connected before somebody accepts them."""

_OTHERS_SECONDS = 0.0002
"""Others that sleep need 0.05 ms to wake up."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one. Clients may connect at once, and wait to be answered.

    Raises `ConfigError` (`port_unavailable`).
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # asyncio switches Nagle's algorithm off only for sockets that name their protocol; with it answers wait 40 ms.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except (OSError, UnicodeError) as error:
        raise _unavailable(host, port, error) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(WAITING_CONNECTIONS)
    except OSError as error:
        listening.close()
        raise _unavailable(host, port, error) from error
    return listening


class Shared(socket.socket):
    """A listening socket that several processes accept from.

    Each takes one connection at a time, and leaves the next to others that are idle. By itself asyncio takes all that
    wait, so that the process that wakes first may have them all, for as long as they last: of 16 connections that were
    opened in one moment, mostly 14 to 16. With the pause it is 8, also on busy cores.
    """

    def accept(self) -> tuple[socket.socket, Any]:
        """Take a connection."""
        accepted = super().accept()
        time.sleep(_OTHERS_SECONDS)
        return accepted

    def listen(self, backlog: int = 0, /) -> None:
        """Leave it as it is: asyncio has one number for how many may wait and how many it takes at a time."""


def _unavailable(host: str, port: int, error: Exception) -> ConfigError:
    reason = getattr(error, "strerror", None) or str(error)
    return ConfigError(
        f"Cannot listen on {host}:{port}: {reason}.",
        code="port_unavailable",
        hint="Choose another one with --port, or 0 for any that is free; --host names the interface.",
    )


def url_of(host: str, listening: socket.socket) -> str:
    """Return the address to type into a browser of this machine."""
    port = listening.getsockname()[1]
    name = "localhost" if host in ("0.0.0.0", "::", "") else f"[{host}]" if ":" in host else host  # noqa: S104
    return f"http://{name}:{port}"
