"""What clients asked for, and what they were promised and shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["prompt", "dispatch", "run"]
Seen = tuple[int, str, str]
"""Index, type and text of an event, as a follower saw it."""


@dataclass(eq=False)
class Ask:
    """One thing asked for.

    `accepted` says whether a client was told that it was; `ids` are all ids it was told for it, one unless something
    went wrong. `after` is an ask of the same session that had been accepted before this one was sent. `ended` is how a
    client was told that it ended.
    """

    token: str
    kind: Kind
    target: str
    instance: str = ""
    session: str = "default"
    keyed: bool = True
    accepted: bool = False
    ids: set[str] = field(default_factory=set)
    after: Ask | None = None
    ended: str | None = None
    result: Any = None
    seen: list[Seen] = field(default_factory=list)
    to_the_end: bool = False
    """Whether its events were followed until the server said that there are no more."""
    connections: int = 0


@dataclass
class Ledger:
    """Everything that was asked for, by token, and what followers of instances saw."""

    asks: dict[str, Ask] = field(default_factory=dict)
    streams: dict[tuple[str, str], list[list[Seen | tuple[str, str, str]]]] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    """Ids of tool calls that a person said no to, and to no other answer."""
    approved: set[str] = field(default_factory=set)
    lost: int = 0
    """Connections that broke."""
    moments: int = 0
    """Answers and events that came: how far things have gone, whatever else the machine does."""

    def ask(self, ask: Ask) -> Ask:
        """Note that something is about to be asked for."""
        self.asks[ask.token] = ask
        return ask
