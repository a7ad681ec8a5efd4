"""JSON Schema validation, for the arguments of tool calls.

Supported, with the meaning of draft 2020-12: boolean schemas, `type` (also a list), `enum`, `const`, `properties`,
`required`, `additionalProperties`, `patternProperties`, `items`, `prefixItems`, `minimum`, `maximum`,
`exclusiveMinimum`, `exclusiveMaximum`, `multipleOf`, `minLength`, `maxLength`, `minItems`, `maxItems`, `pattern`,
`uniqueItems`, `anyOf`, `oneOf`, `allOf`, `$ref` inside the same schema, and `nullable` of OpenAPI 3.0.

Ignored: `not`, `if`/`then`/`else`, `contains`, `minContains`, `maxContains`, `minProperties`, `maxProperties`,
`propertyNames`, `dependentRequired`, `dependentSchemas`, `dependencies`, `unevaluatedItems`,
`unevaluatedProperties`, `format`, the `content…` keywords, `$anchor`, `$dynamicRef`, references to other documents,
`items` as a list and boolean `exclusiveMinimum`/`exclusiveMaximum` of older drafts, and any keyword whose value is of
the wrong type. A pattern that Python's `re` cannot read or that could take too long is not checked.

Our own rule: NaN and infinities, which Python's JSON parser lets through, are not numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from flue.harness.patterns import misses

MAX_DEPTH = 100
"""Levels of nesting, of schemas or values, that are looked at."""

MAX_STEPS = 100_000
"""Pairs of a schema and a value that are looked at in one check: a second of work at most."""

OBJECT = (dict, Mapping)
"""What counts as a JSON object; `dict` first, because asking an abstract class is slow."""

Path = tuple[str | int, ...]
Issues = list[tuple[Path, str]]


class TooComplexError(Exception):
    """A schema or value is nested too deeply, or there is too much of it, to be checked."""


@dataclass(slots=True)
class SchemaWalk:
    """One walk over a schema: its root, for references, and the work done so far."""

    root: Any
    steps: int = field(default=0)

    def enter(self, depth: int) -> None:
        """Count one step. Raises `TooComplexError` when the walk is too deep or too long."""
        self.steps += 1
        if depth > MAX_DEPTH or self.steps > MAX_STEPS:
            raise TooComplexError

    def target(self, schema: Mapping[str, Any]) -> Any:
        """Return the schema that `$ref` points to; True, which accepts everything, when there is none."""
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            return True
        found = self.root
        for part in unquote(reference[1:]).split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping) and key in found:
                found = found[key]
            elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            else:
                return True
        return found


def find_issues(schema: Any, value: Any) -> list[str]:
    """Return everything that keeps `value` from fitting `schema`, each as `path: problem`; empty when it fits."""
    try:
        return [f"{format_path(path)}: {message}" for path, message in issues_of(SchemaWalk(schema), schema, value)]
    except TooComplexError:
        return ["root: is too large or too deeply nested to be checked"]


def format_path(path: Path) -> str:
    """Return `a.0.b`, or `root` for the value itself."""
    return ".".join(map(str, path)) or "root"


def issues_of(walk: SchemaWalk, schema: Any, value: Any, path: Path = (), depth: int = 0) -> Issues:
    """Return the issues of a value, as paths and messages. Raises `TooComplexError`."""
    walk.enter(depth)
    if schema is False:
        return [(path, "must not be given")]
    if not isinstance(schema, OBJECT) or (value is None and schema.get("nullable") is True):
        return []
    if message := _type_issue(schema, value):
        # What else the schema says about a value of another type would only confuse.
        return [(path, message)]
    issues: Issues = []
    if "const" in schema or "enum" in schema:
        issues += [(path, message) for message in _value_issues(schema, value)]
    if isinstance(value, str):
        issues += [(path, message) for message in _string_issues(schema, value)]
    elif is_number(value):
        issues += [(path, message) for message in _number_issues(schema, value)]
    else:
        if isinstance(value, list):
            issues += [(path, message) for message in _list_issues(schema, value)]
        elif isinstance(value, OBJECT):
            issues += _missing(schema, value, path)
        for part, inner in parts_of(schema, value):
            issues += issues_of(walk, inner, value[part], (*path, part), depth + 1)
    if "$ref" in schema:
        issues += issues_of(walk, walk.target(schema), value, path, depth + 1)
    for branch in _branches(schema, "allOf"):
        issues += issues_of(walk, branch, value, path, depth + 1)
    if "anyOf" in schema or "oneOf" in schema:
        issues += _union_issues(walk, schema, value, path, depth)
    return issues


def parts_of(schema: Mapping[str, Any], value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the keys or indices of a value, each with a schema for what is there."""
    if isinstance(value, OBJECT):
        properties = _mapping(schema, "properties")
        patterns = _mapping(schema, "patternProperties")
        additional = schema.get("additionalProperties", True)
        for name in value:
            if name in properties:
                yield name, properties[name]
            matching = [inner for pattern, inner in patterns.items() if not misses(pattern, name)]
            yield from ((name, inner) for inner in matching)
            if name not in properties and not matching and additional is not True:
                yield name, additional
    elif isinstance(value, list):
        prefix = _branches(schema, "prefixItems")
        rest = schema.get("items", True)
        for index in range(len(value)):
            if index < len(prefix):
                yield index, prefix[index]
            elif rest is not True and not isinstance(rest, list):
                yield index, rest


