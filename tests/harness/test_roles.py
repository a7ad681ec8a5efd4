"""Roles, and `init` with the fields of an agent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from flue import DefinitionError, FlueContext, Role, UsageError, create_agent, define_agent_profile, open_context
from flue.harness.env import SessionEnv
from flue.testing import ScriptedModel, call
from flue.testing.scripted import RecordedRequest
from tests.harness.memory_sandbox import MemorySandbox

ROLES = [
    Role(name="critic", instructions="Find what is wrong.", thinking_level="high"),
    Role(name="friend", instructions="Say what is good."),
    Role(name="poet", instructions="Write in verse."),
]


@asynccontextmanager
async def opened(*roles: Role) -> AsyncIterator[FlueContext]:
    async with open_context(env={}, roles=roles or ROLES) as ctx:
        yield ctx


def role_of(request: RecordedRequest) -> str | None:
    """Return the instructions of the role that a request was made with."""
    _, _, told = request.system.partition("## Your role: ")
    return told.partition("\n\n")[2] or None


async def test_a_calls_role_wins_over_its_sessions_and_that_over_the_agents() -> None:
    model = ScriptedModel(["ok"] * 5)
    async with opened() as ctx:
        harness = await ctx.init(create_agent(model=model), role="critic")
        plain, own = await harness.session("plain"), await harness.session("own", role="friend")
        await plain.prompt("a")
        await plain.prompt("b", role="poet")
        await plain.prompt("c")
        await own.prompt("d")
        await own.prompt("e", role="poet")
    assert [role_of(request) for request in model.requests] == [
        "Find what is wrong.",
        "Write in verse.",
        "Find what is wrong.",
        "Say what is good.",
        "Write in verse.",
    ]
    assert [request.thinking for request in model.requests] == ["high", "medium", "high", "medium", "medium"]


async def test_a_role_is_added_behind_the_agents_own_prompt() -> None:
    model = ScriptedModel(["ok", "ok"])
    async with opened() as ctx:
        session = await (await ctx.init(create_agent(model=model, instructions="Be brief."))).session()
        await session.prompt("a")
        await session.prompt("b", role="poet")
    plain, with_role = (request.system for request in model.requests)
    assert role_of(model.requests[0]) is None
    assert with_role == f"{plain}\n\n## Your role: poet\n\nWrite in verse."


async def test_a_session_given_another_role_takes_it() -> None:
    model = ScriptedModel(["ok", "ok"])
    async with opened() as ctx:
        harness = await ctx.init(create_agent(model=model))
        await (await harness.session(role="poet")).prompt("a")
        await harness.session(role="friend")
        await (await harness.session()).prompt("b")
    assert [role_of(request) for request in model.requests] == ["Write in verse.", "Say what is good."]


async def test_the_calls_model_wins_over_the_roles_and_that_over_the_agents() -> None:
    agents, roles, calls = ScriptedModel(["1"]), ScriptedModel(["2", "2"]), ScriptedModel(["3"])
    async with opened(Role(name="expert", instructions="Know.", model=roles, thinking_level="low")) as ctx:
        session = await (await ctx.init(create_agent(model=agents, thinking_level="high"))).session()
        told = [
            (await session.prompt("a")).text,
            (await session.prompt("b", role="expert")).text,
            (await session.prompt("c", role="expert", thinking_level="off")).text,
            (await session.prompt("d", role="expert", model=calls)).text,
        ]
    assert told == ["1", "2", "2", "3"]
    requests = [*agents.requests, *roles.requests, *calls.requests]
    assert [request.thinking for request in requests] == ["high", "low", "off", "low"]


async def test_a_roles_model_serves_an_agent_that_has_none() -> None:
    async with opened(Role(name="expert", instructions="Know.", model=ScriptedModel(["yes"]))) as ctx:
        session = await (await ctx.init(model=False, role="expert")).session()
        assert (await session.prompt("a")).text == "yes"


async def test_a_task_has_the_role_of_its_session_but_a_subagent_has_its_own() -> None:
    model = ScriptedModel(["ok"] * 3)
    searcher = define_agent_profile(name="searcher", instructions="Search.")
    async with opened() as ctx:
        harness = await ctx.init(create_agent(model=model, subagents=[searcher]), role="critic")
        session = await harness.session()
        await session.task("a")
        await session.task("b", agent="searcher")
        await session.task("c", agent="searcher", role="poet")
    assert [role_of(request) for request in model.requests] == ["Find what is wrong.", None, "Write in verse."]


async def test_the_role_of_a_call_reaches_the_tasks_that_the_model_gives() -> None:
    model = ScriptedModel([call("task", {"prompt": "Look."}), "Found.", "Done."])
    async with opened() as ctx:
        session = await (await ctx.init(create_agent(model=model, task_tool="always"))).session()
        await session.prompt("a", role="poet")
    assert [role_of(request) for request in model.requests] == ["Write in verse."] * 3


@pytest.mark.parametrize("where", ["init", "session", "prompt"])
async def test_an_unknown_role_is_an_error_that_names_those_there_are(where: str) -> None:
    async with opened() as ctx:
        with pytest.raises(UsageError) as caught:
            harness = await ctx.init(model=ScriptedModel([]), role="boss" if where == "init" else None)
            session = await harness.session(role="boss" if where == "session" else None)
            session.prompt("a", role="boss")
    assert caught.value.message == 'Role "boss" not registered. Available roles: critic, friend, poet.'
    assert caught.value.code == "unknown_role"


async def test_without_roles_the_error_says_so() -> None:
    async with open_context(env={}) as ctx:
        with pytest.raises(UsageError, match=r"Available roles: \(none\)\."):
            await ctx.init(model=ScriptedModel([]), role="boss")


async def test_two_roles_of_one_name_are_refused() -> None:
    with pytest.raises(DefinitionError, match='two roles are named "poet"'):
        async with opened(ROLES[2], ROLES[2]):
            pass


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"name": ""}, "name must not be empty"),
        ({"name": "a b"}, "name must be letters"),
        ({"instructions": " "}, "instructions must not be empty"),
        ({"description": 3}, "description must be text"),
        ({"model": 3}, "model must be text"),
        ({"thinking_level": "deep"}, "thinking_level must be one of"),
    ],
)
def test_a_wrong_role_is_an_error_with_the_fields_name(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem):
        Role(**{"name": "a", "instructions": "b", **fields})


async def test_init_takes_the_fields_of_an_agent() -> None:
    sandbox = MemorySandbox({"/data/sub/f": "there"})
    model = ScriptedModel([call("read", {"path": "f"}), "Read."])
    async with opened() as ctx:
        factory = SessionEnv(sandbox, "/data")
        harness = await ctx.init(
            model=model, sandbox=lambda: factory, cwd="sub", thinking_level="low", compaction=False, name="reader"
        )
        session = await harness.session()
        assert harness.name == "reader"
        assert (await session.prompt("Read f.")).text == "Read."
        assert await session.fs.read_file("f") == "there"
    assert model.requests[0].thinking == "low"


@pytest.mark.parametrize("as_environment", [True, False])
async def test_init_takes_a_sandbox_itself(as_environment: bool) -> None:
    sandbox = MemorySandbox({"/workspace/f": "there"})
    async with opened() as ctx:
        given = SessionEnv(sandbox, "/workspace") if as_environment else sandbox
        harness = await ctx.init(model=ScriptedModel([]), sandbox=given)
        assert await harness.fs.read_file("f") == "there"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, r"^init\(\) requires a model"),
        ({"model": None}, r"^init\(\) requires a model"),
        ({"agent": "support"}, r"^init\(\) takes an agent made by create_agent, got str"),
        ({"agent": create_agent(model=False), "model": "a/b"}, r"^init\(agent\) does not take model\. Say that in"),
        ({"model": "a/b", "thinkingLevel": "low"}, r"^init\(\) does not take thinkingLevel\."),
        ({"model": "a/b", "cwd": ""}, "cwd must not be empty"),
    ],
)
async def test_wrong_arguments_of_init_are_named(arguments: dict[str, Any], problem: str) -> None:
    async with opened() as ctx:
        with pytest.raises(DefinitionError, match=problem):
            await ctx.init(**arguments)
        await ctx.init(model=ScriptedModel([]))
