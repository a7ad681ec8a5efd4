"""Pieces of the wire's JSON as text: one line each, fit for UTF-8, with markers for what is too long."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from flue.events import Scope, iso_time
from flue.messages import Json, Message

PREVIEW = 1000
"""How many characters of an oversized field's JSON its marker shows."""

WITHHELD = "The details of this error are not shown."

NOT_JSON = (TypeError, ValueError, RecursionError)
"""What encoding raises for values without a JSON form."""

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_HALF = re.compile("[\ud800-\udfff]")


def encode(value: Any) -> str:
    """Return JSON text. Raises one of `NOT_JSON` for what is no JSON value."""
    text = _ENCODER.encode(value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            # Half a surrogate pair: legal in a model's JSON, not in UTF-8. Escaped, it survives the round trip.
            return _HALF.sub(lambda half: f"\\u{ord(half[0]):04x}", text)
    return text


def field(value: Any, limit: int) -> str:
    """Return a field's JSON, or that of a marker where it is longer than `limit` characters or no JSON at all."""
    try:
        text = encode(value)
    except NOT_JSON as error:
        return encode({"truncated": True, "reason": f"no JSON value: {error}"})
    return text if len(text) <= limit else truncated(text)


def truncated(text: str, more: int = 0) -> str:
    """Return the marker for a field whose JSON is `text` and `more` characters after it."""
    return encode({"truncated": True, "characters": len(text) + more, "preview": text[:PREVIEW]})


def joined(texts: Sequence[str], limit: int) -> str:
    """Return a list's JSON made of that of its items, or a marker where it is too long."""
    length = list_length(map(len, texts))
    return f"[{','.join(texts)}]" if length <= limit else truncated_list(texts[:1], length)


def list_length(lengths: Iterable[int]) -> int:
    """Return how long a list's JSON is, from the lengths of its items'."""
    return sum(length + 1 for length in lengths) + 1


def truncated_list(first: Sequence[str], length: int) -> str:
    """Return the marker for a list that begins with `first` and has `length` characters in all."""
    beginning = "[" + "".join(first)
    return truncated(beginning, length - len(beginning))


def message_json(message: Message, *, redacted: bool) -> Json:
    """Return a message as the log has it: images are named, their data is left out."""
    data = message.to_json()
    strip_images(data)
    if redacted and "errorMessage" in data:
        data["errorMessage"] = WITHHELD
    return data


def strip_images(data: Json) -> None:
    """Leave the data out of images in the `content` of a fresh JSON form."""
    for block in data["content"]:
        if block["type"] == "image":
            block.update(data="", truncated=True, characters=len(block["data"]))


@lru_cache(maxsize=256)
def scope_text(scope: Scope) -> str:
    """Return the fields of a scope, each with a comma after it."""
    text = encode(scope.to_json())[1:-1]
    return f"{text}," if text else ""


def event_text(type: str, scope: str, own: Sequence[str], index: int, at_ms: int) -> str:
    """Return an event's JSON from the texts of its fields; `own`, put together, are its own, a comma after each."""
    begin = f'{{"type":"{type}",{scope}'
    return "".join((begin, *own, f'"eventIndex":{index},"timestamp":"{iso_time(at_ms)}"}}'))