def _union_issues(walk: SchemaWalk, schema: Mapping[str, Any], value: Any, path: Path, depth: int) -> Issues:
    issues: Issues = []
    for keyword in ("anyOf", "oneOf"):
        branches = _branches(schema, keyword)
        if not branches:
            continue
        results = [issues_of(walk, branch, value, path, depth + 1) for branch in branches]
        fitting = sum(not result for result in results)
        if not fitting:
            issues += _closest(results, path, keyword)
        elif keyword == "oneOf" and fitting > 1:
            issues.append((path, f"must match only one schema in oneOf, but matches {fitting}"))
    return issues


def _closest(results: list[Issues], path: Path, keyword: str) -> Issues:
    """Return what to tell of a union that no branch of fits: the issues of the one that came close, if one did."""
    deeper = [result for result in results if all(len(place) > len(path) for place, _ in result)]
    if len(deeper) == 1:
        return deeper[0]
    messages = list(dict.fromkeys(message for result in results for _, message in result))
    if not deeper and all(message.startswith("must be ") for message in messages):
        return [(path, "must be " + " or ".join(message.removeprefix("must be ") for message in messages))]
    return [(path, f"must match a schema in {keyword}")]


def is_number(value: Any) -> bool:
    """Say whether a value is a JSON number: finite, and not a boolean."""
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and (type(value) is int or math.isfinite(value))
    )


_IS_TYPE: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "number": is_number,
    "integer": lambda value: is_number(value) and (isinstance(value, int) or value.is_integer()),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "object": lambda value: isinstance(value, OBJECT),
    "array": lambda value: isinstance(value, list),
}


def types_of(schema: Mapping[str, Any]) -> list[str]:
    """Return the names in `type`; empty when it is missing or names something unknown, so that all values fit."""
    wanted: Any = schema.get("type")
    if isinstance(wanted, str):
        return [wanted] if wanted in _IS_TYPE else []
    if isinstance(wanted, list) and all(isinstance(name, str) and name in _IS_TYPE for name in wanted):
        return wanted
    return []


def has_type(value: Any, name: str) -> bool:
    """Say whether a value is of the JSON type `name`."""
    return _IS_TYPE[name](value)


def _type_issue(schema: Mapping[str, Any], value: Any) -> str:
    names = types_of(schema)
    if not names or any(has_type(value, name) for name in names):
        return ""
    return f"must be {' or '.join(names)}"


