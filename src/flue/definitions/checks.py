"""The checks that definitions share; every message names the object and the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flue.errors import DefinitionError


def check_text(value: object, owner: str, field: str) -> str:
    """Return `value` when it is text that is not blank."""
    if not isinstance(value, str):
        raise DefinitionError(f"{owner}: {field} must be text, got {type(value).__name__}.")
    if not value.strip():
        raise DefinitionError(f"{owner}: {field} must not be empty.")
    return value


def check_mapping(value: object, owner: str, field: str) -> dict[str, Any]:
    """Return `value` as a dict when it is a mapping."""
    if not isinstance(value, Mapping):
        raise DefinitionError(f"{owner}: {field} must be a mapping, got {type(value).__name__}.")
    return dict(value)


def is_unicode(text: str) -> bool:
    """Say whether the text can be written as UTF-8: half a surrogate pair, legal in JSON, cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
