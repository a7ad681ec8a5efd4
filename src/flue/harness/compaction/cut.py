"""Where a compacted conversation is cut: what comes before is summarised, what comes after is kept as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flue.harness.compaction.sizes import estimate
from flue.messages import Message, ToolResultMessage, UserMessage


@dataclass(frozen=True, slots=True)
class Cut:
    """`messages[:turn_start]` are history; `messages[turn_start:kept]` begin a turn that is cut in two; the rest stays.

    The two indices are equal when no turn is cut.
    """

    turn_start: int
    kept: int

    def counted_from(self, start: int) -> Cut:
        """Return the same cut in a list without its first `start` messages."""
        return Cut(self.turn_start - start, self.kept - start)


def find_cut(messages: Sequence[Message], keep_recent: int, *, start: int) -> Cut | None:
    """Return the cut that keeps about `keep_recent` tokens, or None when there is nothing to summarise.

    A tool result is never separated from the answer that made its call. `start` is 1 when the first message is an
    earlier summary, else 0.
    """
    kept = _kept_from(messages, keep_recent)
    if kept is None or kept <= start:
        return None
    turn_start = next((at for at in range(kept, start - 1, -1) if isinstance(messages[at], UserMessage)), kept)
    if all(isinstance(message, UserMessage) for message in messages[turn_start:kept]):
        # Nothing of the turn but its question would be cut off: keep that as it is.
        kept = turn_start
    return Cut(turn_start, kept) if kept > start else None


def _kept_from(messages: Sequence[Message], keep_recent: int) -> int | None:
    total = 0
    for at in range(len(messages) - 1, -1, -1):
        total += estimate(messages[at])
        if total >= keep_recent:
            break
    else:
        return None
    for later in range(at, len(messages)):
        if not isinstance(messages[later], ToolResultMessage):
            return later
    # Nothing but tool results from there on: keep the answer that made the calls, too.
    return next(
        (earlier for earlier in range(at, -1, -1) if not isinstance(messages[earlier], ToolResultMessage)), None
    )