def _value_issues(schema: Mapping[str, Any], value: Any) -> Iterator[str]:
    if "const" in schema and _key(value) != _key(schema["const"]):
        yield f"must be {_show(schema['const'])}"
    allowed = schema.get("enum")
    if isinstance(allowed, list) and _key(value) not in {_key(item) for item in allowed}:
        yield f"must be one of {', '.join(map(_show, allowed[:50]))}"


def _string_issues(schema: Mapping[str, Any], value: str) -> Iterator[str]:
    yield from _size_issues(schema, len(value), "minLength", "maxLength", "characters")
    pattern = schema.get("pattern")
    if isinstance(pattern, str) and misses(pattern, value):
        yield f"must match the pattern {pattern}"


_LIMITS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")


def _number_issues(schema: Mapping[str, Any], value: float) -> Iterator[str]:
    if schema.keys().isdisjoint(_LIMITS):
        return

    def limit(keyword: str) -> Any:
        found = schema.get(keyword)
        return found if is_number(found) else None

    if (least := limit("minimum")) is not None and value < least:
        yield f"must be >= {least}"
    if (most := limit("maximum")) is not None and value > most:
        yield f"must be <= {most}"
    if (least := limit("exclusiveMinimum")) is not None and value <= least:
        yield f"must be > {least}"
    if (most := limit("exclusiveMaximum")) is not None and value >= most:
        yield f"must be < {most}"
    if (step := limit("multipleOf")) is not None and step > 0 and not _is_multiple(value, step):
        yield f"must be a multiple of {step}"


def _is_multiple(value: float, step: float) -> bool:
    if isinstance(value, int) and isinstance(step, int):
        return value % step == 0
    try:
        quotient = value / step
    except OverflowError:
        return True
    # 0.3 is a multiple of 0.1, whatever binary fractions make of it.
    return math.isfinite(quotient) and math.isclose(quotient, round(quotient), rel_tol=1e-9, abs_tol=1e-9)


def _list_issues(schema: Mapping[str, Any], value: list[Any]) -> Iterator[str]:
    yield from _size_issues(schema, len(value), "minItems", "maxItems", "items")
    if schema.get("uniqueItems") is True and len({_key(item) for item in value}) < len(value):
        yield "must not have duplicate items"


def _size_issues(schema: Mapping[str, Any], size: int, least: str, most: str, what: str) -> Iterator[str]:
    if is_number(schema.get(least)) and size < schema[least]:
        yield f"must have at least {schema[least]} {what}"
    if is_number(schema.get(most)) and size > schema[most]:
        yield f"must have at most {schema[most]} {what}"


def _missing(schema: Mapping[str, Any], value: Mapping[str, Any], path: Path) -> Issues:
    required = schema.get("required")
    if not isinstance(required, list):
        return []
    return [
        ((*path, name), f"must have required properties {name}")
        for name in required
        if isinstance(name, str) and name not in value
    ]


def _branches(schema: Mapping[str, Any], keyword: str) -> list[Any]:
    found = schema.get(keyword)
    return found if isinstance(found, list) else []


def _mapping(schema: Mapping[str, Any], keyword: str) -> Mapping[str, Any]:
    found = schema.get(keyword)
    return found if isinstance(found, Mapping) else {}


def _key(value: Any, depth: int = 0) -> Any:
    """Return a hashable stand-in with JSON's equality: 1 equals 1.0, but neither equals true."""
    if depth > MAX_DEPTH:
        raise TooComplexError
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, list):
        return ("array", *(_key(item, depth + 1) for item in value))
    if isinstance(value, OBJECT):
        return ("object", frozenset((name, _key(item, depth + 1)) for name, item in value.items()))
    return value


def _show(value: Any) -> str:
    import json

    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 200 else f"{text[:200]}…"
