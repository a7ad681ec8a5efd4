"""Reads a store that has come to rest, and compares it with what clients were promised and with what happened outside.

Each check gives what is wrong, in words; nothing is what one wants to see.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from flue.durable.port import DurableStore
from flue.durable.records import Submission
from flue.engine.feed import Feed
from flue.engine.log_reader import LoggedEvent, LogReader
from flue.harness.entries import MessageEntry, StoredEntries
from flue.harness.left_open import NOT_APPROVED, UNKNOWN
from flue.host import SystemClock
from flue.messages import AssistantMessage, Message, TextContent, ToolCall, ToolResultMessage, UserMessage
from flue.stores.sql.store import SqlStore
from flue.stores.sql.transaction import Transaction
from tests.faults.ledger import Ask, Ledger
from tests.faults.model import ORDER
from tests.faults.outside import happened

DELTAS = frozenset(("message_update", "text_delta", "thinking_delta"))


@dataclass
class Office:
    """Everything that is to be compared."""

    store: SqlStore
    ledger: Ledger
    outside: list[list[str]]
    submissions: dict[str, Submission]
    by_token: dict[str, list[Submission]]
    conversations: dict[str, list[Message]]
    reader: LogReader


async def come_to_rest(store: SqlStore, patience: float, *, servers: int) -> None:
    """Wait until everything has settled and only `servers` owners are left; so many seconds at most without progress.

    The checks say what has not: killed servers are there until the others have noticed. A busy machine may have much
    to make up for.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience) as limit:
            left = 0
            # The servers tell nobody here.
            while (now := await store._read(lambda tx: _left(tx, servers))) != 0:
                if now != left:
                    left = now
                    limit.reschedule(asyncio.get_running_loop().time() + patience)
                await asyncio.sleep(0.05)


def _left(tx: Transaction, servers: int) -> int:
    """Return how much has not come to rest."""
    work = int(tx.row("SELECT COUNT(*) FROM submissions WHERE state <> 'settled'")[0])
    return work + max(int(tx.row("SELECT COUNT(*) FROM owners")[0]) - servers, 0)


async def read_office(store: SqlStore, ledger: Ledger, outside: Path) -> Office:
    """Read a store that nobody writes to."""
    ids = await store._read(lambda tx: tx.rows("SELECT id FROM submissions ORDER BY sequence"))
    submissions: dict[str, Submission] = {}
    by_token: dict[str, list[Submission]] = defaultdict(list)
    for (id,) in ids:
        found = await store.get_submission(id)
        assert found is not None
        submissions[id] = found
        by_token[token_of(found)].append(found)
    conversations = {key: await read_conversation(store, key) for key in await store.list_sessions("")}
    reader = LogReader(cast("DurableStore", store), Feed(), SystemClock())
    return Office(store, ledger, happened(outside), submissions, dict(by_token), conversations, reader)


def token_of(submission: Submission) -> str:
    """Return the token of what was asked for."""
    payload = json.loads(submission.payload)
    if submission.kind == "workflow":
        return str(payload["token"])
    return str(ORDER.findall(json.dumps(payload))[0][0])


async def read_conversation(store: SqlStore, key: str) -> list[Message]:
    """Return the messages of a session as they are stored."""
    stored = await store.load_session(key)
    assert stored is not None
    path = StoredEntries(stored.entries).visible_path(stored.head.leaf_id)
    return [entry.message for entry in path or () if isinstance(entry, MessageEntry)]


async def faults_of(office: Office) -> list[str]:
    """Return everything that is wrong."""
    return [
        *[fault async for fault in _at_rest(office)],
        *_accepted(office),
        *_ordered(office),
        *_conversations(office),
        *_outside(office),
        *_steps(office),
        *[fault async for fault in _runs(office)],
        *[fault async for fault in _followers(office)],
        *[fault async for fault in _streams(office)],
    ]


# ------------------------------------------------------------------------------------- nothing stuck, nothing twice


async def _at_rest(office: Office) -> AsyncIterator[str]:
    """Everything has settled, once; nothing is left of the way there."""
    for submission in office.submissions.values():
        if submission.state != "settled":
            yield f"stuck: {submission.id} ({token_of(submission)}) is {submission.state}: {submission}"
            continue
        journal = [record.kind for record in await office.store.load_journal(submission.id)]
        if journal.count("settled") != 1 or journal[-1] != "settled":
            yield f"{submission.id} settled {journal.count('settled')} times: {journal}"
        code = json.loads(submission.error or "{}").get("code")
        if submission.outcome == "failed" and not _may_fail(submission, code):
            yield f"{submission.id} ({token_of(submission)}) failed: {submission.error}"
    for table in ("lanes", "owners"):
        left = await office.store._read(lambda tx, table=table: tx.rows(f"SELECT * FROM {table}"))  # type: ignore[misc]  # noqa: S608
        if left:
            yield f"{table} has rows left: {left}"


