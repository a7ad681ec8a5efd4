"""Raw JSON Schemas of tools: what cannot be used is named where the tool is defined."""

from __future__ import annotations

from typing import Any

import pytest

from flue import DefinitionError, Tool, tool


def made(parameters: Any) -> Tool:
    made: Tool = tool(name="look", description="Looks.", parameters=parameters, execute=lambda _a, _c: "")
    return made


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"type": "objec"}, "its type is 'objec'"),
        ({"type": "string"}, "its type is 'string'"),
        ({"type": ["object", "null"]}, "its type is ['object', 'null']"),
        ({"properties": {"at": {"type": "text"}}}, "at has the unknown type 'text'; there are array, boolean,"),
        ({"properties": {"at": {"type": str}}}, "it is not JSON: Object of type type is not JSON serializable"),
        ({"properties": {"at": {"default": float("nan")}}}, "it is not JSON: Out of range"),
        ({"properties": ["at"]}, "properties must be a mapping of names to schemas"),
        ({"properties": {"at": "string"}}, "at is 'string', where a schema must be"),
        ({"properties": {"at": {"type": "object", "properties": {"x": {"type": 1}}}}}, "at.x has the unknown type 1"),
        ({"properties": {"at": {"items": {"type": "text"}}}}, "at.items has the unknown type 'text'"),
        ({"properties": {"at": {"items": [{"type": "text"}]}}}, "at.items[0] has the unknown type 'text'"),
        ({"properties": {"at": {"anyOf": [{}, {"type": "no"}]}}}, "at.anyOf[1] has the unknown type 'no'"),
        ({"$defs": {"place": {"type": "no"}}}, "$defs.place has the unknown type 'no'"),
        ({"additionalProperties": {"type": "no"}}, "additionalProperties has the unknown type 'no'"),
        ({"properties": {"at": {}}, "required": "at"}, "required must be a list of names"),
        ({"properties": {"at": {"enum": "ab"}}}, "at.enum must be a list of values"),
    ],
)
def test_a_schema_that_no_provider_would_take_is_refused_with_the_place(parameters: Any, problem: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        made(parameters)
    assert caught.value.code == "invalid_schema"
    assert f'tool "look": parameters cannot be used as a JSON Schema: {problem}' in str(caught.value)


def test_a_schema_that_contains_itself_is_refused() -> None:
    endless: dict[str, Any] = {}
    endless["properties"] = {"more": endless}
    with pytest.raises(DefinitionError, match="it is not JSON: Circular reference"):
        made(endless)


def test_a_schema_without_a_type_describes_an_object() -> None:
    assert made({}).parameters == {"type": "object"}
    assert made({"properties": {"at": True}}).parameters == {"type": "object", "properties": {"at": True}}


def test_what_draft_2020_12_allows_is_left_as_it_is() -> None:
    schema = {
        "type": "object",
        "properties": {
            "at": {"type": ["string", "null"], "format": "date"},
            "more": {"type": "array", "items": {"$ref": "#/$defs/place"}, "prefixItems": [{"const": 1}]},
            "any": {"oneOf": [{"type": "integer"}, False], "not": {"enum": [1, None]}},
        },
        "required": ["at"],
        "additionalProperties": False,
        "$defs": {"place": {"type": "object"}},
        "x-own": {"type": "anything"},
    }
    assert made(schema).parameters == schema


def test_a_schema_that_is_nested_too_deeply_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(5000):
        schema = {"items": schema}
    with pytest.raises(DefinitionError, match="it is nested too deeply"):
        made(schema)
