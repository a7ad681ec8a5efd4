"""A conversation remembers, its sandbox may not: how the model hears that its files are gone (DUR-42).

A conversation goes on in another sandbox with the next message to a server, after an approval that another process
took up, after a crash. Where a sandbox's files are not kept (`ephemeral`), what was said of them before is then no
longer true.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flue.harness.entries import CompactionEntry
from flue.messages import AssistantMessage, TextContent

if TYPE_CHECKING:
    from flue.harness.session import Session

NEW_SANDBOX = (
    "[This goes on in a new sandbox: files that you made or changed before are gone, unless somebody put them back. "
    "Look before you rely on one.]"
)


class FilesNote:
    """Knows in which conversations of a harness the model was told of the harness's sandbox."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told: set[str] = set()

    def take(self, session: Session) -> tuple[TextContent, ...]:
        """Return what the model has to be told before it goes on: a note, or nothing; once for each conversation."""
        if session.history.key in self._told or not getattr(session.setup.env.sandbox, "ephemeral", False):
            return ()
        self._told.add(session.history.key)
        return (TextContent(NEW_SANDBOX),) if _may_speak_of_files(session) else ()


def _may_speak_of_files(session: Session) -> bool:
    tools = {tool.name for tool in session.setup.base_tools}
    for entry in session.history.path:
        if isinstance(entry, CompactionEntry):
            return True
        message = entry.message
        if isinstance(message, AssistantMessage) and any(call.name in tools for call in message.tool_calls):
            return True
    return False