def _may_fail(submission: Submission, code: str | None) -> bool:
    match submission.kind, submission.target:
        case "workflow", "once":
            return code == "interrupted"
        case "workflow", _:
            return code == "interrupted"  # and its replacement is checked with the run's chain
        case _, "fragile":
            return code == "exhausted_attempts"
    return False


def _accepted(office: Office) -> Iterator[str]:
    """What a client was told to be accepted is there once; what it was not told at most once."""
    for token, ask in office.ledger.asks.items():
        found = office.by_token.get(token, [])
        firsts = [submission for submission in found if submission.address == submission.id]
        if len(firsts) > 1:
            yield f"{token} is there {len(firsts)} times"
        if ask.accepted and not firsts:
            yield f"{token} was accepted and is lost"
        if len(ask.ids) > 1:
            yield f"{token} was accepted under several ids: {ask.ids}"
        if ask.ids and firsts and ask.ids != {firsts[0].id}:
            yield f"{token} was accepted as {ask.ids} and is there as {firsts[0].id}"
        if ask.ended and ask.kind != "run" and firsts and ask.ended != firsts[0].outcome:
            yield f"a client was told that {token} ended as {ask.ended}; it is {firsts[0].outcome}"
        if ask.ended == "completed" and firsts and ask.kind != "run":
            stored = json.loads(firsts[0].result or "null")
            if stored != ask.result:
                yield f"a client was told another result of {token}: {ask.result}, not {stored}"
            elif f"end of {token}" not in stored["text"]:
                yield f"{token} was answered with something else: {stored['text']!r}"
    known = set(office.ledger.asks)
    for token in office.by_token:
        # What a tool passed on has the token of its call.
        if token not in known and token.rsplit(".", 3)[0] not in known:
            yield f"{token} was never asked for"


# ------------------------------------------------------------------------------------------------------------ order


def _ordered(office: Office) -> Iterator[str]:
    """Within a session nothing was overtaken: not on its way in, and not in the conversation."""
    for ask in office.ledger.asks.values():
        before = ask.after
        if before is None or not (ask.accepted and before.accepted):
            continue
        first, second = (office.by_token.get(each.token, []) for each in (before, ask))
        if first and second and first[0].sequence > second[0].sequence:
            yield f"{ask.token} overtook {before.token}"
    lanes: dict[str, list[Submission]] = defaultdict(list)
    for submission in office.submissions.values():
        if submission.kind != "workflow":
            lanes[submission.lane].append(submission)
    for lane, submissions in lanes.items():
        said = [tokens[0] for message in office.conversations.get(lane, []) if (tokens := tokens_of(message))]
        if doubled := [token for token, count in Counter(said).items() if count > 1]:
            yield f"{lane} has messages twice: {doubled}"
        expected = [token_of(submission) for submission in submissions]
        if said != [token for token in expected if token in set(said)]:
            yield f"{lane} is out of order: {said} instead of {expected}"
        settled = [submission.settled_at or 0 for submission in submissions if submission.outcome != "aborted"]
        if settled != sorted(settled):
            yield f"{lane} settled out of order"
        for submission in submissions:
            if submission.outcome == "completed" and token_of(submission) not in said:
                yield f"{lane} lost the message {token_of(submission)}"


def tokens_of(message: Message) -> list[str]:
    """Return the tokens of the orders in a user's message."""
    return [found[0] for found in ORDER.findall(text_of(message))] if isinstance(message, UserMessage) else []


def calls_of(answer: AssistantMessage) -> tuple[ToolCall, ...]:
    """Return the calls of an answer; one that was aborted may have the beginning of a call, which nobody runs."""
    return () if answer.stop_reason == "aborted" else answer.tool_calls


def text_of(message: Message) -> str:
    """Return what a message says."""
    return "".join(block.text for block in message.content if isinstance(block, TextContent))


