"""The arguments of a tool call: what a model nearly got right is put right, the rest is explained to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flue.definitions.arguments_error import ArgumentsError
from flue.harness.json_schema import (
    OBJECT,
    SchemaWalk,
    TooComplexError,
    find_issues,
    has_type,
    is_number,
    issues_of,
    parts_of,
    types_of,
)
from flue.messages import Json

__all__ = ["ArgumentsError", "check_arguments", "coerce_arguments", "find_issues"]

_NUMBER = re.compile(r"-?[0-9]{1,400}(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,3})?")
_NO_CHANGE = object()


def check_arguments(tool: str, schema: Json, arguments: Any) -> Json:
    """Return `arguments` as the tool named `tool` may have them: coerced, then validated against its schema.

    The input stays untouched. Raises `ArgumentsError`, whose message lists everything that does not fit and is what
    the model is shown.
    """
    if not isinstance(arguments, Mapping):
        raise ArgumentsError(tool, ["root: must be object"], arguments)
    try:
        coerced: Json = coerce_arguments(schema, arguments)
    except TooComplexError:
        raise ArgumentsError(tool, ["root: is too large or too deeply nested to be checked"], arguments) from None
    if issues := find_issues(schema, coerced):
        raise ArgumentsError(tool, issues, arguments)
    return coerced


def coerce_arguments(schema: Any, value: Any) -> Any:
    """Return a copy of `value` with scalars of the wrong type turned into what `schema` asks for, where that is safe.

    Numbers from numeric text, booleans and null (0); booleans from `"true"`, `"false"`, 1, 0 and null; text from
    numbers, booleans and null (empty); null from empty text, 0 and false; whole floats where integers are wanted.
    What fits already stays as it is. Raises `TooComplexError`.
    """
    return _coerce(SchemaWalk(schema), schema, value, 0)


def _coerce(walk: SchemaWalk, schema: Any, value: Any, depth: int) -> Any:
    walk.enter(depth)
    if not isinstance(schema, OBJECT) or (value is None and schema.get("nullable") is True):
        return value
    value = _coerce_scalar(types_of(schema), value)
    if isinstance(value, (list, *OBJECT)):
        value = _coerce_parts(walk, schema, value, depth)
    if "$ref" in schema:
        value = _coerce(walk, walk.target(schema), value, depth + 1)
    if isinstance(every := schema.get("allOf"), list):
        for branch in every:
            value = _coerce(walk, branch, value, depth + 1)
    for keyword in ("anyOf", "oneOf"):
        if isinstance(branches := schema.get(keyword), list):
            value = _coerce_union(walk, branches, value, depth)
    return value


def _coerce_parts(walk: SchemaWalk, schema: Mapping[str, Any], value: Mapping[str, Any] | list[Any], depth: int) -> Any:
    changed: Any = list(value) if isinstance(value, list) else dict(value)
    for part, inner in parts_of(schema, value):
        changed[part] = _coerce(walk, inner, changed[part], depth + 1)
    return changed


def _coerce_union(walk: SchemaWalk, branches: list[Any], value: Any, depth: int) -> Any:
    """Coerce for the first branch that fits as it is, else for the first that fits after coercion."""
    for branch in branches:
        if not issues_of(walk, branch, value, depth=depth + 1):
            return _coerce(walk, branch, value, depth + 1)
    for branch in branches:
        candidate = _coerce(walk, branch, value, depth + 1)
        if not issues_of(walk, branch, candidate, depth=depth + 1):
            return candidate
    return value


def _coerce_scalar(types: list[str], value: Any) -> Any:
    if "integer" in types and isinstance(value, float) and value.is_integer() and "number" not in types:
        return int(value)
    if not types or any(has_type(value, name) for name in types):
        return value
    for name in types:
        coerced = _to_type(name, value)
        if coerced is not _NO_CHANGE:
            return coerced
    return value


def _to_type(name: str, value: Any) -> Any:
    match name:
        case "number" | "integer":
            return _to_number(value, whole=name == "integer")
        case "boolean":
            return _to_boolean(value)
        case "string":
            return _to_text(value)
        case "null" if value == "" or (value == 0 and isinstance(value, int | float)):
            return None
    return _NO_CHANGE


def _to_number(value: Any, *, whole: bool) -> Any:
    if value is None or isinstance(value, bool):
        return int(bool(value))
    if not isinstance(value, str) or not _NUMBER.fullmatch(value.strip()):
        return _NO_CHANGE
    text = value.strip()
    if text.lstrip("-").isdecimal():
        return int(text)
    number = float(text)
    if whole:
        return int(number) if number.is_integer() else _NO_CHANGE
    return number if is_number(number) else _NO_CHANGE


def _to_boolean(value: Any) -> Any:
    if value is None:
        return False
    if value in ("true", "false"):
        return value == "true"
    if is_number(value) and value in (0, 1):
        return bool(value)
    return _NO_CHANGE


def _to_text(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if is_number(value):
        return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e21 else str(value)
    return _NO_CHANGE
