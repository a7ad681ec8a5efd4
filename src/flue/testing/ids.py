"""Identifiers that count instead of being random."""

from __future__ import annotations

from itertools import count

# Crockford's base 32, the alphabet of ULIDs: https://github.com/ulid/spec
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class SequentialIds:
    """An `Ids` that counts each kind from 1, so that a test can name an identifier before it is made.

    The forms are the real ones: `ulid()` gives 26 sortable characters ending in the count, `uuid()`
    `00000000-0000-4000-8000-000000000001`, `entry()` `00000001`.
    """

    def __init__(self) -> None:
        self._ulids = count(1)
        self._uuids = count(1)
        self._entries = count(1)

    def ulid(self) -> str:
        """Return the next ULID."""
        number = next(self._ulids)
        return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))

    def uuid(self) -> str:
        """Return the next UUID."""
        return f"00000000-0000-4000-8000-{next(self._uuids):012x}"

    def entry(self) -> str:
        """Return the next 8 hexadecimal digits."""
        return f"{next(self._entries):08x}"
