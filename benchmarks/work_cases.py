"""Which measurements of accepted work are made, and how each becomes a row with its goal."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from benchmarks.rows import Case, Row
from benchmarks.scenarios import Samples, Task
from benchmarks.work import OPEN_SESSIONS, PACE, SESSIONS

HEADINGS = {"work": "Accepted work, SQLite store, every commit on disk"}
PER_FSYNC_GOAL, CLAIM_GOAL, PACED_GOAL_MS, RECOVERY_GOAL_MS = 20.0, 4.0, 20.0, 2000.0


def cases(*, quick: bool) -> Iterator[Case]:
    """Yield the measurements of one round."""
    admissions, paced, recovery = (
        Task("work", "flue", "", variant=variant) for variant in ("admissions", "paced", "recovery")
    )
    yield Case("work", f"{SESSIONS} sessions at once: admissions an fsync", admissions, "per_fsync")
    yield Case("work", f"{SESSIONS} sessions at once: fsyncs to a claim, p99", admissions, "claim_fsyncs_p99")
    yield Case("work", f"… at {PACE:,} a second: ms to a claim, p99", paced, "paced_claim_ms_p99")
    if not quick:
        yield Case("work", f"{OPEN_SESSIONS:,} open sessions after a kill: ms, p99", recovery, "went_on_ms_p99")


def row(case: Case, samples: Samples) -> Row:
    """Return the line for a case."""
    values = samples[case.metric]
    middle = {metric: median(found) for metric, found in samples.items()}
    match case.metric:
        case "per_fsync":
            note = f"{middle['per_second']:.0f}/s, {middle['cpu_us']:.0f} us CPU each"
            goal, met = f">= {PER_FSYNC_GOAL:g}", median(values) >= PER_FSYNC_GOAL
        case "claim_fsyncs_p99":
            note = f"{middle['claim_ms_p50']:.1f} ms, p99 {middle['claim_ms_p99']:.1f} ms"
            goal, met = f"< {CLAIM_GOAL:g}", median(values) < CLAIM_GOAL
        case "paced_claim_ms_p99":
            note = f"{middle['paced_per_second']:.0f}/s, p50 {middle['paced_claim_ms_p50']:.1f} ms"
            goal, met = f"< {PACED_GOAL_MS:g} ms", median(values) < PACED_GOAL_MS
        case _:
            note = f"p50 {middle['went_on_ms_p50']:.0f} ms, {middle['cpu_ms']:.1f} CPU each"
            goal, met = f"< {RECOVERY_GOAL_MS:g} ms", median(values) < RECOVERY_GOAL_MS
    return Row(case.section, case.label, values, note, goal, met, samples=samples)
