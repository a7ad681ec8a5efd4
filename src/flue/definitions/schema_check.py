"""What makes a JSON Schema unusable as a tool's parameters: found where the tool is defined, not at the provider."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

TYPES = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
"""The types of JSON Schema, draft 2020-12."""

_NAMED = ("properties", "patternProperties", "$defs", "definitions")
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("additionalProperties", "not")


def schema_problem(schema: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the schema of a tool's arguments, with its place; None when it can be sent.

    Looked at are the type at the root, which must be `object`, and below it whether everything has a form that JSON
    can carry, whether types are those of JSON Schema, and whether schemas, names and lists stand where they must.
    """
    if schema.get("type") != "object":
        return f'its type is {schema.get("type")!r}; the arguments of a tool are an "object"'
    try:
        return _problem(json.dumps(schema, allow_nan=False))
    except RecursionError:
        return "it is nested too deeply"
    except (TypeError, ValueError) as error:
        return f"it is not JSON: {' '.join(str(error).split())}"


@lru_cache(maxsize=1024)
def _problem(schema: str) -> str | None:
    # Kept, because every session makes the same tools anew.
    return next(_problems(json.loads(schema), ""), None)


def _problems(schema: Any, place: str) -> Iterator[str]:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        yield f"{_at(place)} is {schema!r}, where a schema must be"
        return
    yield from _own_problems(schema, place)
    for key in _NAMED:
        named = schema.get(key, {})
        if not isinstance(named, Mapping):
            yield f"{_at(place, key)} must be a mapping of names to schemas"
            continue
        for name, child in named.items():
            yield from _problems(child, f"{place}.{name}" if key == "properties" else f"{place}.{key}.{name}")
    for key in _LISTED:
        for position, child in enumerate(_list(schema.get(key, ()))):
            yield from _problems(child, f"{place}.{key}[{position}]")
    for key in _SINGLE:
        yield from _problems(schema.get(key, True), f"{place}.{key}")
    items = schema.get("items", True)
    for position, child in enumerate(_list(items) or [items]):  # a list, in drafts before 2020-12
        yield from _problems(child, f"{place}.items[{position}]" if _list(items) else f"{place}.items")


def _own_problems(schema: Mapping[str, Any], place: str) -> Iterator[str]:
    types = schema.get("type", "object")
    for name in _list(types) or [types]:
        if not isinstance(name, str) or name not in TYPES:
            yield f"{_at(place)} has the unknown type {name!r}; there are {', '.join(sorted(TYPES))}"
    required = schema.get("required", [])
    if not isinstance(required, list | tuple) or not all(isinstance(name, str) for name in required):
        yield f"{_at(place, 'required')} must be a list of names"
    if not isinstance(schema.get("enum", []), list | tuple):
        yield f"{_at(place, 'enum')} must be a list of values"


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _at(place: str, key: str = "") -> str:
    path = ".".join(part for part in (place.lstrip("."), key) if part)
    return path or "it"
