"""Values of the user's own as JSON: what a workflow or a tool returned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flue.errors import UsageError

_STRICT = json.JSONEncoder(allow_nan=False)


def as_json(value: Any) -> Any:
    """Return `value` as JSON values: responses, pydantic models, dataclasses, dates, sets and the like included.

    Raises `ValueError`, saying why, for what JSON cannot carry, NaN and infinity among it.
    """
    try:
        plain = _plain(value)
        _STRICT.encode(plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(_reason(error)) from error
    return plain


def json_result(value: Any) -> Any:
    """Return what a workflow returned as JSON values. Raises `UsageError` (`invalid_result`) where that cannot be."""
    try:
        return as_json(value)
    except ValueError as error:
        raise UsageError(
            f"The result, of type {type(value).__name__}, cannot be written as JSON: {error}.",
            code="invalid_result",
            hint="Return JSON values, pydantic models or dataclasses.",
        ) from error


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | bool) or type(value) in (int, float):
        return value
    to_json = getattr(value, "to_json", None)
    if callable(to_json) and not isinstance(value, type):
        return _plain(to_json())
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(item) for key, item in value.items()}

    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value, by_alias=False, inf_nan_mode="constants")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
