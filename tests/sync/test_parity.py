"""The blocking face is the async one, method by method: the same parameters, the same results, the same errors."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Generator
from datetime import UTC, datetime, timedelta
from typing import Any, get_overloads

import pytest
from pydantic import BaseModel

from flue import FlueContext, Harness, Session, create_agent, define_agent_profile, open_context, tool
from flue.definitions.role import Role
from flue.definitions.skill import define_skill
from flue.errors import FlueError, ProviderError
from flue.events import Event
from flue.harness.context import ContextLog
from flue.harness.env import FlueFs
from flue.harness.harness import Sessions
from flue.sync import (
    SyncContext,
    SyncFs,
    SyncHarness,
    SyncLog,
    SyncSession,
    SyncSessions,
    open_context_sync,
)
from flue.testing import MemoryStore, ScriptedModel, SequentialIds, VirtualClock, call

FACES: dict[type, type] = {
    FlueContext: SyncContext,
    Harness: SyncHarness,
    Sessions: SyncSessions,
    Session: SyncSession,
    FlueFs: SyncFs,
    ContextLog: SyncLog,
}
# What other modules of the harness call; users reach the same by closing the context.
INSIDE = {
    ("Harness", "close"),
    ("Harness", "create"),
    ("Harness", "open_child"),
    ("Session", "close"),
    ("Session", "start_prompt"),
    ("Sessions", "close"),
}


def is_awaited(function: Any) -> bool:
    """Say whether callers await what it returns."""
    returns = str(inspect.signature(function).return_annotation)
    return inspect.iscoroutinefunction(function) or returns.startswith("CallHandle")


def methods(cls: type) -> list[str]:
    """Return the methods of a class that a blocking face must have."""
    public = [name for name, value in vars(cls).items() if callable(value) or isinstance(value, classmethod)]
    everything = cls is ContextLog
    return [
        name
        for name in public
        if not name.startswith("_")
        and (cls.__name__, name) not in INSIDE
        and (everything or is_awaited(getattr(cls, name)))
    ]


PAIRS = [(cls, name) for cls in FACES for name in methods(cls)]


def blocking(annotation: Any) -> str:
    """Return the type that a blocking call returns in the place of an async one."""
    text = re.sub(r"^CallHandle\[(.*)\]$", r"\1", str(annotation))
    return re.sub(r"\b(Harness|Session)\b", r"Sync\1", text)


def parameters(function: Any) -> list[tuple[str, Any, Any, str]]:
    return [
        (parameter.name, parameter.kind, parameter.default, str(parameter.annotation))
        for parameter in inspect.signature(function).parameters.values()
    ]


@pytest.mark.parametrize(("cls", "name"), PAIRS, ids=lambda value: getattr(value, "__name__", value))
def test_a_method_has_a_blocking_face_of_the_same_signature(cls: type, name: str) -> None:
    ours, theirs = getattr(cls, name), getattr(FACES[cls], name)
    assert parameters(theirs) == parameters(ours)
    assert blocking(inspect.signature(ours).return_annotation) == str(inspect.signature(theirs).return_annotation)
    assert not inspect.iscoroutinefunction(theirs)


@pytest.mark.parametrize(("cls", "name"), PAIRS, ids=lambda value: getattr(value, "__name__", value))
def test_a_face_tells_type_checkers_as_much(cls: type, name: str) -> None:
    ours, theirs = get_overloads(getattr(cls, name)), get_overloads(getattr(FACES[cls], name))
    assert [parameters(function) for function in theirs] == [parameters(function) for function in ours]
    assert [str(inspect.signature(function).return_annotation) for function in theirs] == [
        blocking(inspect.signature(function).return_annotation) for function in ours
    ]


def test_opening_takes_the_same_arguments() -> None:
    assert parameters(open_context_sync) == parameters(open_context)


def test_the_faces_have_nothing_beside_but_the_way_to_abort() -> None:
    beside = {
        (face.__name__, name)
        for cls, face in FACES.items()
        for name in vars(face)
        if not name.startswith("_") and name not in methods(cls)
    }
    assert beside == {("SyncSession", "abort"), ("SyncHarness", "abort"), ("SyncSessions", "face")}


# ------------------------------------------------------------------------------------------------- behaviour


class Answer(BaseModel):
    number: int


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


# A script yields each call and is sent what it gives: awaited in one world, as it is in the other.
Script = Callable[[Any], Generator[Any, Any, Any]]
FINISH = call("finish", {"number": 42})
SKILL = define_skill(name="greet", description="Greets people.", instructions="Say hello.")


def prompt(ctx: Any) -> Generator[Any, Any, Any]:
    session = yield from opened(ctx, call("add", {"a": 1, "b": 2}), "three", FINISH)
    plain = yield session.prompt("1 + 2?", timeout=60, thinking_level="low")
    typed = yield session.prompt("and now?", result=Answer)
    return plain, typed


def prompt_fails(ctx: Any) -> Generator[Any, Any, Any]:
    session = yield from opened(ctx, ProviderError("broken"))
    return (yield session.prompt("x"))


def prompt_refused(ctx: Any) -> Generator[Any, Any, Any]:
    session = yield from opened(ctx)
    return (yield session.prompt(" "))


def resume(ctx: Any) -> Generator[Any, Any, Any]:
    session = yield from opened(ctx, call("add", {"a": 1, "b": 2}), "three")
    paused = ""
    try:
        yield session.prompt("1 + 2?", budget={"turns": 1})
    except FlueError as error:
        paused = error.code
    return paused, (yield session.resume())


def resume_refused(ctx: Any) -> Generator[Any, Any, Any]:
    session = yield from opened(ctx, "ok")
    yield session.prompt("x")
    return (yield session.resume())


def steer(ctx: Any) -> Generator[Any, Any, Any]:
    session = yield from opened(ctx, "ok")
    return (yield session.steer("x"))


def skill(ctx: Any) -> Generator[Any, Any, Any]:
    session = yield from opened(ctx, "hello", FINISH)
    return (yield session.skill("greet", args={"name": "Ada"})), (yield session.skill(SKILL, result=Answer))


def skill_missing(ctx: Any) -> Generator[Any, Any, Any]:
    session = yield from opened(ctx)
    return (yield session.skill("nothing"))


def compact(ctx: Any) -> Generator[Any, Any, Any]:
    session = yield from opened(ctx, "a " * 200, "b " * 200, "summary", compaction={"keep_recent_tokens": 10})
    nothing = yield session.compact()
    yield session.prompt("one " * 100)
    yield session.prompt("two " * 100)
    return nothing, (yield session.compact("keep the numbers"))


def approve_missing(ctx: Any) -> Generator[Any, Any, Any]:
    session = yield from opened(ctx)
    return (yield session.approve("call_1"))


def deny_missing(ctx: Any) -> Generator[Any, Any, Any]:
    session = yield from opened(ctx)
    return (yield session.deny("call_1", "no"))


def shell(ctx: Any) -> Generator[Any, Any, Any]:
    session = yield from opened(ctx)
    return (yield session.shell("cat; echo $X; pwd; exit 3", stdin="in\n", env={"X": "x"}, cwd="/tmp"))


def task(ctx: Any) -> Generator[Any, Any, Any]:
    session = yield from opened(ctx, "child", FINISH)
    return (yield session.task("go", agent="scout", cwd="/tmp")), (yield session.task("go", result=Answer))


def task_unknown(ctx: Any) -> Generator[Any, Any, Any]:
    session = yield from opened(ctx)
    return (yield session.task("go", agent="nobody"))


def delete(ctx: Any) -> Generator[Any, Any, Any]:
    session = yield from opened(ctx, "ok")
    yield session.delete()
    return (yield session.prompt("x"))


def harness_session(ctx: Any) -> Generator[Any, Any, Any]:
    harness = yield ctx.init(create_agent(model=ScriptedModel(["ok"])))
    session = yield harness.session("one", budget={"turns": 5})
    return session.name, session is (yield harness.session("one")), (yield session.prompt("x"))


def harness_shell(ctx: Any) -> Generator[Any, Any, Any]:
    harness = yield ctx.init(create_agent(model=False))
    return (yield harness.shell("echo hi; exit 1", timeout=5)), harness.id, harness.name


def sessions(ctx: Any) -> Generator[Any, Any, Any]:
    harness = yield ctx.init(create_agent(model=False))
    one = yield harness.sessions.create("one")
    same = (yield harness.sessions.get("one")) is one and (yield harness.sessions.open("one")) is one
    yield harness.sessions.delete("one")
    yield harness.sessions.delete("one")
    return same


def sessions_get_missing(ctx: Any) -> Generator[Any, Any, Any]:
    harness = yield ctx.init(create_agent(model=False))
    return (yield harness.sessions.get("none"))


def sessions_create_twice(ctx: Any) -> Generator[Any, Any, Any]:
    harness = yield ctx.init(create_agent(model=False))
    yield harness.sessions.create("one")
    return (yield harness.sessions.create("one"))


def init_twice(ctx: Any) -> Generator[Any, Any, Any]:
    yield ctx.init(create_agent(model=False), name="a", tools=[add], skills=[SKILL], subagents=[SCOUT])
    return (yield ctx.init(create_agent(model=False), name="a"))


def init_with_fields(ctx: Any) -> Generator[Any, Any, Any]:
    harness = yield ctx.init(model=ScriptedModel(["ok"]), thinking_level="low", role="terse")
    session = yield harness.session(role="terse")
    return (yield session.prompt("x", role="terse"))


def init_with_a_wrong_field(ctx: Any) -> Generator[Any, Any, Any]:
    return (yield ctx.init(create_agent(model=False), temperature=1))


def files(ctx: Any) -> Generator[Any, Any, Any]:
    session = yield from opened(ctx)
    fs = session.fs
    yield fs.mkdir("a/b", recursive=True)
    yield fs.write_file("a/b/c.txt", "ä")
    read = (yield fs.read_file("a/b/c.txt")), (yield fs.read_file_buffer("a/b/c.txt"))
    stat = yield session.harness.fs.stat("a/b/c.txt")
    names = (yield fs.readdir("a")), (yield fs.exists("a/b")), stat.is_file, stat.size
    yield fs.rm("a", recursive=True)
    yield fs.rm("a", force=True)
    return read, names, (yield fs.exists("a"))


def file_missing(ctx: Any) -> Generator[Any, Any, Any]:
    session = yield from opened(ctx)
    return (yield session.fs.read_file("nothing.txt"))


def log(ctx: Any) -> Generator[Any, Any, Any]:
    notes = ctx.log
    yield notes.info("one")
    yield notes.warn("two", {"n": 2})
    yield notes.warning(2, {"n": 3})
    yield notes.error("three", {"error": ValueError("x")})


def steps(ctx: Any) -> Generator[Any, Any, Any]:
    failures = [OSError("down")]

    def once_down(a: int, b: int) -> tuple[int, int]:
        if failures:
            raise failures.pop()
        return a, b

    async def later(number: int) -> Answer:
        return Answer(number=number)

    pair = yield ctx.step("pair", once_down, 1, 2, retries=1, delay=timedelta(seconds=1), backoff=1)
    return pair, (yield ctx.step("later", later, 42)), ctx.lineage_id


def step_twice(ctx: Any) -> Generator[Any, Any, Any]:
    yield ctx.step("a", str)
    return (yield ctx.step("a", str))


def step_of_a_result(ctx: Any) -> Generator[Any, Any, Any]:
    return (yield ctx.step("a", 1))


def sleep(ctx: Any) -> Generator[Any, Any, Any]:
    yield ctx.sleep(1)
    yield ctx.sleep(timedelta(minutes=1), name="minute")
    return (yield ctx.sleep(until=datetime(2026, 1, 2, tzinfo=UTC))) is None


def sleep_wrongly(ctx: Any) -> Generator[Any, Any, Any]:
    return (yield ctx.sleep())


def wait(ctx: Any) -> Generator[Any, Any, Any]:
    return (yield ctx.wait_for_event("go", 5))


def close(ctx: Any) -> Generator[Any, Any, Any]:
    yield from opened(ctx)
    yield ctx.close()
    yield ctx.close()


SCOUT = define_agent_profile(name="scout")
COVERED: dict[Script, set[str]] = {
    prompt: {"Session.prompt", "FlueContext.init"},
    prompt_fails: {"Session.prompt"},
    prompt_refused: {"Session.prompt"},
    resume: {"Session.resume"},
    resume_refused: {"Session.resume"},
    steer: {"Session.steer"},
    skill: {"Session.skill"},
    skill_missing: {"Session.skill"},
    compact: {"Session.compact"},
    approve_missing: {"Session.approve"},
    deny_missing: {"Session.deny"},
    shell: {"Session.shell"},
    task: {"Session.task"},
    task_unknown: {"Session.task"},
    delete: {"Session.delete"},
    harness_session: {"Harness.session"},
    harness_shell: {"Harness.shell"},
    sessions: {"Sessions.create", "Sessions.get", "Sessions.open", "Sessions.delete"},
    sessions_get_missing: {"Sessions.get"},
    sessions_create_twice: {"Sessions.create"},
    init_twice: {"FlueContext.init"},
    init_with_fields: {"FlueContext.init", "Harness.session", "Session.prompt"},
    init_with_a_wrong_field: {"FlueContext.init"},
    files: {f"FlueFs.{name}" for name in methods(FlueFs)},
    file_missing: {"FlueFs.read_file"},
    log: {"ContextLog.info", "ContextLog.warn", "ContextLog.warning", "ContextLog.error"},
    steps: {"FlueContext.step"},
    step_twice: {"FlueContext.step"},
    step_of_a_result: {"FlueContext.step"},
    sleep: {"FlueContext.sleep"},
    sleep_wrongly: {"FlueContext.sleep"},
    wait: {"FlueContext.wait_for_event"},
    close: {"FlueContext.close"},
}


QUIET = {
    prompt_refused,
    approve_missing,
    deny_missing,
    delete,
    sessions,
    sessions_get_missing,
    sessions_create_twice,
    init_twice,
    init_with_a_wrong_field,
    files,
    file_missing,
    step_twice,
    step_of_a_result,
    sleep,
    sleep_wrongly,
    wait,
    close,
}


def opened(ctx: Any, *steps: Any, **config: Any) -> Generator[Any, Any, Any]:
    """Open a session of an agent that plays `steps`."""
    agent = create_agent(model=ScriptedModel(list(steps)), tools=[add], subagents=[SCOUT], skills=[SKILL], **config)
    harness = yield ctx.init(agent)
    return (yield harness.session())


def ports(events: list[Event]) -> dict[str, Any]:
    """Return a world that is the same every time."""
    return {
        "id": "i1",
        "env": {},
        "roles": [Role(name="terse", instructions="Answer in one word.")],
        "store": MemoryStore(),
        "clock": VirtualClock(auto=True),
        "ids": SequentialIds(),
        "on_event": events.append,
    }


def outcome(error: Exception) -> Any:
    return type(error), getattr(error, "code", ""), str(error)


async def play_async(script: Script, events: list[Event]) -> Any:
    async with open_context(**ports(events)) as ctx:
        running = script(ctx)
        value, error = None, None
        while True:
            try:
                given = running.throw(error) if error else running.send(value)
            except StopIteration as done:
                return done.value
            except Exception as raised:  # noqa: BLE001 - what it raises is what is compared
                return outcome(raised)
            try:
                value, error = (await given if isinstance(given, Awaitable) else given), None
            except Exception as raised:  # noqa: BLE001 - the script may want to catch it
                value, error = None, raised


def play_sync(script: Script, events: list[Event]) -> Any:
    with open_context_sync(**ports(events)) as ctx:
        running = script(ctx)
        value = None
        while True:
            try:
                value = running.send(value)
            except StopIteration as done:
                return done.value
            except Exception as raised:  # noqa: BLE001 - what it raises is what is compared
                return outcome(raised)


@pytest.mark.parametrize("script", COVERED, ids=lambda script: script.__name__)
async def test_a_script_has_the_same_outcome_and_the_same_events_in_both_worlds(script: Script) -> None:
    events: dict[str, list[Event]] = {"async": [], "sync": []}
    expected = await play_async(script, events["async"])
    # Inside a running loop, as in a notebook.
    found = play_sync(script, events["sync"])
    assert found == expected
    assert found is not None or script in (log, close)
    assert [_without_lines(event) for event in events["sync"]] == [_without_lines(event) for event in events["async"]]
    assert events["sync"] or script in QUIET


def test_the_scripts_cover_every_method() -> None:
    assert set().union(*COVERED.values()) == {f"{cls.__name__}.{name}" for cls, name in PAIRS}


def _without_lines(event: Event) -> Any:
    """Return the wire form; the stack of an exception depends on who called."""
    data = event.to_json()
    (data.get("attributes") or {}).get("error", {}).pop("stack", None)
    return data
