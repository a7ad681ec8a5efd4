"""Which measurements of accepted work are made, and how each becomes a row with its goal.

Times are those of an evenly running machine (`benchmarks.pace`); beside them stands what the clock said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median

from benchmarks.restart import OPEN_SESSIONS
from benchmarks.rows import Case, Row
from benchmarks.scenarios import Samples, Task
from benchmarks.server import WORKERS
from benchmarks.work import PACE, SESSIONS

HEADINGS = {"work": "Accepted work, every commit on disk; SQLite where nothing else is said"}
PER_FSYNC_GOAL, CLAIM_GOAL, CLAIM_GOAL_MS, RECOVERY_GOAL_MS = 20.0, 4.0, 20.0, 2000.0


def cases(*, quick: bool) -> Iterator[Case]:
    """Yield the measurements of one round."""
    admissions, paced, recovery, takeover = (
        Task("work", "flue", "", variant=variant) for variant in ("admissions", "paced", "recovery", "takeover")
    )
    yield Case("work", f"{SESSIONS} sessions at once: admissions an fsync", admissions, "per_fsync")
    yield Case("work", f"{SESSIONS} sessions at once: fsyncs to a claim, p99", admissions, "claim_fsyncs_p99")
    yield Case("work", f"{SESSIONS} sessions at once: ms to a claim, p99, even", admissions, "claim_even_ms_p99")
    yield Case("work", f"… at {PACE:,} a second: ms to a claim, p99, even", paced, "claim_even_ms_p99")
    if not quick:
        yield Case(
            "work", f"{OPEN_SESSIONS:,} open sessions after a kill: ms, p99, even", recovery, "went_on_even_ms_p99"
        )
        yield Case("work", "… at another node of Postgres: ms, p99, even", takeover, "went_on_even_ms_p99")
        for variant, label in (("", ""), ("workers", f" --workers {WORKERS}")):
            restart = Task("restart", "flue", "", variant=variant)
            yield Case(
                "work", f"… of `flue start{label}`, models over HTTP: ms, p99, even", restart, "went_on_even_ms_p99"
            )


def row(case: Case, samples: Samples) -> Row:
    """Return the line for a case."""
    values = samples[case.metric]
    middle = {metric: median(found) for metric, found in samples.items()}
    match case.metric:
        case "per_fsync":
            note = f"{middle['per_second']:.0f}/s, {middle['cpu_us']:.0f} us CPU each"
            goal, met = f">= {PER_FSYNC_GOAL:g}", median(values) >= PER_FSYNC_GOAL
        case "claim_fsyncs_p99":
            note = f"p50 {middle['claim_fsyncs_p50']:g}"
            goal, met = f"< {CLAIM_GOAL:g}", median(values) < CLAIM_GOAL
        case "claim_even_ms_p99":
            note = _as_measured(middle, "claim")
            goal, met = f"< {CLAIM_GOAL_MS:g} ms", median(values) < CLAIM_GOAL_MS
        case _:
            note = f"{_as_measured(middle, 'went_on')}, {middle['cpu_ms']:.1f} CPU each"
            goal, met = f"< {RECOVERY_GOAL_MS:g} ms", median(values) < RECOVERY_GOAL_MS
    return Row(case.section, case.label, values, note, goal, met, samples=samples)


def _as_measured(middle: Mapping[str, float], what: str) -> str:
    p50, p99, lost = middle[f"{what}_ms_p50"], middle[f"{what}_ms_p99"], middle["lost"]
    return f"p50 {p50:.3g}, p99 {p99:.3g}, machine {lost:.0%} slow"
