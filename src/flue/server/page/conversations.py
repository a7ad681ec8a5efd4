"""Conversations of an agent: which there are, what was said in one, and another that begins where one was."""

from __future__ import annotations

import json
from typing import Any

from flue.engine.admissions import session_lane
from flue.engine.service import Service
from flue.errors import DurabilityError
from flue.events import iso_time
from flue.harness.agent_store import AgentStore
from flue.harness.harness import KEY_PREFIX, session_key
from flue.messages import Json
from flue.ports import Clock, SessionHead, Store, StoredSession
from flue.server.problems import Problem, shortened

PAGE = 100
_LISTED = 300
# No session has so many: its head is read, and no entry.
_BEYOND = 2**31 - 1
_HARNESS = "default"


async def listed(service: Service, agent: str) -> Json:
    """Return an agent's conversations, the one that changed last first, at most 300.

    `listable` is False when the agent's own session store cannot tell which there are.
    """
    store = _store(service, agent)
    if not store.can_list:
        return {"listable": False, "items": []}
    items = []
    for key in (await store.list_sessions(KEY_PREFIX))[:_LISTED]:
        instance, harness, session = json.loads(key.removeprefix(KEY_PREFIX))
        stored = await store.load_session(key, start=_BEYOND)
        if harness == _HARNESS and stored is not None:
            head = stored.head
            items.append(
                {
                    "instance": instance,
                    "session": session,
                    "entries": stored.count,
                    "updatedAt": head.updated_at,
                    "waiting": bool(_pending(head)),
                }
            )
    items.sort(key=lambda item: str(item["updatedAt"]), reverse=True)
    return {"listable": True, "items": items}


class Conversation:
    """One session of an agent's instance; it need not exist."""

    def __init__(self, service: Service, agent: str, instance: str, session: str) -> None:
        self._store = _store(service, agent)
        self._agent = agent
        self._instance = instance
        self._session = session

    async def leaf(self) -> str | None:
        """Return the id of the newest entry."""
        stored = await self._load(start=_BEYOND)
        return None if stored is None else stored.head.leaf_id

    async def read(self, *, before: str | None = None) -> Json:
        """Return the newest 100 entries, or those before an entry; `more` says whether others come first.

        Entries are in exchange format version 3; only those on the way to the newest one are shown.
        """
        stored = await self._load()
        if stored is None:
            return {"leaf": None, "entries": [], "more": False}
        path = _path(stored)
        if before is not None:
            path = path[: _position(path, before)]
        head = stored.head
        return {
            "leaf": head.leaf_id,
            "entries": path[-PAGE:],
            "more": len(path) > PAGE,
            "usage": None if head.usage is None else head.usage.to_json(),
            "approvals": _pending(head),
            "branchedFrom": head.metadata.get("branchedFrom"),
        }

    async def branch(self, entry_id: str, target: str, clock: Clock) -> int:
        """Begin the new session `target` with what was said up to an entry; return how many entries it has.

        Where the entry is an answer with tool calls, their results go with it. Budgets of the new session start at
        zero, and tasks with a name are begun anew. Raises `Problem`: `entry_not_found`, `turn_unfinished`,
        `session_exists`.
        """
        session_lane(self._agent, self._instance, target)  # checks the names
        stored = await self._load()
        path = [] if stored is None else _path(stored)
        kept = _with_results(path, _position(path, entry_id) + 1)
        bodies = {} if stored is None else {row.id: row for row in stored.entries}
        leaf, now = kept[-1]["id"], iso_time(clock.now_ms())
        head = SessionHead(leaf, {"branchedFrom": {"session": self._session, "entryId": leaf}}, now, now)
        key, rows = session_key(self._instance, _HARNESS, target), [bodies[entry["id"]] for entry in kept]
        try:
            await self._store.append_entries(key, head, rows, expected=0)
        except DurabilityError as error:
            if error.code != "session_conflict":
                raise
            taken = f'There is a session "{shortened(target)}" already.'
            raise Problem(409, "session_exists", taken, "Choose another name.") from None
        return len(kept)

    async def _load(self, start: int = 0) -> StoredSession | None:
        return await self._store.load_session(session_key(self._instance, _HARNESS, self._session), start=start)


def _store(service: Service, agent: str) -> Store:
    """Return where an agent's conversations are. Raises `UsageError` (`agent_not_found`)."""
    config = service.catalog.agent(agent).agent
    own = None if config is None or config.fixed is None else config.fixed.persist
    return AgentStore(service.store if own is None else service.deployment.persist(own), agent)


def _path(stored: StoredSession) -> list[dict[str, Any]]:
    """Return the entries from the first to the newest one, compacted ones included."""
    entries = {row.id: json.loads(row.body) for row in stored.entries}
    path, leaf_id = [], stored.head.leaf_id
    while leaf_id in entries:
        path.append(entries.pop(leaf_id))  # so that a path in a circle comes to an end
        leaf_id = path[-1]["parentId"]
    return path[::-1]


def _position(path: list[dict[str, Any]], entry_id: str) -> int:
    for position, entry in enumerate(path):
        if entry["id"] == entry_id:
            return position
    raise Problem(
        404, "entry_not_found", f'The conversation has no entry "{shortened(entry_id)}".', "Load the page again."
    )


def _with_results(path: list[dict[str, Any]], end: int) -> list[dict[str, Any]]:
    """Return the first `end` entries and the results of the calls among them: providers refuse a call without one."""
    while True:
        open_calls = _open_calls(path[:end])
        if not open_calls:
            return path[:end]
        if end == len(path) or path[end].get("message", {}).get("toolCallId") not in open_calls:
            raise Problem(
                409,
                "turn_unfinished",
                "A tool call of this turn has no result yet.",
                "Continue from an earlier turn, or wait for the result.",
            )
        end += 1


def _open_calls(path: list[dict[str, Any]]) -> set[str]:
    calls: set[str] = set()
    for entry in path:
        message = entry.get("message", {})
        if message.get("role") == "assistant":
            calls |= {block["id"] for block in message["content"] if block["type"] == "toolCall"}
        elif message.get("role") == "toolResult":
            calls.discard(message["toolCallId"])
    return calls


def _pending(head: SessionHead) -> list[Json]:
    return [approval for approval in head.metadata.get("approvals", []) if approval["state"] == "pending"]
