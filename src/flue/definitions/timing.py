"""When a schedule fires: a cron expression, an interval or one time, and the arithmetic on them.

Times are milliseconds since the epoch. There is no clock here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import takewhile
from typing import Literal
from zoneinfo import ZoneInfo

from flue.definitions.duration import seconds
from flue.errors import DefinitionError

Missed = Literal["skip", "once", "all"]
MISSED: tuple[Missed, ...] = ("skip", "once", "all")
MOST_MADE_UP = 100
LATE_MS = 60_000
"""A time counts as missed when it is noticed more than this later."""

_LONGEST_EVERY = 10 * 366 * 86_400.0
_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Timing:
    """When something happens; exactly one of `cron`, `every_ms` and `at_ms` is given. `timezone` is that of `cron`."""

    cron: str | None = None
    every_ms: int | None = None
    at_ms: int | None = None
    timezone: str = "UTC"

    @classmethod
    def of(
        cls,
        owner: str,
        *,
        cron: str | None = None,
        every: float | str | timedelta | None = None,
        at: datetime | str | None = None,
        timezone: str = "UTC",
    ) -> Timing:
        """Check what a user wrote. Raises `DefinitionError` that names `owner` and the field."""
        given = [name for name, value in (("cron", cron), ("every", every), ("at", at)) if value is not None]
        if len(given) != 1:
            raise DefinitionError(
                f"{owner}: exactly one of cron, every and at is needed, got {' and '.join(given) or 'none'}."
            )
        zone = _zone(timezone, owner)
        if every is not None:
            return cls(every_ms=_interval(every, owner))
        if at is not None:
            return cls(at_ms=_moment(at, zone, owner))
        return _cron(cron, timezone, owner)

    @property
    def spec(self) -> str:
        """Return it as JSON text, equal for equal timings."""
        if self.every_ms is not None:
            return json.dumps({"everyMs": self.every_ms})
        if self.at_ms is not None:
            return json.dumps({"atMs": self.at_ms})
        return json.dumps({"cron": self.cron, "timezone": self.timezone}, sort_keys=True)


def next_after(timing: Timing, after: int) -> int | None:
    """Return the first time after a time; None when there is none any more. An interval begins at that time."""
    return next(_times(timing, after), None)


def last_due(timing: Timing, first: int, now: int, count: int) -> list[int]:
    """Return the last `count` times up to now, of a timing that is due since `first`; at least one."""
    if timing.every_ms is not None:
        last = first + (now - first) // timing.every_ms * timing.every_ms
        return [time for back in reversed(range(count)) if (time := last - back * timing.every_ms) >= first]
    span = _HOUR_MS
    while True:
        # Backwards in growing strides: after a year's sleep a schedule of every minute has half a million times.
        start = max(first - 1, now - span)
        times = list(takewhile(lambda time: time <= now, _times(timing, start)))
        if len(times) >= count or start < first:
            return times[-count:] or [first]
        span *= 8


def times_to_fire(timing: Timing, first: int, now: int, missed: Missed) -> list[int]:
    """Return for which of the times from `first` to now something is to happen, earliest first.

    A time is missed when now is over a minute later. `skip` lets missed times go and keeps the last one when it is not
    missed, `once` keeps the last one always, `all` keeps the last 100.
    """
    due = last_due(timing, first, now, MOST_MADE_UP if missed == "all" else 1)
    return [] if missed == "skip" and now - due[-1] > LATE_MS else due


def _times(timing: Timing, after: int) -> Iterator[int]:
    if timing.at_ms is not None:
        if timing.at_ms > after:
            yield timing.at_ms
    elif timing.every_ms is not None:
        while True:
            after += timing.every_ms
            yield after
    else:
        yield from _cron_times(timing, after)


def _cron_times(timing: Timing, after: int) -> Iterator[int]:
    from cronsim import CronSim

    assert timing.cron is not None
    start = datetime.fromtimestamp(after // 1000, _zone(timing.timezone, "schedule"))
    for found in CronSim(timing.cron, start):
        time = round(found.timestamp()) * 1000
        # In the hour that comes twice a year, times of its first pass may be given for a start in its second.
        if time > after:
            yield time
            after = time


def _cron(cron: object, timezone: str, owner: str) -> Timing:
    from cronsim import CronSimError

    fields = cron.split() if isinstance(cron, str) else []
    if len(fields) != 5:
        raise DefinitionError(
            f'{owner}: cron must be five fields as in "0 9 * * 1-5", got {cron!r}.',
            hint="They are minute, hour, day of month, month, day of week. For seconds use every=.",
        )
    timing = Timing(cron=" ".join(fields), timezone=timezone)
    try:
        first = next_after(timing, 0)
    except CronSimError as error:
        raise DefinitionError(
            f'{owner}: cron "{timing.cron}" is wrong: {str(error)[:1].lower()}{str(error)[1:]}.',
            hint="The fields are minute, hour, day of month, month, day of week.",
        ) from error
    if first is None:
        raise DefinitionError(f'{owner}: cron "{timing.cron}" names a day that never comes.')
    return timing


def _interval(every: object, owner: str) -> int:
    try:
        found = every.total_seconds() if isinstance(every, timedelta) else seconds(every)
    except DefinitionError:
        found = 0
    if not 1 <= found <= _LONGEST_EVERY:
        raise DefinitionError(
            f"{owner}: every must be between a second and ten years, got {every!r}.",
            hint="Write seconds, a timedelta, or text like '90s', '15m', '1h', '2d'.",
        )
    return round(found * 1000)


def _moment(at: object, zone: tzinfo, owner: str) -> int:
    found = at
    if isinstance(at, str):
        try:
            found = datetime.fromisoformat(at)
        except ValueError:
            found = None
    if not isinstance(found, datetime):
        raise DefinitionError(
            f"{owner}: at must be a datetime or ISO 8601 text, got {at!r}.", hint='Write "2027-01-31T09:00", say.'
        )
    aware = found.replace(tzinfo=zone) if found.tzinfo is None else found
    return round(aware.timestamp() * 1000)


def _zone(name: object, owner: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)  # type: ignore[arg-type]
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise DefinitionError(
            f"{owner}: timezone must be a name like 'Europe/Berlin', got {name!r}.",
            hint="If the name is right, this machine has no time zones: install the package tzdata.",
        ) from error
