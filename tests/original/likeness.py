"""Whether one answer says all that another says: more is allowed, less and else are not.

What differs from run to run is replaced first: ids, times, durations. So is what is each server's own: the wording of
errors, the names of a language's exceptions, what the model was told, token counts, how often a growing message is
shown, and `idle` in runs, which the original tells over sockets only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_IDS = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}|\d+_\d+_\d+")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_OWN = frozenset({"timestamp", "durationMs", "usage", "input", "toolCallId", "id", "responseId", "nextCursor"})
"""Values of their own: only whether they are there is compared, and of what type."""
_WORDING = frozenset({"message", "details", "dev", "meta", "name"})
_UNCOMPARED = frozenset({"reasoning"})


def events(text: str) -> list[dict[str, Any]]:
    """Return the frames of a server-sent stream. Raises `AssertionError` for one that the protocol does not have."""
    found = []
    for block in text.split("\n\n"):
        if not block or block.startswith(":"):
            continue
        lines = block.split("\n")
        assert [line.split(":")[0] for line in lines] == ["event", "id", "data"], block
        event, id, data = (line.split(": ", 1)[1] for line in lines)
        found.append({"event": event, "id": int(id), "data": json.loads(data)})
    return found


def plain(answer: Any) -> Any:
    """Return an answer of `talk.mjs` without what is each server's own."""
    if "frames" in answer:
        return {"frames": _without_updates([_shape(frame) for frame in answer["frames"]]), "end": answer["end"]}
    text, kind = answer.get("text", ""), (answer.get("headers") or {}).get("content-type") or ""
    if kind.startswith("text/event-stream"):
        return {**answer, "text": _without_updates([_shape(frame) for frame in events(text)])}
    if kind.startswith("application/json"):
        return {**answer, "text": _shape(_page(json.loads(text)))}
    return answer


def _page(body: Any) -> Any:
    return {"events": _without_updates(body["events"])} if isinstance(body, dict) and "events" in body else body


def _without_updates(frames: list[Any]) -> list[Any]:
    """Leave out the deltas, and count again: providers' frames become more or fewer of them."""
    kept, place = [], 0
    for frame in frames:
        event = frame.get("data", frame.get("event", frame))
        if isinstance(event, dict) and "eventIndex" in event:
            if event["type"] in {"message_update", "text_delta"} or (event["type"] == "idle" and "runId" in event):
                continue
            if event["type"] == "message_start" and event["message"]["role"] == "assistant":
                del event["message"]["content"]  # as much as there is by then
            event["eventIndex"] = place
            kept.append({**frame, "id": place} if "id" in frame else frame)
            place += 1
        else:
            kept.append(frame)
    return kept


def _shape(value: Any, name: str = "") -> Any:
    if name in _OWN:
        return type(value).__name__
    if isinstance(value, dict):
        wording = _WORDING if name == "error" else frozenset()
        own = _UNCOMPARED | ({"details"} if "content" in value else frozenset())  # a tool's
        return {
            key: type(each).__name__ if key in wording else _shape(each, key)
            for key, each in value.items()
            if key not in own
        }
    if isinstance(value, list):
        return [_shape(each) for each in value]
    if isinstance(value, str):
        return _TIME.sub("<time>", _IDS.sub("<id>", value))
    return value


def missing(theirs: Any, ours: Any, path: str = "") -> Iterator[str]:
    """Yield what the second lacks, or says otherwise."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key, value in theirs.items():
            if key not in ours and value is not None:
                yield f"{path}.{key}: theirs {value!r}, ours nothing"
            elif key in ours:
                yield from missing(value, ours[key], f"{path}.{key}")
    elif isinstance(theirs, list) and isinstance(ours, list):
        if len(theirs) != len(ours):
            yield f"{path}: theirs {len(theirs)}, ours {len(ours)}: {_kinds(theirs)} / {_kinds(ours)}"
        for place, (one, other) in enumerate(zip(theirs, ours, strict=False)):
            yield from missing(one, other, f"{path}[{place}]")
    elif theirs != ours:
        yield f"{path}: theirs {theirs!r}, ours {ours!r}"


def _kinds(values: list[Any]) -> str:
    def kind(value: Any) -> str:
        inner = value.get("data", value.get("event", value)) if isinstance(value, dict) else value
        return str(inner.get("type", "?")) if isinstance(inner, dict) else type(inner).__name__

    return " ".join(map(kind, values))
