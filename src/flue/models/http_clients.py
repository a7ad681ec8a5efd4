"""The HTTP clients of one event loop, each with a few connections.

httpcore2 looks at every connection of a pool whenever a request begins or ends
(`AsyncConnectionPool._assign_requests_to_connections`), about 2 µs each: in one pool, 1,000 requests at once would cost
2 ms CPU at each end of each of them. In several small pools they cost what one costs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx2

PER_CLIENT = 16
"""Requests at once."""
SPARE = 4
"""Clients kept, with their idle connections, while they have no request."""


class Client:
    """A client, and how many requests it has."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http
        self.requests = 0


class Clients:
    """Gives each request to the first client that has room, so that few connections serve few requests."""

    def __init__(self, make: Callable[[], httpx2.AsyncClient]) -> None:
        self._make = make
        self._clients: list[Client] = []

    def take(self) -> Client:
        """Return a client for one request."""
        client = next((one for one in self._clients if one.requests < PER_CLIENT), None)
        if client is None:
            client = Client(self._make())
            self._clients.append(client)
        client.requests += 1
        return client

    async def give_back(self, client: Client) -> None:
        """Take note that the request is over; its connection was given back or closed."""
        client.requests -= 1
        if client.requests or client not in self._clients:
            return
        if sum(not one.requests for one in self._clients) > SPARE:
            self._clients.remove(client)
            await client.http.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        while self._clients:
            await self._clients.pop().http.aclose()
