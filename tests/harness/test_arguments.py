"""Arguments of tool calls: coercion, validation, messages, hostile input."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flue.errors import UsageError
from flue.harness import json_schema
from flue.harness.arguments import ArgumentsError, check_arguments, coerce_arguments, find_issues
from flue.harness.patterns import misses

LOOKUP = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
TREE = {
    "type": "object",
    "properties": {"value": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#"}}},
    "additionalProperties": False,
}


def one(schema: Any) -> dict[str, Any]:
    """Return the schema of an object whose only property is `x`."""
    return {"type": "object", "properties": {"x": schema}}


def test_a_missing_argument_is_told_in_the_documented_form() -> None:
    with pytest.raises(ArgumentsError) as raised:
        check_arguments("lookup", LOOKUP, {"z": "ü", "n": 1})
    assert str(raised.value) == (
        'Validation failed for tool "lookup":\n'
        "  - q: must have required properties q\n\n"
        'Received arguments:\n{\n  "z": "ü",\n  "n": 1\n}'
    )
    assert isinstance(raised.value, UsageError)
    assert raised.value.code == "invalid_arguments"


def test_all_issues_are_listed_with_their_paths() -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 2, "pattern": "^[a-z]+$"},
            "items": {"type": "array", "items": {"type": "object", "required": ["id", "n"]}, "maxItems": 1},
            "kind": {"enum": ["a", 1, None]},
            "size": {"type": ["integer", "null"], "minimum": 1},
        },
        "required": ["other"],
        "additionalProperties": False,
    }
    arguments = {"name": "A", "items": [{"id": 1}, "x"], "kind": "b", "size": [], "extra": 1}
    with pytest.raises(ArgumentsError) as raised:
        check_arguments("t", schema, arguments)
    assert raised.value.issues == (
        "other: must have required properties other",
        "name: must have at least 2 characters",
        "name: must match the pattern ^[a-z]+$",
        "items: must have at most 1 items",
        "items.0.n: must have required properties n",
        "items.1: must be object",
        'kind: must be one of "a", 1, null',
        "size: must be integer or null",
        "extra: must not be given",
    )


@pytest.mark.parametrize("arguments", [None, [], "x", 5])
def test_arguments_that_are_no_object_are_refused(arguments: Any) -> None:
    with pytest.raises(ArgumentsError, match="root: must be object"):
        check_arguments("t", LOOKUP, arguments)


def test_long_lists_of_issues_and_long_arguments_are_shortened() -> None:
    with pytest.raises(ArgumentsError) as raised:
        check_arguments("t", one({"items": {"type": "integer"}}), {"x": ["y" * 300] * 100})
    message = str(raised.value)
    assert "  - x.19: must be integer\n  - … and 80 more\n" in message
    assert "characters in all)" in message
    assert len(message) < 6_000
    assert len(raised.value.issues) == 100


@pytest.mark.parametrize(
    ("schema", "value", "coerced"),
    [
        ({"type": "number"}, "1.5", 1.5),
        ({"type": "number"}, " 12 ", 12),
        ({"type": "number"}, "-2e3", -2000.0),
        ({"type": "number"}, True, 1),
        ({"type": "number"}, None, 0),
        ({"type": "integer"}, "12", 12),
        ({"type": "integer"}, "12.0", 12),
        ({"type": "integer"}, 12.0, 12),
        ({"type": "integer"}, "123456789012345678901", 123456789012345678901),
        ({"type": "boolean"}, "true", True),
        ({"type": "boolean"}, "false", False),
        ({"type": "boolean"}, 1, True),
        ({"type": "boolean"}, 0, False),
        ({"type": "boolean"}, None, False),
        ({"type": "string"}, 5, "5"),
        ({"type": "string"}, 5.0, "5"),
        ({"type": "string"}, 1.5, "1.5"),
        ({"type": "string"}, True, "true"),
        ({"type": "string"}, None, ""),
        ({"type": "null"}, "", None),
        ({"type": "null"}, 0, None),
        ({"type": "null"}, False, None),
        ({"type": ["string", "null"]}, None, None),
        ({"type": ["integer", "boolean"]}, "true", True),
        ({"type": "string", "nullable": True}, None, None),
        ({"type": "array", "items": {"type": "integer"}}, ["1", 2.0], [1, 2]),
        ({"prefixItems": [{"type": "integer"}], "items": {"type": "string"}}, ["1", 2], [1, "2"]),
        ({"additionalProperties": {"type": "boolean"}}, {"a": "true"}, {"a": True}),
        ({"patternProperties": {"^n": {"type": "integer"}}}, {"n1": "1", "m": "1"}, {"n1": 1, "m": "1"}),
        ({"allOf": [{"properties": {"a": {"type": "integer"}}}]}, {"a": "1"}, {"a": 1}),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, "1", "1"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, None, None),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "1", 1),
        ({"oneOf": [{"type": "integer", "minimum": 5}, {"type": "boolean"}]}, "true", True),
    ],
)
def test_scalars_of_the_wrong_type_are_put_right(schema: Any, value: Any, coerced: Any) -> None:
    result = check_arguments("t", one(schema), {"x": value})["x"]
    assert result == coerced
    assert type(result) is type(coerced)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "number"}, "0x10"),
        ({"type": "number"}, "1_000"),
        ({"type": "number"}, "NaN"),
        ({"type": "number"}, ""),
        ({"type": "number"}, "1e999"),
        ({"type": "number"}, float("inf")),
        ({"type": "number"}, float("nan")),
        ({"type": "number"}, "9" * 5_000),
        ({"type": "integer"}, "1.5"),
        ({"type": "integer"}, 1.5),
        ({"type": "integer"}, "\u0661"),
        ({"type": "boolean"}, "yes"),
        ({"type": "boolean"}, 2),
        ({"type": "string"}, ["a"]),
        ({"type": "array"}, "a"),
        ({"type": "null"}, "x"),
    ],
)
def test_what_cannot_be_put_right_safely_is_refused(schema: Any, value: Any) -> None:
    with pytest.raises(ArgumentsError, match="x: must be"):
        check_arguments("t", one(schema), {"x": value})


def test_references_are_followed_in_coercion_and_validation() -> None:
    schema = {
        "type": "object",
        "properties": {"tree": {"$ref": "#/$defs/a~1b%20c"}},
        "$defs": {"a/b c": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}},
    }
    assert check_arguments("t", schema, {"tree": {"n": "3"}}) == {"tree": {"n": 3}}
    assert find_issues(schema, {"tree": {}}) == ["tree.n: must have required properties n"]
    assert find_issues(TREE, {"children": [{"children": [{"value": "x"}]}]}) == [
        "children.0.children.0.value: must be integer"
    ]
    for reference in ["#/missing", "https://example.com/schema", "#/properties/tree/0", 5]:
        assert find_issues({"$ref": reference}, 1) == []


def test_the_issues_of_the_branch_that_came_close_are_told() -> None:
    schema = {"anyOf": [{"type": "object", "properties": {"n": {"type": "integer"}}}, {"type": "null"}]}
    assert find_issues(schema, {"n": "x"}) == ["n: must be integer"]
    assert find_issues(schema, 5) == ["root: must be object or null"]
    assert find_issues({"oneOf": [{"minimum": 1}, {"maximum": 5}]}, 3) == [
        "root: must match only one schema in oneOf, but matches 2"
    ]
    assert find_issues({"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, {}) == [
        "root: must match a schema in anyOf"
    ]


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (True, 1, ...),
        ({"const": {"a": [1]}}, {"a": [1.0]}, {"a": [True]}),
        ({"enum": [0, "x"]}, 0, False),
        ({"minimum": 1, "maximum": 2}, 1, 0),
        ({"exclusiveMinimum": 1}, 1.1, 1),
        ({"exclusiveMaximum": 1}, 0, 1),
        ({"multipleOf": 0.1}, 0.3, 0.35),
        ({"multipleOf": 3}, 9, 10),
        ({"multipleOf": 0}, 9, ...),
        ({"minLength": 2}, "\U0001f600\U0001f600", "\U0001f600"),
        ({"maxLength": 2}, "\U0001f600\U0001f600", "abc"),
        ({"minItems": 1}, [0], []),
        ({"maxItems": 1}, [0], [0, 1]),
        ({"maximum": 2}, 2, 2.5),
        ({"uniqueItems": True}, [1, True, "1", [1], {"a": 1}], [{"a": 1, "b": 2}, {"b": 2.0, "a": 1}]),
        ({"prefixItems": [{"type": "string"}], "items": False}, ["a"], ["a", 1]),
        ({"pattern": "b"}, "abc", "xyz"),
        ({"properties": {"a": False}}, {}, {"a": 1}),
        ({"type": "invented"}, 5, ...),
        ({"type": "string", "minLength": "2", "pattern": 5, "enum": "x", "properties": []}, "", ...),
        ({"not": {"type": "string"}}, "ignored", ...),
    ],
)
def test_keywords(schema: Any, good: Any, bad: Any) -> None:
    assert find_issues(schema, good) == []
    if bad is not ...:
        assert len(find_issues(schema, bad)) == 1


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"items": {"$ref": "#"}},
        {"enum": [nested(5_000)]},
        {"uniqueItems": True, "const": 0},
        {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"},
        {"allOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}]},
    ],
)
def test_hostile_schemas_and_values_end_in_an_issue(schema: dict[str, Any]) -> None:
    value = nested(5_000)
    message = "root: is too large or too deeply nested to be checked"
    assert find_issues(schema, [value, value]) == [message]
    with pytest.raises(ArgumentsError, match="nested to"):
        check_arguments("t", {"properties": {"x": schema}, **schema}, {"x": [value, value]})


def test_too_many_values_end_in_an_issue(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = {"items": {"type": "integer"}}
    assert find_issues(schema, [1] * 10_000) == []
    monkeypatch.setattr(json_schema, "MAX_STEPS", 10_000)
    assert find_issues(schema, [1] * 10_000) == ["root: is too large or too deeply nested to be checked"]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(a+)+$", "a" * 40 + "b"),
        ("(a|a)*$", "a" * 40 + "b"),
        ("(?:a*)*$", "a" * 40 + "b"),
        ("(a?){40}a{40}$", "a" * 40 + "b"),
        ("a*a*a*a*a*a*$", "a" * 300 + "b"),
        ("((a{2,})b?)*$", "a" * 40 + "c"),
        ("x" * 2_000, "y"),
        ("(", "y"),
        ("[[a]", "y"),
        ("(?<name>a)", "y"),
        ("a{99999999999}", "y"),
        ("(" * 900 + ")" * 900, "y"),
    ],
)
def test_patterns_that_cannot_be_used_or_take_too_long_raise_no_objection(pattern: str, text: str) -> None:
    assert not misses(pattern, text)


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{12}$", "0a1b2c3d-0a1b-0a1b2c3d0a1b", "0a1b2c3d-0a1b-"),
        (r"^[^@\s]+@[^@\s]+\.[a-z]{2,}$", "someone@example.org", "someone@example"),
        (r"^(?:abc)+$", "abc" * 300, "abc" * 300 + "d"),
        (r"^[a-z]+(-[a-z]+)*$", "a-slug", "A-slug"),
        (r"^https?://", "https://example.org/" + "x" * 100_000, "ftp" + "x" * 100_000),
        (r"[()*+|]", "a(b", "ab"),
    ],
)
def test_common_patterns_are_searched(pattern: str, good: str, bad: str) -> None:
    assert not misses(pattern, good)
    assert misses(pattern, bad)


# --- Against another implementation ---

NAMES = st.sampled_from("abc")
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.5, 1.0, -2.0])
    | st.sampled_from(["", "a", "ab", "1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
TYPES = st.sampled_from(["string", "number", "integer", "boolean", "null", "object", "array"])


def keywords(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    several = st.lists(inner, min_size=1, max_size=2)
    size = st.integers(0, 2)
    number = st.integers(-2, 2)
    choices: dict[str, st.SearchStrategy[Any]] = {
        "type": TYPES | st.lists(TYPES, min_size=1, max_size=2, unique=True),
        "enum": st.lists(VALUES, min_size=1, max_size=3),
        "const": VALUES,
        "properties": st.dictionaries(NAMES, inner, max_size=2),
        "patternProperties": st.dictionaries(st.sampled_from(["a", "^b", "c$"]), inner, max_size=1),
        "additionalProperties": inner,
        "required": st.lists(NAMES, max_size=2, unique=True),
        "items": inner,
        "prefixItems": several,
        "multipleOf": st.integers(1, 3),
        "pattern": st.sampled_from(["a", "^a$", "[0-9]"]),
        "uniqueItems": st.booleans(),
        "$ref": st.sampled_from(["#/$defs/one", "#/$defs/two"]),
        **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), number),
        **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), size),
        **dict.fromkeys(("anyOf", "oneOf", "allOf"), several),
    }
    pairs = st.one_of([st.tuples(st.just(name), value) for name, value in choices.items()])
    return st.lists(pairs, max_size=4).map(dict)


SCHEMAS = st.recursive(st.booleans() | TYPES.map(lambda name: {"type": name}), keywords, max_leaves=6)
PLAIN = TYPES.map(lambda name: {"type": name})
ROOTS = st.builds(
    lambda schema, one, two: {**schema, "$defs": {"one": one, "two": two}}, keywords(SCHEMAS), PLAIN, keywords(PLAIN)
).filter(lambda root: "$ref" not in root["$defs"]["two"])


@given(ROOTS, VALUES)
@example({"enum": [1]}, True)
@example({"uniqueItems": True}, [1, 1.0])
def test_validation_agrees_with_the_jsonschema_package(schema: dict[str, Any], value: Any) -> None:
    import jsonschema

    expected = jsonschema.Draft202012Validator(schema).is_valid(value)
    assert (find_issues(schema, value) == []) is expected, json.dumps([schema, value])


@given(ROOTS, VALUES)
def test_coercion_keeps_its_input_and_whatever_fits_already(schema: dict[str, Any], value: Any) -> None:
    before = copy.deepcopy((schema, value))
    coerced = coerce_arguments(schema, value)
    assert (schema, value) == before
    if not find_issues(schema, value):
        assert coerced == value
