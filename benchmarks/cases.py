"""Which measurements are made, and how each becomes a row with its goal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from benchmarks import server_cases, work_cases
from benchmarks.rows import Case, Row
from benchmarks.scenarios import EARLY, LATE, LOOP_TURNS, Samples, Task

APIS = ("anthropic-messages", "openai-completions", "openai-responses")
NAMES = {"raw": "raw httpx2 + json", "flue": "flue", "pydantic_ai": "pydantic-ai", "openai_agents": "openai-agents"}
VARIANTS = {"": "", "listener": ", on_event", "observe": ", observe", "sqlite": ", SQLite store"}
SANDBOXES = {"": "in this process", "isolated": "isolated, from the pool", "cold": "isolated, cold start"}
HEADINGS = {
    "stream": "One answer in 2,000 deltas: CPU ms of the client",
    "loop": f"One prompt, {LOOP_TURNS} turns with a tool call each: CPU ms of the client",
    "turns": f"A late turn ({LATE[0]}-{LATE[-1]}) beside an early one ({EARLY[0]}-{EARLY[-1]}): CPU ms",
    "import": "Start: wall ms",
    **server_cases.HEADINGS,
    **work_cases.HEADINGS,
    "sandbox": "Virtual sandbox, create and first command: wall ms",
    "memory": "An agent that has answered its first prompt: resident MB of the process",
}
TIMES_RAW_GOAL = 2.0
DURABLE_TIMES_RAW_GOAL = 3.0
LATE_TURN_GOAL = 1.5  # times an early turn
IMPORT_GOAL_MS, IMPORT_GOAL_MODULES = 150.0, 350
SANDBOX_GOALS_MS = {"": 2.0, "isolated": 3.0, "cold": 30.0}


def cases(*, quick: bool, samples: int) -> Iterator[Case]:
    """Yield the measurements of one round, those to be compared next to each other."""
    for scenario in ("stream", "loop"):
        for api in APIS[:2] if quick else APIS:
            for contender, variant in _contenders(scenario, api, quick=quick):
                label = f"{api:19} {NAMES[contender]}{VARIANTS[variant]}"
                taken = samples if contender in ("raw", "flue") else 1  # the others differ by more than noise
                yield Case(scenario, label, Task(scenario, contender, api, variant=variant, samples=taken))
    for scenario, what in (("prompts", "plain prompts"), ("calls", "calls of one prompt")):
        for contender, variant in (("flue", ""),) if quick else (("raw", ""), ("flue", ""), ("flue", "sqlite")):
            label = f"{what:19} {NAMES[contender]}{VARIANTS[variant]}"
            yield Case("turns", label, Task(scenario, contender, APIS[0], variant=variant))
    others = () if quick else ("import pydantic_ai", "import agents")
    for statement in ("import flue", "from flue import create_agent, tool", *others):
        yield Case("import", statement, Task("import", "", "", variant=statement))
    yield Case("import", "flue --help", Task("command", "", "", variant="flue --help"))
    yield from server_cases.cases(quick=quick)
    yield from work_cases.cases(quick=quick)
    for variant, label in SANDBOXES.items():
        yield Case("sandbox", label, Task("sandbox", "flue", APIS[0], variant=variant, samples=samples))
    for contender, name in NAMES.items():
        if quick and contender not in ("raw", "flue"):
            continue
        api = APIS[1] if contender == "openai_agents" else APIS[0]
        yield Case("memory", f"{api:19} {name}", Task("memory", contender, api))


def _contenders(scenario: str, api: str, *, quick: bool) -> Iterator[tuple[str, str]]:
    variants = ("listener", "observe") if scenario == "stream" else ("sqlite",)
    yield from (("raw", ""), ("flue", ""), *(("flue", variant) for variant in variants))
    if api == "anthropic-messages" or not quick:
        yield "pydantic_ai", ""
    if api == "openai-completions" or (api == "openai-responses" and not quick):
        yield "openai_agents", ""


def row(case: Case, samples: Samples, other: Samples | None) -> Row:
    """Return the line for a case; `other` are the samples of what it is compared with."""
    ours = case.task.contender == "flue"
    match case.section:
        case section if section in server_cases.HEADINGS:
            return server_cases.row(case, samples, other)
        case "work":
            return work_cases.row(case, samples)
        case "stream" | "loop":
            ratio = _ratio(samples["cpu_ms"], other["cpu_ms"]) if other else None
            goal = DURABLE_TIMES_RAW_GOAL if case.task.variant == "sqlite" else TIMES_RAW_GOAL
            return _row(case, samples, "cpu_ms", (ratio, "times raw"), goal if ours else None)
        case "turns":
            pairs = zip(samples["early_ms"], samples["late_ms"], strict=True)
            ratio = median(late / early for early, late in pairs)
            return _row(case, samples, "late_ms", (ratio, "times early"), LATE_TURN_GOAL if ours else None)
        case "import":
            return _start_row(case, samples)
        case "sandbox":
            values = samples["wall_ms"]
            goal_ms = SANDBOX_GOALS_MS[case.task.variant]
            met = median(values) < goal_ms
            note = f"{median(samples['cpu_ms']):.2f} ms CPU"
            return Row(case.section, case.label, values, note, f"< {goal_ms:g} ms", met, samples=samples)
        case _:
            note = f"ready after {median(samples['cpu_s']):.2f} s CPU"
            return Row(case.section, case.label, samples["rss_mb"], note, samples=samples)


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Compare the fastest runs: what else a machine does only ever adds, and seldom the same to both."""
    return min(ours) / min(theirs)


def _row(case: Case, samples: Samples, metric: str, compared: tuple[float | None, str], goal: float | None) -> Row:
    ratio, unit = compared
    note = "" if ratio is None else f"{ratio:.2f} {unit}"
    if ratio is None or goal is None:
        return Row(case.section, case.label, samples[metric], note, samples=samples)
    return Row(case.section, case.label, samples[metric], note, f"<= {goal:g} {unit}", ratio <= goal, samples=samples)


def _start_row(case: Case, samples: Samples) -> Row:
    values = samples["wall_ms"]
    if "modules" not in samples:
        return Row(case.section, case.label, values, samples=samples)
    modules = int(max(samples["modules"]))
    if "flue" not in case.label:
        return Row(case.section, case.label, values, f"{modules} modules", samples=samples)
    met = median(values) <= IMPORT_GOAL_MS and modules <= IMPORT_GOAL_MODULES
    goal = f"<= {IMPORT_GOAL_MS:g} ms, {IMPORT_GOAL_MODULES} modules"
    return Row(case.section, case.label, values, f"{modules} modules", goal, met, samples=samples)
