"""What had streamed of an answer when its process died, from the delta rows of the event log."""

from __future__ import annotations

import json

from flue.engine.log_reader import LogReader

_TYPES = ("message_start", "text_delta", "message_update")
_PAGE = 1000


async def text_of_request(reader: LogReader, log: str, turn: str, index: int) -> str:
    """Return the text that clients were shown of a turn's answer; empty where a tool call had begun to arrive.

    `index` is that of an event before it. Where a request was repeated, the last one counts.
    """
    pieces: list[str] = []
    after = index - 1
    while page := await reader.read(log, after=after, types=_TYPES, limit=_PAGE):
        after = page[-1].index
        for logged in page:
            event = json.loads(logged.data)
            if event.get("turnId") != turn or "taskId" in event:
                continue
            if logged.type == "text_delta":
                pieces.append(event["text"])
            elif logged.type == "message_start" and event["message"]["role"] == "assistant":
                pieces.clear()
            elif event.get("assistantMessageEvent", {}).get("type") == "toolcall_start":
                return ""
    return "".join(pieces)
