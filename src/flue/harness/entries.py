"""The entries of a session: messages, compactions and branch summaries, in exchange format version 3."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from flue.errors import DurabilityError
from flue.messages import Json, Message, TextContent, Usage, UserMessage, message_from_json
from flue.ports import EntryRow

Source = Literal["prompt", "skill", "shell", "task", "retry", "dispatch", "steer", "signal"]


@dataclass(frozen=True, slots=True)
class MessageEntry:
    """A message in the tree. `source` says which call put it there; answers and tool results have none."""

    id: str
    parent_id: str | None
    timestamp: str
    message: Message
    source: Source | None = None

    def to_json(self) -> Json:
        """Return the exchange form."""
        data: Json = {**_base("message", self), "message": self.message.to_json()}
        if self.source is not None:
            data["source"] = self.source
        return data


@dataclass(frozen=True, slots=True)
class CompactionEntry:
    """A summary that takes the place of everything before `first_kept_entry_id` in what the model sees."""

    id: str
    parent_id: str | None
    timestamp: str
    summary: str
    first_kept_entry_id: str
    tokens_before: int
    details: Json
    usage: Usage

    @property
    def message(self) -> UserMessage:
        """Return the summary as the model sees it."""
        return UserMessage((TextContent(f"[Context Summary]\n\n{self.summary}"),))

    def to_json(self) -> Json:
        """Return the exchange form."""
        return {
            **_base("compaction", self),
            "summary": self.summary,
            "firstKeptEntryId": self.first_kept_entry_id,
            "tokensBefore": self.tokens_before,
            "details": self.details,
            "usage": self.usage.to_json(),
        }


@dataclass(frozen=True, slots=True)
class BranchSummaryEntry:
    """A summary of a branch that was left, as other implementations of the format write it."""

    id: str
    parent_id: str | None
    timestamp: str
    from_id: str
    summary: str

    @property
    def message(self) -> UserMessage:
        """Return the summary as the model sees it."""
        return UserMessage((TextContent(f"[Branch Summary]\n\n{self.summary}"),))

    def to_json(self) -> Json:
        """Return the exchange form."""
        return {**_base("branch_summary", self), "fromId": self.from_id, "summary": self.summary}


Entry = MessageEntry | CompactionEntry | BranchSummaryEntry


def _base(kind: str, entry: Entry) -> Json:
    return {"type": kind, "id": entry.id, "parentId": entry.parent_id, "timestamp": entry.timestamp}


def entry_from_json(data: Mapping[str, Any]) -> Entry:
    """Read an entry. Raises `DurabilityError` (code `store_corrupt`) for what this version cannot read."""
    try:
        base = (data["id"], data["parentId"], data["timestamp"])
        match data["type"]:
            case "message":
                return MessageEntry(*base, message_from_json(data["message"]), data.get("source"))
            case "compaction":
                usage = Usage.from_json(data["usage"]) if data.get("usage") else Usage()
                kept, before = data["firstKeptEntryId"], data.get("tokensBefore", 0)
                return CompactionEntry(*base, data["summary"], kept, before, data.get("details") or {}, usage)
            case "branch_summary":
                return BranchSummaryEntry(*base, data["fromId"], data["summary"])
            case other:
                raise ValueError(f"unknown entry type {other!r}")
    except (KeyError, TypeError, ValueError) as error:
        raise DurabilityError(f"A session has an entry that cannot be read: {error}.", code="store_corrupt") from error


def encode_entry(entry: Entry) -> str:
    """Return an entry as JSON text that can be written as UTF-8."""
    data = entry.to_json()
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:
        # Half a surrogate pair: legal in a model's JSON, not in UTF-8. Escaped, it survives the round trip.
        return json.dumps(data, separators=(",", ":"))
    return text


class StoredEntries:
    """Entries as stores keep them, by id. Each is read when a path leads to it, and then once."""

    def __init__(self, rows: Iterable[EntryRow]) -> None:
        self._bodies = {row.id: row.body for row in rows}
        self._read: dict[str, Entry] = {}

    def __getitem__(self, id: str) -> Entry:
        """Return an entry. Raises `DurabilityError` (code `store_corrupt`) for what this version cannot read."""
        entry = self._read.get(id)
        if entry is None:
            entry = self._read[id] = _decode(id, self._bodies[id])
        return entry

    def visible_path(self, leaf_id: str | None) -> list[Entry] | None:
        """Return what the model sees of the path to `leaf_id`: the newest compaction, then what it kept and after.

        None when the path needs an entry that is not among these. Nothing before what it needs is looked at. Raises
        what reading an entry raises.
        """
        compaction: CompactionEntry | None = None
        kept: list[Entry] = []
        after: list[Entry] = []
        first_kept = False
        seen: set[str] = set()
        while leaf_id is not None and not first_kept:
            # Not twice the same, so that a path that runs in a circle comes to an end.
            if leaf_id not in self._bodies or leaf_id in seen:
                return None
            seen.add(leaf_id)
            entry = self[leaf_id]
            if compaction is None and isinstance(entry, CompactionEntry):
                compaction = entry
            elif not isinstance(entry, CompactionEntry):
                (after if compaction is None else kept).append(entry)
            first_kept = compaction is not None and entry.id == compaction.first_kept_entry_id
            leaf_id = entry.parent_id
        if compaction is None:
            return after[::-1]
        # A compaction that names no entry of the path before it kept nothing.
        return [compaction, *(reversed(kept) if first_kept else ()), *reversed(after)]


def _decode(id: str, body: str) -> Entry:
    try:
        data = json.loads(body)
    except ValueError as error:
        raise DurabilityError(f"A session's entry {id} is not JSON: {error}.", code="store_corrupt") from error
    return entry_from_json(data)