def _conversations(office: Office) -> Iterator[str]:
    """Every call has its result, right after the answer and in order, and every order its answer."""
    completed = {token_of(each) for each in office.submissions.values() if each.outcome == "completed"}
    replaced = [each.id for each in office.submissions.values() if each.kind == "workflow" and each.outcome == "failed"]
    for key, messages in office.conversations.items():
        awaited: list[str] = []
        order, last = "", ""
        for message in messages:
            if isinstance(message, ToolResultMessage):
                if not awaited or awaited.pop(0) != message.tool_call_id:
                    yield f"{key}: result of {message.tool_call_id} in the wrong place"
                continue
            if awaited:
                yield f"{key}: no result for {awaited}"
            awaited = []
            if isinstance(message, AssistantMessage):
                awaited = [call.id for call in calls_of(message)]
                last += text_of(message)
            elif tokens := tokens_of(message):
                if order in completed and f"end of {order}" not in last:
                    yield f"{key}: {order} completed without its answer, but with {last!r}"
                order, last = tokens[0], ""
        # The session of a run that was replaced stays as the crash left it: nobody speaks in it any more.
        if awaited and not any(run in key for run in replaced):
            yield f"{key}: no result for {awaited} at the end"
        if order in completed and f"end of {order}" not in last:
            yield f"{key}: {order} completed without its answer, but with {last!r}"


# ---------------------------------------------------------------------------------------------------------- outside


def _outside(office: Office) -> Iterator[str]:
    """Each recorded call happened at most once; what the model was told of it is true."""
    done = Counter(words[1] for words in office.outside if words[0] == "tool")
    for token, times in done.items():
        if times > 1:
            yield f"the call {token} happened {times} times"
    recorded: Counter[str] = Counter()
    completed = {token_of(each) for each in office.submissions.values() if each.outcome == "completed"}
    for key, messages in office.conversations.items():
        calls, order = {}, ""
        for message in messages:
            if tokens := tokens_of(message):
                order = tokens[0]
            elif isinstance(message, AssistantMessage):
                calls.update({call.id: call.arguments["token"] for call in calls_of(message)})
                recorded.update(call.arguments["token"] for call in calls_of(message))
            elif isinstance(message, ToolResultMessage):
                token = calls[message.tool_call_id]
                yield from _told(office, key, message, token, done[token])
                if order in completed and not _is_done(office, message, token):
                    yield f"{key}: {order} was completed without {token}; the model was told {text_of(message)!r}"
    for token in done.keys() - recorded.keys():
        yield f"the call {token} happened and is in no conversation"
    for token, times in recorded.items():
        if times > 1:
            yield f"the call {token} is in conversations {times} times"


def _told(office: Office, key: str, result: ToolResultMessage, token: str, times: int) -> Iterator[str]:
    told, call_id = text_of(result), result.tool_call_id
    if told == f"done {token}":
        if not times:
            yield f"{key}: {token} did not happen, and the model was told that it did"
        if call_id in office.ledger.denied:
            yield f"{key}: {token} was denied and done"
    elif times and told != UNKNOWN and "abort" not in told.lower():
        yield f"{key}: {token} happened, and the model was told {told!r}"
    elif told.startswith("done "):
        yield f"{key}: {token} got the result of another call: {told!r}"
    elif told == NOT_APPROVED and times:
        yield f"{key}: {token} happened without approval"


def _is_done(office: Office, result: ToolResultMessage, token: str) -> bool:
    """Say whether a call was carried out as far as one can know, or a person said no to it."""
    denied = result.tool_call_id in office.ledger.denied and text_of(result).startswith("A person denied this call")
    return denied or text_of(result) in (f"done {token}", UNKNOWN)


def _steps(office: Office) -> Iterator[str]:
    """Once a step is recorded it never runs again: what is recorded is what ran last."""
    ran: dict[tuple[str, str], list[str]] = defaultdict(list)
    for words in office.outside:
        if words[0] == "step":
            ran[words[1], words[2]].append(words[3])
    for token, found in office.by_token.items():
        for submission in found:
            if submission.kind != "workflow" or submission.outcome != "completed":
                continue
            result = json.loads(submission.result or "null")
            for number, nonce in enumerate(result["done"]):
                if ran[token, str(number)][-1:] != [nonce]:
                    yield f"step {number} of {token} is recorded as {nonce} and ran as {ran[token, str(number)]}"
            if "lineage" in result and result["lineage"] != submission.address:
                yield f"{token} has the lineage {result['lineage']}, not {submission.address}"


