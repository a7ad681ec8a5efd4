"""Agents and profiles: what is accepted, how fields merge, what every message names."""

from __future__ import annotations

from typing import Any

import pytest

from flue import (
    AgentConfig,
    AgentContext,
    AgentProfile,
    DefinitionError,
    Tool,
    create_agent,
    define_agent_profile,
    tool,
)
from flue.definitions.agent import as_config

CONTEXT = AgentContext("i1", {})


def a_tool(name: str) -> Tool:
    return Tool(name=name, description="Does things.", parameters={"type": "object"}, execute=lambda _a, _c: "")


async def config_of(**fields: Any) -> AgentConfig:
    return await create_agent(**fields).initialize(CONTEXT)


async def test_a_fixed_agent_has_its_fields() -> None:
    config = await config_of(model="a/b", instructions="Be brief.", thinking_level="low", cwd="/x", name="n")
    assert config.cwd == "/x"
    assert config.profile.model == "a/b"
    assert (config.profile.instructions, config.profile.thinking_level, config.profile.name) == (
        "Be brief.",
        "low",
        "n",
    )


async def test_fields_win_over_the_profile_and_lists_are_joined() -> None:
    profile = define_agent_profile(
        model="a/b",
        instructions="From the profile.",
        tools=[a_tool("one")],
        subagents=[AgentProfile(name="x")],
        thinking_level="high",
    )
    config = await config_of(
        profile=profile, model="c/d", tools=[a_tool("two")], subagents=[AgentProfile(name="y")], instructions=""
    )
    assert config.profile.model == "c/d"
    assert config.profile.instructions == ""
    assert config.profile.thinking_level == "high"
    assert [item.name for item in config.profile.tools] == ["one", "two"]
    assert [item.name for item in config.profile.subagents] == ["x", "y"]


async def test_a_function_may_be_async_and_return_a_mapping_a_profile_or_a_config() -> None:
    async def computed(context: AgentContext) -> dict[str, Any]:
        return {"model": "a/b", "instructions": context.id}

    assert (await create_agent(computed).initialize(CONTEXT)).profile.instructions == "i1"
    assert (await create_agent(lambda _c: AgentProfile(model="a/b")).initialize(CONTEXT)).profile.model == "a/b"
    ready = as_config({"model": "a/b"})
    assert await create_agent(lambda _c: ready).initialize(CONTEXT) is ready


async def test_camel_case_names_are_accepted_in_mappings() -> None:
    config = await create_agent(
        lambda _c: {
            "model": "a/b",
            "thinkingLevel": "low",
            "compaction": {"reserveTokens": 100, "keepRecentTokens": 10},
            "skills": [{"name": "greet", "description": "Greets."}],
        }
    ).initialize(CONTEXT)
    assert config.profile.thinking_level == "low"
    assert config.profile.compaction
    assert config.profile.compaction.reserve_tokens == 100
    assert config.profile.skills[0].name == "greet"


async def test_sandbox_false_means_the_default_sandbox() -> None:
    assert (await config_of(model="a/b", sandbox=False)).sandbox is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "no model"),
        ({"model": None}, "no model"),
        ({"model": 3}, "model must be text such as"),
        ({"model": True}, "model must be text such as"),
        ({"model": " "}, "model must not be empty"),
        ({"modle": "a/b"}, "unknown field modle.*Known fields: name"),
        ({"model": "a/b", "b": 1, "a": 1}, "unknown fields a, b"),
        ({"model": "a/b", "name": "1x"}, "name must be letters"),
        ({"model": "a/b", "name": ""}, "name must not be empty"),
        ({"model": "a/b", "instructions": 3}, "instructions must be text, got int"),
        ({"model": "a/b", "description": ""}, "description must not be empty"),
        ({"model": "a/b", "thinking_level": "max"}, "thinking_level must be one of off, minimal"),
        ({"model": "a/b", "task_tool": "yes"}, "task_tool must be one of auto"),
        ({"model": "a/b", "tools": "read"}, "tools must be a list, got str"),
        ({"model": "a/b", "tools": [3]}, r"tools\[0\] must be a Tool, got 3"),
        ({"model": "a/b", "tools": [len]}, "'len' is a plain function. Decorate it with @tool"),
        ({"model": "a/b", "tools": [a_tool("x"), a_tool("x")]}, 'two tools are named "x"'),
        ({"model": "a/b", "subagents": [AgentProfile()]}, "every subagent needs a name"),
        ({"model": "a/b", "subagents": [3]}, "expected an AgentProfile"),
        ({"model": "a/b", "skills": [{"name": "x"}]}, "description"),
        ({"model": "a/b", "skills": [{"name": "x", "description": "y", "z": 1}]}, "unknown field z"),
        ({"model": "a/b", "compaction": True}, "compaction must be False or settings"),
        ({"model": "a/b", "compaction": {"reserve": 1}}, "unknown field reserve"),
        ({"model": "a/b", "compaction": {"reserve_tokens": -1}}, "reserve_tokens must be a whole number"),
        ({"model": "a/b", "compaction": {"keep_recent_tokens": 1.5}}, "keep_recent_tokens must be a whole number"),
        ({"model": "a/b", "cwd": ""}, "cwd must not be empty"),
        ({"model": "a/b", "sandbox": "local"}, "Use virtual\\(\\) or local\\(\\)"),
        ({"model": "a/b", "sandbox": 3}, "invalid sandbox, got int"),
        ({"model": "a/b", "profile": 3}, "expected an AgentProfile"),
    ],
)
def test_a_wrong_field_is_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        create_agent(**fields)


def test_the_same_tool_in_profile_and_agent_is_refused() -> None:
    profile = AgentProfile(model="a/b", tools=(a_tool("x"),))
    with pytest.raises(DefinitionError, match='two tools are named "x"'):
        create_agent(profile=profile, tools=[a_tool("x")])


@pytest.mark.parametrize("value", [3, "x", None, ["model"]])
async def test_a_function_that_returns_nonsense_is_refused_when_it_runs(value: object) -> None:
    with pytest.raises(DefinitionError, match="expected a mapping of fields"):
        await create_agent(lambda _c: value).initialize(CONTEXT)


def test_create_agent_takes_a_function_or_fields_not_both() -> None:
    with pytest.raises(DefinitionError, match="not both"):
        create_agent(lambda _c: {}, model="a/b")  # type: ignore[call-overload]
    with pytest.raises(DefinitionError, match="got str"):
        create_agent("a/b")  # type: ignore[call-overload]


def test_a_tool_needs_a_name_a_description_a_schema_and_something_to_run() -> None:
    good: dict[str, Any] = {"name": "n", "description": "d", "parameters": {}, "execute": len}
    for field, bad in [("name", ""), ("description", " "), ("parameters", 3), ("execute", None)]:
        with pytest.raises(DefinitionError, match=field):
            Tool(**{**good, field: bad})


def test_a_decorated_function_without_a_docstring_is_refused() -> None:
    with pytest.raises(DefinitionError, match='tool "silent" has no description'):

        @tool
        def silent() -> str:
            return ""
