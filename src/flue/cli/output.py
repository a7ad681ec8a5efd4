"""Data for whoever reads standard output."""

from __future__ import annotations

import json
from typing import Any, TextIO


def write_json(value: Any, stream: TextIO, *, pretty: bool = False) -> None:
    """Write a JSON value, on one line unless it is to be `pretty`, and pass it on at once."""
    text = json.dumps(value, ensure_ascii=False, indent=2 if pretty else None)
    try:
        text.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:  # half a surrogate pair, or a terminal that knows fewer characters
        text = json.dumps(value, indent=2 if pretty else None)
    print(text, file=stream, flush=True)