async def _runs(office: Office) -> AsyncIterator[str]:
    """Every chain of runs is linked both ways, has one payload, and ends once."""
    for token, found in office.by_token.items():
        runs = [submission for submission in found if submission.kind == "workflow"]
        before: str | None = None
        for place, submission in enumerate(runs):
            run = await office.store.get_run(submission.id)
            following = runs[place + 1].id if place + 1 < len(runs) else None
            assert run is not None
            if (run.restarted_from, run.restarted_as, run.generation) != (before, following, place):
                yield f"run {run.run_id} of {token} is linked as {run}"
            if submission.payload != runs[0].payload or submission.address != runs[0].id:
                yield f"run {run.run_id} of {token} has another payload or address than the first"
            if (submission.outcome == "completed") != (following is None) and submission.target != "once":
                yield f"run {run.run_id} of {token} is {submission.outcome} and replaced by {following}"
            events = [event.type for event in await office.reader.read(submission.id, limit=1_000_000)]
            if events.count("run_end") != 1 or events[-1] != "run_end":
                yield f"run {run.run_id} of {token} has no end, or several: {events}"
            before = submission.id
        ask = office.ledger.asks.get(token)
        if runs and ask is not None and ask.ended and (ask.ended == "completed") != (runs[-1].outcome == "completed"):
            yield f"a client was told that {token} is {ask.ended}; it is {runs[-1].outcome}"


# -------------------------------------------------------------------------------------------------------- followers


async def _followers(office: Office) -> AsyncIterator[str]:
    """What a follower saw, over all its connections, is what the log holds, in order; deltas may have been lost."""
    for ask in office.ledger.asks.values():
        if not ask.seen:
            continue
        (first, *_) = office.by_token[ask.token]
        stored = await office.reader.read(first.id, limit=1_000_000)
        for fault in compare(ask, stored):
            yield f"follower of {ask.token} ({first.id}), {ask.connections} connections: {fault}"


def compare(ask: Ask, stored: list[LoggedEvent]) -> Iterator[str]:
    """Compare what was seen with what is stored."""
    indices = [index for index, _, _ in ask.seen]
    if indices != sorted(set(indices)):
        yield f"out of order or twice: {indices}"
        return
    last = stored[-1].index if ask.to_the_end and stored else indices[-1]
    expected = {event.index: event for event in stored if event.index <= last}
    seen = {index: (type, data) for index, type, data in ask.seen}
    if missed := [f"{index} {expected[index].type}" for index in expected if index not in seen]:
        yield f"never saw {missed}"
    for index, (type, data) in seen.items():
        event = expected.get(index)
        if event is None and type not in DELTAS:
            yield f"saw {index} {type}, which is not in the log"
        elif event is not None and json.loads(event.data) != json.loads(data):
            yield f"saw {index} {type} with other values: {differences(json.loads(data), json.loads(event.data))}"


def differences(seen: Any, stored: Any, place: str = "") -> list[str]:
    """Return where two JSON values differ."""
    if isinstance(seen, dict) and isinstance(stored, dict):
        keys = sorted({*seen, *stored})
        return [each for key in keys for each in differences(seen.get(key), stored.get(key), f"{place}.{key}")]
    if isinstance(seen, list) and isinstance(stored, list) and len(seen) == len(stored):
        pairs = enumerate(zip(seen, stored, strict=True))
        return [each for at, (one, other) in pairs for each in differences(one, other, f"{place}[{at}]")]
    return [] if seen == stored else [f"{place}: {str(seen)[:300]!r} is stored as {str(stored)[:300]!r}"]


async def _streams(office: Office) -> AsyncIterator[str]:
    """What a follower of an instance saw, over all its connections, is the beginning of the instance's stream."""
    for (agent, instance), parts in office.ledger.streams.items():
        stream = f"{agent}/{instance}"
        rows = await office.store.read_stream(stream, limit=10_000_000)
        stored: list[tuple[str, str, Any]] = []
        if rows:
            async for event in office.reader.follow_stream(stream):
                stored.append((f"{event.offset}-{event.index}", event.type, json.loads(event.data)))
                if event.offset == rows[-1].offset and event.index == rows[-1].row.last:
                    break
        seen = [(str(id), type, json.loads(data)) for part in parts for id, type, data in part]
        if seen != stored[: len(seen)]:
            at = next((n for n, pair in enumerate(zip(seen, stored, strict=False)) if pair[0] != pair[1]), len(stored))
            yield f"follower of {stream} in {len(parts)} connections saw {seen[at : at + 2]} for {stored[at : at + 2]}"
        if not seen and stored:
            yield f"follower of {stream} saw nothing of {len(stored)} events"
