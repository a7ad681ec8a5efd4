"""The date in a long conversation.

The system prompt names the day it was composed on and stays as it is, or providers would have to read the whole
conversation anew: they keep what begins alike. When the day has changed, the next user message says so.
"""

from __future__ import annotations

from flue.harness.history import History
from flue.messages import TextContent, UserMessage

_BEFORE, _AFTER = "[The date has changed. It is now ", ".]"


class DateNote:
    """Knows which day the model of one session was last told."""

    __slots__ = ("_date", "_first", "_history", "_system_date")

    def __init__(self, history: History, system_date: str) -> None:
        self._history = history
        self._system_date = system_date
        self._date: str | None = None
        self._first: str | None = None

    def blocks(self, today: str) -> tuple[TextContent, ...]:
        """Return what the next user message has to begin with: the new date, or nothing."""
        # Compaction and loading change the first entry; only then the conversation has to be searched.
        first = self._history.path[0].id if self._history.path else None
        if self._date is None or first != self._first:
            self._date, self._first = self._last_told(), first
        if today == self._date:
            return ()
        # Looked up again next time: this message may never be sent.
        self._date = None
        return (TextContent(f"{_BEFORE}{today}{_AFTER}"),)

    def _last_told(self) -> str:
        for message in reversed(self._history.transcript.messages):
            if isinstance(message, UserMessage) and message.content and isinstance(message.content[0], TextContent):
                text = message.content[0].text
                if text.startswith(_BEFORE) and text.endswith(_AFTER):
                    return text[len(_BEFORE) : -len(_AFTER)]
        return self._system_date
