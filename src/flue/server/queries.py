"""Query parameters and headers that say which part of a log or list is wanted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from starlette.requests import Request

from flue.events import Event
from flue.server.problems import validation_failed

MAX_PAGE = 1000
DEFAULT_PAGE = 100
# More than any index; larger numbers do not fit the columns of a database.
_MAX_NUMBER = 2**53
_DIGITS = re.compile(r"[0-9]+\Z")


def number(text: str) -> int | None:
    """Return the number that decimal digits say, None for other text; absurdly large ones are cut off."""
    if not _DIGITS.match(text):
        return None
    return min(int(text), _MAX_NUMBER) if len(text) <= 20 else _MAX_NUMBER


def limit_of(request: Request) -> int:
    """Return the size of a page. Raises `Problem` (400)."""
    limit = number(request.query_params.get("limit", str(DEFAULT_PAGE)))
    if limit is None or not 1 <= limit <= MAX_PAGE:
        raise validation_failed("query", [("limit", f"Expected a number from 1 to {MAX_PAGE}.")])
    return limit


def after_of(request: Request) -> int:
    """Return the index of the last event that the client has, -1 for none. Raises `Problem` (400)."""
    text = request.query_params.get("after")
    after = -1 if text is None else number(text)
    if after is None:
        raise validation_failed("query", [("after", "Expected digits.")])
    return after


def types_of(request: Request) -> frozenset[str] | None:
    """Return the types of events that are wanted, None for all. Raises `Problem` (400)."""
    text = request.query_params.get("types")
    if text is None:
        return None
    types = frozenset(text.split(","))
    if not types <= event_types():
        raise validation_failed("query", [("types", f"Expected some of: {', '.join(sorted(event_types()))}.")])
    return types


def last_event_id(request: Request) -> int:
    """Return the index after which a stream goes on; what is no number is ignored, as browsers may send anything."""
    after = number(request.headers.get("last-event-id", ""))
    return -1 if after is None else after


@cache
def event_types() -> frozenset[str]:
    """Return the types of events there are; `run_resume` and `tool_execution_update` only other versions emit."""
    return frozenset({"run_resume", "tool_execution_update", *_types(Event)})


def _types(kind: type[Event]) -> Iterator[str]:
    if kind.type:
        yield kind.type
    for each in kind.__subclasses__():
        yield from _types(each)
