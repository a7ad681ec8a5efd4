"""What a configuration says of the event log and of how long things are kept: its tables `log` and `keep`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from flue.definitions.duration import seconds
from flue.engine.log_settings import LogSettings
from flue.engine.pruning import KeepFor
from flue.errors import DefinitionError

LOG_KEYS = ("errors", "field_limit")
KEEP_KEYS = tuple(field.name for field in fields(KeepFor))
FOREVER = "forever"
SHORTEST_FIELD = 1000
_CENTURY = 100 * 366 * 86_400.0


def read_log(value: object, problems: list[str]) -> LogSettings:
    """Return the settings of `[log]`; what is wrong with it is added to `problems`."""
    table = _table(value, "log", LOG_KEYS, problems)
    given: dict[str, Any] = {}
    if "errors" in table:
        if table["errors"] not in ("full", "redacted"):
            problems.append('`log.errors` must be "full" or "redacted"')
        given["errors"] = table["errors"]
    if "field_limit" in table:
        limit = table["field_limit"]
        if type(limit) is not int or limit < SHORTEST_FIELD:
            problems.append(f"`log.field_limit` must be a whole number of characters, {SHORTEST_FIELD} at least")
        given["field_limit"] = limit
    return LogSettings(**given)


def read_keep(value: object, problems: list[str]) -> KeepFor:
    """Return the times of `[keep]`; what is wrong with it is added to `problems`."""
    table = _table(value, "keep", KEEP_KEYS, problems)
    given: dict[str, float | None] = {}
    for key, text in table.items():
        try:
            given[key] = None if text == FOREVER else seconds(text)
        except DefinitionError:
            given[key] = -1.0
        found = given[key]
        if found is not None and not 0 <= found <= _CENTURY:
            problems.append(f'`keep.{key}` must be "{FOREVER}", or a time like "12h" or "30d", of a century at most')
    return KeepFor(**given)


def _table(value: object, name: str, known: tuple[str, ...], problems: list[str]) -> Mapping[str, Any]:
    """Return a table without the keys that nobody knows."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        problems.append(f"`{name}` must be a table")
        return {}
    problems += [f"unknown key `{name}.{key}`" for key in value if key not in known]
    return {key: value[key] for key in value if key in known}
