"""Which measurements of servers are made, and how each becomes a row with its goal."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from benchmarks.rows import Case, Row
from benchmarks.scenarios import Samples, Task
from benchmarks.server import CONNECTIONS, FOLLOWERS, TICKS, WORKERS

HEADINGS = {
    "serve": "A server on a few modules: wall ms",
    "requests": f"A workflow that does nothing, waited for over {CONNECTIONS} connections: requests/s",
    "decay": "The last tenth of many such runs: requests/s",
    "sockets": "Open WebSockets to agents that say nothing: resident KB each",
    "follow": f"A run of {TICKS} events, one in 10 ms, that {FOLLOWERS} clients read: wall ms",
}
ONCE = ("decay",)
"""Measured in one round only: it takes long."""
ANSWER_GOAL_MS, RELOAD_GOAL_MS, SERVER_GOAL_MB = 600.0, 500.0, 80.0
REQUESTS_GOAL, PER_FSYNC_GOAL, TIMES_THEIRS_GOAL = 1000.0, 5.0, 2.0
LAST_GOAL = 1.1  # times what a request cost in the first tenth
SOCKET_GOAL_KB = 60.0
FOLLOW_GOAL = 1.2  # times one client


def cases(*, quick: bool) -> Iterator[Case]:
    """Yield the measurements of one round, those to be compared next to each other."""
    both = ("flue", "original")
    for contender in both[: 1 if quick else 2]:
        yield Case("serve", f"{NAMES[contender]}, to its first answer", Task("answers", contender, ""))
    yield Case("serve", "flue dev, from saving a file to its answer", Task("reload", "flue", ""))
    flue, theirs = (Task("requests", contender, "") for contender in both)
    yield Case("requests", NAMES["flue"], flue, "per_second")
    yield Case("requests", "    requests an fsync", flue, "per_fsync")
    yield Case("requests", f"    with {WORKERS} workers", Task("requests", "flue", "", variant="workers"), "per_second")
    yield Case("requests", NAMES["original"], theirs, "per_second")
    for section in ("decay", "sockets", "follow"):
        for contender in both[: 1 if quick else 2]:
            yield Case(section, NAMES[contender], Task(section, contender, ""))


NAMES = {"flue": "flue start, SQLite store", "original": "the original, in memory"}


def row(case: Case, samples: Samples, other: Samples | None) -> Row:
    """Return the line for a case; `other` are the samples of the same measurement of the other server, if any."""
    ours = case.task.contender == "flue"
    match case.task.scenario:
        case "answers":
            return _answers(case, samples, ours=ours)
        case "reload":
            return _below(case, samples, "reload_ms", "", (RELOAD_GOAL_MS, "ms"))
        case "requests":
            return _requests(case, samples, other)
        case "decay":
            first, last = samples["first_cpu_ms"][-1], samples["last_cpu_ms"][-1]
            ratio = last / first
            note = f"{first:.2f} to {last:.2f} ms CPU, {samples['rss_mb'][-1]:.0f} MB"
            label = f"{case.label}, {samples['runs'][-1]:.0f} runs"
            goal, met = (f"<= {LAST_GOAL:g} times first CPU", ratio <= LAST_GOAL) if ours else ("", None)
            return Row(case.section, label, samples["last"], note, goal, met, samples=samples)
        case "sockets":
            note = f"{samples['sockets'][-1]:.0f} sockets"
            return _below(case, samples, "each_kb", note, (SOCKET_GOAL_KB, "KB") if ours else None)
        case _:
            ratio = median(many / one for many, one in zip(samples["many_ms"], samples["one_ms"], strict=True))
            note = f"{ratio:.2f} times one, {median(samples['frame_us']):.0f} us CPU"
            goal, met = (f"<= {FOLLOW_GOAL:g} times one client", ratio <= FOLLOW_GOAL) if ours else ("", None)
            return Row(case.section, case.label, samples["many_ms"], note, goal, met, samples=samples)


def _answers(case: Case, samples: Samples, *, ours: bool) -> Row:
    values, memory = samples["answers_ms"], median(samples["rss_mb"])
    note = f"{median(samples['cpu_s']):.2f} s CPU, {memory:.0f} MB"
    if not ours:
        return Row(case.section, case.label, values, note, samples=samples)
    met = median(values) < ANSWER_GOAL_MS and memory < SERVER_GOAL_MB
    goal = f"< {ANSWER_GOAL_MS:g} ms, {SERVER_GOAL_MB:g} MB"
    return Row(case.section, case.label, values, note, goal, met, samples=samples)


def _requests(case: Case, samples: Samples, other: Samples | None) -> Row:
    if case.metric == "per_fsync":
        return _above(case, samples, "", PER_FSYNC_GOAL)
    note = f"{median(samples['cpu_ms']):.2f} ms CPU"
    if case.task.variant == "workers":
        return Row(case.section, case.label, samples["per_second"], note, samples=samples)
    if case.task.contender == "flue":
        return _above(case, samples, note, REQUESTS_GOAL)
    if not other:
        return Row(case.section, case.label, samples["per_second"], note, samples=samples)
    # The best runs: what else a machine does only ever takes away.
    ratio = max(other["per_second"]) / max(samples["per_second"])
    goal, met = f"flue >= {TIMES_THEIRS_GOAL:g} times it", ratio >= TIMES_THEIRS_GOAL
    return Row(case.section, case.label, samples["per_second"], f"{note}, flue {ratio:.2f}", goal, met, samples=samples)


def _below(case: Case, samples: Samples, metric: str, note: str, goal: tuple[float, str] | None) -> Row:
    values = samples[metric]
    if goal is None:
        return Row(case.section, case.label, values, note, samples=samples)
    most, unit = goal
    return Row(case.section, case.label, values, note, f"< {most:g} {unit}", median(values) < most, samples=samples)


def _above(case: Case, samples: Samples, note: str, goal: float) -> Row:
    values = samples[case.metric]
    return Row(case.section, case.label, values, note, f">= {goal:g}", median(values) >= goal, samples=samples)
