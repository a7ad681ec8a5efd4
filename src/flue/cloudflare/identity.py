"""What an object is called: the platform may not say so when its alarm rings."""

from __future__ import annotations

from flue.cloudflare.platform.js_classes import State
from flue.cloudflare.storage.database import ObjectConnection
from flue.cloudflare.storage.statements import PREFIX

_TABLE = f"{PREFIX}object"
_MAKE = f"CREATE TABLE IF NOT EXISTS {_TABLE} (name TEXT PRIMARY KEY)"


class Name:
    """The name of one object; kept in its storage, from the first request on, unless the platform tells it."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._known = state.name

    def learn(self, name: str) -> None:
        """Take note of what a request says; durable before that is answered."""
        if self._known is None:
            self._known = name
            ObjectConnection(self._state.storage).fetch(f"{_MAKE}; INSERT OR IGNORE INTO {_TABLE} VALUES (?)", (name,))

    def __str__(self) -> str:
        if self._known is None:
            rows = ObjectConnection(self._state.storage).fetch(f"{_MAKE}; SELECT name FROM {_TABLE}")
            if not rows:
                return ""
            self._known = rows[0][0]
        return self._known
