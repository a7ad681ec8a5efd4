"""What nodes tell each other of changes in the database they share, and when that is worth telling.

Postgres lets one transaction at a time commit that notifies, in the whole server, from before its sync of the disk to
after it. Work that is ready and aborts are rare; but almost every commit makes some log grow, and as a rule nobody
follows one elsewhere. So nodes with followers say so, by holding advisory locks (DUR-40):

    a writer      before it commits what made logs grow, tries to get its own lock alone, and notifies if it cannot
    a follower    holds the locks of all writers, shared; once it has them, it looks at what it follows

A follower waits for a lock until the commit of the writer that has it, and finds what that wrote when it looks;
what is committed later is notified. The locks of a node that dies are gone with its connection. That two writers have
the same lock costs notifications for nobody, now and then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from flue.durable.records import Wake
from flue.stores.postgres_driver import psycopg, sql
from flue.stores.postgres_text import escape

_KINDS = ("work", "cancel", "events")
_LOCKS = 32
_LONGEST_NAME = 1000  # characters: a notification has at most 8,000 bytes

EVERYTHING = (Wake("work"), Wake("cancel"), Wake("events"))
"""What to look at when notifications may have been missed."""


@dataclass(frozen=True, slots=True)
class Channel:
    """The channel of one schema, for one node. `sender` is eight random bytes in hexadecimal, the node's name here."""

    schema: str
    sender: str

    @property
    def name(self) -> str:
        """Return what `LISTEN` takes; the name of a channel has at most 63 bytes."""
        return f"flue_{self._digest.hex()[:16]}"

    @property
    def _digest(self) -> bytes:
        return hashlib.sha256(self.schema.encode()).digest()

    @property
    def _key(self) -> int:
        return int.from_bytes(self._digest[:4]) >> 1

    def notify(self, connection: psycopg.Connection[Any], wakes: Iterable[Wake], writer: int) -> None:
        """Tell other nodes when the transaction is committed, of events only if somebody follows any elsewhere."""
        always = [wake.kind != "events" for wake in wakes]
        texts = [f"{self.sender} {wake.kind} {_short(wake.key or wake.owner)}" for wake in wakes]
        connection.execute(
            "SELECT pg_notify(%s, wake) FROM unnest(%s::text[], %s::boolean[]) AS told (wake, always)"
            " WHERE always OR (SELECT NOT pg_try_advisory_xact_lock(%s, %s))",
            [self.name, texts, always, self._key, (int(self.sender, 16) + writer) % _LOCKS],
        )

    def listen(self, connection: psycopg.Connection[Any]) -> None:
        """Have what other nodes notify arrive at a connection."""
        connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self.name)))

    def follow(self, connection: psycopg.Connection[Any]) -> None:
        """Have events notified until the connection ends, or `unfollow`. What was committed before is to be looked at.

        Raises `psycopg.Error` when a writer does not come to its commit within some seconds.
        """
        connection.execute("SET lock_timeout = '5s'")
        connection.execute(
            "SELECT pg_advisory_lock_shared(%s, number) FROM generate_series(0, %s) AS number",
            [self._key, _LOCKS - 1],
        )

    def unfollow(self, connection: psycopg.Connection[Any]) -> None:
        """Have events notified no more."""
        connection.execute("SELECT pg_advisory_unlock_all()")

    def read(self, text: str) -> list[Wake]:
        """Return what a notification says, if another node sent it."""
        sender, _, said = text.partition(" ")
        kind, _, name = said.partition(" ")
        if sender == self.sender:
            return []
        return [Wake(known, key=name) if known == "events" else Wake(known, name) for known in _KINDS if known == kind]  # type: ignore[arg-type]


def _short(name: str) -> str:
    # An empty name stands for all.
    return escape(name) if len(name) < _LONGEST_NAME else ""
