"""Which handler answers a request: exact paths, decoded segment by segment.

Starlette's router works on the decoded path, where the id `a/b` (sent as `a%2Fb`) is two segments; here it is one, as
the protocol has it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import quote, unquote, unquote_to_bytes

from starlette.types import Scope

from flue.server.problems import invalid_request, method_not_allowed

H = TypeVar("H")
_CONTROL = re.compile("[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Match(Generic[H]):
    """A handler and the values of its path's parameters, in order."""

    handler: H
    parameters: tuple[str, ...]


class Routes(Generic[H]):
    """A table of `(path, {method: handler})`; a segment `{name}` of a path stands for any text but none."""

    def __init__(self, table: Sequence[tuple[str, Mapping[str, H]]]) -> None:
        self._by_length: dict[int, list[tuple[list[str], Mapping[str, H]]]] = {}
        for path, handlers in table:
            pattern = path.split("/")[1:]
            self._by_length.setdefault(len(pattern), []).append((pattern, handlers))

    def find(self, scope: Scope) -> Match[H] | None:
        """Return what answers a request; None when nothing is served at its path.

        Raises `Problem`: 405 for another method, 400 for a parameter that is not UTF-8. HEAD is answered as GET.
        """
        segments = _segments(scope)
        for pattern, handlers in self._by_length.get(len(segments), ()):
            values = _matched(pattern, segments)
            if values is not None:
                method = "GET" if scope["method"] == "HEAD" else scope["method"]
                if method not in handlers:
                    raise method_not_allowed(scope["method"], ", ".join(handlers))
                return Match(handlers[method], tuple(_decoded(value) for value in values))
        return None


@dataclass(frozen=True, slots=True)
class Tables:
    """What answers at which path: the requests and the sockets of `asgi()`, the requests of `admin()`."""

    public: Routes[Any]
    sockets: Routes[Any]
    admin: Routes[Any]


def _matched(pattern: list[str], segments: list[bytes]) -> list[bytes] | None:
    values = []
    for expected, segment in zip(pattern, segments, strict=True):
        if expected.startswith("{"):
            if not segment:
                return None
            values.append(segment)
        elif segment != expected.encode():
            return None
    return values


def _decoded(segment: bytes) -> str:
    try:
        text = unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        raise invalid_request("A part of the path is not UTF-8.") from None
    if has_control_characters(text):
        raise invalid_request("A part of the path has control characters.")
    return text


def has_control_characters(text: str) -> bool:
    """Say whether there are characters that no name has and not every database takes."""
    return _CONTROL.search(text) is not None


def _segments(scope: Scope) -> list[bytes]:
    """Return the parts of the path below the mount, still percent-encoded."""
    root, path = scope.get("root_path", ""), scope["path"]
    # What is mounted at a prefix is told the whole path.
    below = path.removeprefix(root)
    raw: bytes | None = scope.get("raw_path")
    if raw is not None:
        encoded = raw.split(b"/")[1 + root.count("/") :]
        if unquote(b"/".join([b"", *encoded]).decode("latin-1")) == below:
            return encoded
    # A server without raw paths, or an application in front that rewrote the path.
    return [quote(part).encode() for part in below.split("/")[1:]]
