"""When a schedule fires: cron over changes of the clock, months and years; intervals; single times; missed times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flue.definitions.timing import Timing, last_due, next_after, times_to_fire
from flue.errors import DefinitionError

HOUR = 3_600_000
MINUTE = 60_000


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def cron(expression: str, timezone: str = "UTC") -> Timing:
    return Timing.of("schedule", cron=expression, timezone=timezone)


def following(timing: Timing, after: str, count: int) -> list[str]:
    """Return the next times in local time, each asked for by itself, as a server does."""
    zone = ZoneInfo(timing.timezone)
    found: list[str] = []
    time = ms(after)
    for _ in range(count):
        next_time = next_after(timing, time)
        assert next_time is not None
        assert next_time > time
        time = next_time
        found.append(datetime.fromtimestamp(time / 1000, zone).isoformat())
    return found


# ------------------------------------------------------------------------------------------- changes of the clock
# Central European time springs from 2 to 3 o'clock on 29 March 2026 and falls from 3 to 2 on 25 October.


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        # A time that the day does not have comes as soon as it is over.
        ("30 2 * * *", "2026-03-28T12:00+01:00", ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]),
        # Two that fall on the same moment so come once.
        ("0,30 2,3 * * *", "2026-03-29T00:00+01:00", ["2026-03-29T03:00:00+02:00", "2026-03-29T03:30:00+02:00"]),
        # Every hour means every hour.
        ("0 * * * *", "2026-03-29T00:30+01:00", ["2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00"]),
        # The same time of day on both sides of it.
        ("0 9 * * *", "2026-03-28T08:00+01:00", ["2026-03-28T09:00:00+01:00", "2026-03-29T09:00:00+02:00"]),
    ],
)
def test_in_spring_no_time_is_lost(expression: str, after: str, expected: list[str]) -> None:
    assert following(cron(expression, "Europe/Berlin"), after, len(expected)) == expected


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        # A time that the day has twice comes once, the first time.
        ("30 2 * * *", "2026-10-24T12:00+02:00", ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]),
        # Also when one asks in the middle of the second.
        ("45 2 * * *", "2026-10-25T02:30+01:00", ["2026-10-26T02:45:00+01:00"]),
        # Every hour means every hour.
        ("0 * * * *", "2026-10-25T01:30+02:00", [f"2026-10-25T{at}:00" for at in ("02:00:00+02", "02:00:00+01")]),
        ("0 9 * * *", "2026-10-24T10:00+02:00", ["2026-10-25T09:00:00+01:00"]),
    ],
)
def test_in_autumn_no_time_of_day_comes_twice(expression: str, after: str, expected: list[str]) -> None:
    assert following(cron(expression, "Europe/Berlin"), after, len(expected)) == expected


def test_a_zone_that_changes_at_midnight_has_a_first_time_of_that_day() -> None:
    # In Cairo 24 April 2026 begins at one o'clock.
    assert following(cron("0 0 * * *", "Africa/Cairo"), "2026-04-23T12:00+02:00", 2) == [
        "2026-04-24T01:00:00+03:00",
        "2026-04-25T00:00:00+03:00",
    ]


# ------------------------------------------------------------------------------------------- days


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 0 29 2 *", ["2028-02-29", "2032-02-29"]),
        ("0 0 31 * *", ["2026-01-31", "2026-03-31", "2026-05-31"]),
        ("0 0 L * *", ["2026-01-31", "2026-02-28", "2026-03-31"]),
        ("0 0 1 */3 *", ["2026-04-01", "2026-07-01", "2026-10-01", "2027-01-01"]),
        ("0 0 * * 0", ["2026-01-04", "2026-01-11"]),
        ("0 0 * * 7", ["2026-01-04", "2026-01-11"]),
        ("0 0 * * mon-fri", ["2026-01-02", "2026-01-05"]),
        # Both days given: either is enough, as in every cron.
        ("0 0 13 * 5", ["2026-01-02", "2026-01-09", "2026-01-13", "2026-01-16"]),
        # One of them begins with a star: both must hold. The first Monday in the first week.
        ("0 0 */2 * 1", ["2026-01-05", "2026-01-19"]),
        ("0 0 * * 5#3", ["2026-01-16", "2026-02-20"]),
    ],
)
def test_days_of_months_and_weeks_are_those_of_cron(expression: str, expected: list[str]) -> None:
    found = following(cron(expression), "2026-01-01T00:00Z", len(expected))
    assert [day.removesuffix("T00:00:00+00:00") for day in found] == expected


def test_times_are_those_of_the_zone() -> None:
    assert next_after(cron("0 9 * * *", "Asia/Kolkata"), ms("2026-01-01T00:00Z")) == ms("2026-01-01T03:30Z")


def test_a_fraction_of_a_second_before_a_time_it_is_still_to_come() -> None:
    timing = cron("0 9 * * *")
    nine = ms("2026-01-01T09:00Z")
    assert next_after(timing, nine - 1) == nine
    assert next_after(timing, nine) == nine + 24 * HOUR


# ------------------------------------------------------------------------------------------- intervals, single times


@pytest.mark.parametrize(
    ("every", "milliseconds"), [("1h", HOUR), (90, 90_000), (timedelta(minutes=1), MINUTE), ("1500ms", 1500)]
)
def test_an_interval_counts_from_the_time_given(every: Any, milliseconds: int) -> None:
    assert next_after(Timing.of("schedule", every=every), 17) == 17 + milliseconds


@pytest.mark.parametrize(
    "at",
    [
        datetime(2027, 1, 31, 8, tzinfo=UTC),
        datetime(2027, 1, 31, 9),  # noqa: DTZ001
        "2027-01-31T09:00",
        "2027-01-31T08:00Z",
        "2027-01-31T13:30:00+05:30",
    ],
)
def test_a_single_time_is_in_its_own_zone_or_in_the_schedules(at: Any) -> None:
    timing = Timing.of("schedule", at=at, timezone="Europe/Berlin")
    time = ms("2027-01-31T08:00Z")
    assert next_after(timing, time - 1) == time
    assert next_after(timing, time) is None


def test_the_spec_is_equal_for_equal_timings_only() -> None:
    same = [cron("0 9 * * *"), cron(" 0  9 * * * ")]
    other = [
        cron("0 9 * * *", "Europe/Berlin"),
        cron("0 8 * * *"),
        Timing.of("s", every=60),
        Timing.of("s", every=61),
        Timing.of("s", at="2027-01-01"),
    ]
    assert len({timing.spec for timing in same}) == 1
    assert len({timing.spec for timing in [*same, *other]}) == 6


# ------------------------------------------------------------------------------------------- missed times


def test_the_last_times_are_found_after_any_pause() -> None:
    first, now = ms("2025-01-01T00:00Z"), ms("2026-01-01T00:00:30Z")
    assert last_due(cron("* * * * *"), first, now, 3) == [now - 30_000 - back * MINUTE for back in (2, 1, 0)]
    assert last_due(Timing.of("s", every="1s"), first, now, 2) == [now - 1000, now]
    assert len(last_due(cron("0 0 1 * *"), first, now, 100)) == 13
    assert last_due(Timing.of("s", at="2025-01-01"), first, now, 100) == [first]


@given(
    expression=st.sampled_from(["*/7 * * * *", "30 2 * * *", "0 * * * *", "*/20 2 * * *", "5 1-3 * * 0", "0 0 1 * *"]),
    start=st.integers(ms("2026-01-01T00:00Z"), ms("2026-12-01T00:00Z")),
    pause=st.one_of(st.integers(0, 3 * HOUR), st.integers(0, 40 * 24 * HOUR)),
    count=st.integers(1, 120),
)
def test_the_last_times_are_those_that_come_one_after_the_other(
    expression: str, start: int, pause: int, count: int
) -> None:
    timing = cron(expression, "Europe/Berlin")
    first = next_after(timing, start)
    assert first is not None
    now = first + pause
    expected, time = [], first
    while time <= now:
        expected.append(time)
        later = next_after(timing, time)
        assert later is not None
        time = later
    assert last_due(timing, first, now, count) == expected[-count:]


def test_what_is_missed_is_decided_by_the_policy() -> None:
    timing, first = cron("0 * * * *"), ms("2026-01-01T00:00Z")
    in_time, late = first + 3 * HOUR + MINUTE, first + 3 * HOUR + MINUTE + 1
    hours = [first + hour * HOUR for hour in range(4)]
    assert times_to_fire(timing, first, in_time, "skip") == hours[-1:]
    assert times_to_fire(timing, first, late, "skip") == []
    assert times_to_fire(timing, first, late, "once") == hours[-1:]
    assert times_to_fire(timing, first, late, "all") == hours


def test_at_most_a_hundred_missed_times_are_made_up_for() -> None:
    times = times_to_fire(cron("* * * * *"), 0, 365 * 24 * HOUR, "all")
    assert len(times) == 100
    assert times[-1] == 365 * 24 * HOUR


# ------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({}, "exactly one of cron, every and at is needed, got none"),
        ({"cron": "0 9 * * *", "every": 60}, "got cron and every"),
        ({"cron": "0 9 * *"}, "cron must be five fields"),
        ({"cron": "0 0 9 * * *"}, "cron must be five fields"),
        ({"cron": "@daily"}, "cron must be five fields"),
        ({"cron": 9}, "cron must be five fields"),
        ({"cron": "60 9 * * *"}, "bad minute"),
        ({"cron": "0 9 * * noday"}, "bad day-of-week"),
        ({"cron": "0 9 5-1 * *"}, "bad day-of-month"),
        ({"cron": "0 9 */0 * *"}, "bad day-of-month"),
        ({"cron": "0 0 30 2 *"}, "bad day-of-month"),
        ({"every": "soon"}, "every must be between a second and ten years, got 'soon'"),
        ({"every": 0.5}, "every must be between"),
        ({"every": float("nan")}, "every must be between"),
        ({"every": "4000d"}, "every must be between"),
        ({"at": "tomorrow"}, "at must be a datetime or ISO 8601 text, got 'tomorrow'"),
        ({"at": 5}, "at must be"),
        ({"cron": "0 9 * * *", "timezone": "Mars/Base"}, "timezone must be a name like"),
        ({"cron": "0 9 * * *", "timezone": "../UTC"}, "timezone must be a name like"),
        ({"every": 60, "timezone": 1}, "timezone must be a name like"),
    ],
)
def test_a_mistake_is_named_with_its_field(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DefinitionError) as error:
        Timing.of('schedule "daily"', **fields)
    assert error.value.message.startswith('schedule "daily": ')
    assert complaint in str(error.value)
