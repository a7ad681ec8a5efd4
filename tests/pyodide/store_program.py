"""Runs inside Pyodide: a store over a Durable Object's storage in JavaScript. `main()` returns a JSON report."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import Any

from pyodide.code import run_js
from pyodide.ffi import create_proxy

from flue.cloudflare.storage.store import DurableObjectStore
from flue.durable.records import (
    Admission,
    Claimant,
    EventRow,
    JournalRecord,
    Message,
    Outcome,
    Schedule,
    SessionAppend,
    StepResult,
    Wait,
    Writes,
)
from flue.errors import DurabilityError
from flue.host import SystemClock
from flue.ports import EntryRow, SessionHead

NOW = 1_900_000_000_000
WRITTEN_AT = "2026-01-02T03:04:05.678Z"
LONG = '"' + "aé会🜁" * 200_000 + '"'


def admission(id: str, **more: Any) -> Admission:
    """Return an admission of a prompt."""
    return Admission(id=id, lane=id, kind="prompt", target="chat", payload=f'{{"text":"{id}"}}', **more)


def append(key: str, body: str, expected: int) -> SessionAppend:
    """Return an entry for a session."""
    return SessionAppend(key, SessionHead("e", {"n": None}, WRITTEN_AT, WRITTEN_AT), (EntryRow("e", body),), expected)


async def code_of(call: Awaitable[object]) -> str:
    """Return the code of the error that a call raises."""
    try:
        await call
    except DurabilityError as error:
        return error.code
    return "done"


async def conversation(store: DurableObjectStore) -> dict[str, Any]:
    """Take a prompt from its admission to its end."""
    given = admission("s1", key="k", events=(EventRow("s1", 0, 0, '"begun"', "stream"),), reserve=50)
    admitted = await store.admit(given, now=NOW, claimant=Claimant("one", "a1", NOW + 30_000))
    again = await store.admit(admission("s2", key="k2"), now=NOW)
    known = await store.admit(given, now=NOW)
    assert admitted.claim is not None
    claim = admitted.claim
    rows = tuple(EventRow("s1", 1 + n, 1 + n, f'"{n} ü"', "stream", deltas=n % 2 == 0) for n in range(40))
    record = JournalRecord("answer", "t1", '{"a":[1,2.5,null]}')
    steps = (StepResult("pay", "1"), StepResult("pay", LONG))
    await store.checkpoint(claim, Writes(journal=(record,), sessions=(append("s", LONG, 0),), events=rows, steps=steps))
    refused = await code_of(store.checkpoint(claim, Writes(journal=(record,), sessions=(append("s", "{}", 7),))))
    await store.settle(claim, Outcome("completed", LONG), now=NOW + 5)
    found, session = await store.get_submission("s1"), await store.load_session("s")
    stream = await store.read_stream("stream", after=39)
    assert found is not None
    assert session is not None
    return {
        "created": [admitted.created, again.created, known.created],
        "refused": refused,
        "outcome": [found.outcome, found.result == LONG, found.error, found.settled_at, found.owner],
        "session": [session.entries[0].body == LONG, session.count, session.head.metadata],
        "journal": [[each.kind, each.body] for each in await store.load_journal("s1")],
        "steps": [each.body == "1" for each in await store.load_steps("s1")],
        "events": [
            len(await store.read_events("s1")),
            [each.offset for each in stream],
        ],
    }


async def failures(store: DurableObjectStore, storage: Any) -> dict[str, Any]:
    """Return what goes wrong in which words."""
    await store.admit(admission("s3"), now=NOW, claimant=Claimant("one", "a3", NOW + 30_000))
    storage.sql.exec("DROP TABLE flue_receipts")
    return {
        "surrogate": await code_of(store.deliver("s3", Message("m", "x", "\ud800"), now=NOW)),
        "too long": await code_of(store.admit(admission("l" * 3_000_000), now=NOW)),
        "no such table": await code_of(store.admit(admission("s4", key="k4"), now=NOW)),
        "nothing of it": await store.get_submission("s4") is None,
    }


async def main(module: str) -> str:
    """Return what was seen, as JSON."""
    javascript = await run_js(f"import({json.dumps(module)})")
    storage = javascript.DurableObjectStorage.new(":memory:", create_proxy(lambda at: None))
    store = DurableObjectStore(storage, SystemClock())
    await store.enlist("one", now=NOW, lease_until=NOW + 30_000)
    report: dict[str, Any] = {"conversation": await conversation(store)}
    await store.put_schedule(Schedule("far", "{}", 2**60))
    waiting = await store.admit(admission("p"), now=NOW, claimant=Claimant("one", "a2", NOW + 30_000))
    assert waiting.claim is not None
    report["due"] = [await store.next_due("one") == 2**60]
    await store.park(waiting.claim, Wait("sleep", NOW + 1000), now=NOW)
    await store.cancel("s2", "enough", now=NOW)
    report["due"].append(await store.next_due("one"))
    report["alarm"] = storage.alarm
    # As a new isolate would.
    report["taken over"] = await DurableObjectStore(storage, SystemClock()).take_over("two", now=NOW)
    report["failures"] = await failures(store, storage)
    return json.dumps(report)
