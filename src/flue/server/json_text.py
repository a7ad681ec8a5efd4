"""JSON as the server writes and reads it: compact, UTF-8, and nothing that other parsers would refuse."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any

MAX_DEPTH = 128
"""How deep arrays and objects of a request may nest."""

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def encode(value: Any) -> bytes:
    """Return JSON values as the bytes of a response."""
    return text_of(value).encode()


def text_of(value: Any) -> str:
    """Return JSON values as one line of text."""
    return _ENCODER.encode(value)


def decode(data: bytes) -> Any:
    """Return what a request's body says; a blank one is an empty object.

    Raises `ValueError`, saying why: not UTF-8, not JSON, NaN or an infinity, a number too large, nesting deeper than
    `MAX_DEPTH`, half of a surrogate pair (no text that can be stored or sent on).
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from None
    if not text.strip(" \t\r\n"):
        return {}
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise _too_deep() from None
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(value)
    if _SURROGATE.search(text):
        _check_surrogates(value)
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [item for each in level for item in _items(each) if isinstance(item, dict | list)]
        if not level:
            return
    raise _too_deep()


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _check_surrogates(value: Any) -> None:
    try:
        encode(value)
    except UnicodeEncodeError:
        raise ValueError("an escape is half of a surrogate pair") from None


def _too_deep() -> ValueError:
    return ValueError(f"it nests deeper than {MAX_DEPTH} levels")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


_DECODER = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)
