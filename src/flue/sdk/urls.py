"""Addresses: of HTTP requests below the base URL, of WebSockets, with what a proxy in between asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, quote, urlencode, urlsplit, urlunsplit

from flue.errors import UsageError

_SOCKET_SCHEMES = {"http": "ws", "https": "wss"}


class BaseUrl:
    """Where a server is. A path in it is where the app is mounted: `https://example.com/api`."""

    def __init__(self, url: str) -> None:
        parts = _parsed(url)
        if parts is None or parts.scheme not in _SOCKET_SCHEMES or not parts.hostname or parts.query or parts.fragment:
            raise UsageError(
                f"The base URL {url!r} cannot be used.",
                code="invalid_url",
                hint="Give scheme, host and, if the app is mounted at one, a path: https://example.com/api.",
            )
        self._parts = parts._replace(path=parts.path.rstrip("/"))
        self.encrypted = parts.scheme == "https"

    def http(self, path: str, query: Mapping[str, Any] | None = None, *, from_origin: bool = False) -> str:
        """Return the address of a request; parts of the query that are None are left out.

        With `from_origin` the path is the whole one, whatever the base URL's.
        """
        given = {name: value for name, value in (query or {}).items() if value is not None}
        whole = path if from_origin else self._parts.path + path
        return urlunsplit(self._parts._replace(path=whole, query=urlencode(given)))

    def socket(self, path: str, base_path: str) -> str:
        """Return the address of a WebSocket. `base_path` takes the place of the base URL's path, unless it is empty."""
        prefix = f"/{base_path.strip('/')}" if base_path.strip("/") else self._parts.path
        return urlunsplit(self._parts._replace(scheme=_SOCKET_SCHEMES[self._parts.scheme], path=prefix + path))


def path_of(*segments: str) -> str:
    """Return a path; the segments are escaped. Raises `UsageError` for one that no address can hold."""
    try:
        path = "".join(f"/{quote(segment, safe='')}" for segment in segments)
    except UnicodeEncodeError:
        path = ""
    # Dots alone lead to another place.
    if not path or {"", ".", ".."} & set(segments):
        raise UsageError(
            f"A part of {segments!r} cannot stand in an address.", code="invalid_id", hint="Use another id."
        )
    return path


def _parsed(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:
        return None
