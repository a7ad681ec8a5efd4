"""The stand-in for an object's storage behaves as workerd's, and takes every statement of the store's as that does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flue.cloudflare.storage.store import DurableObjectStore
from flue.durable.records import StepResult, Writes
from flue.testing import VirtualClock
from flue.testing.store_contract import entry, head
from flue.testing.work_contract import admission, claim_one
from tests.cloudflare.standin.js_values import JsError, jsnull, to_js
from tests.cloudflare.standin.storage import Cursor, Disk, SqlStorage, Storage
from tests.cloudflare.workerd.running import Workerd, running
from tests.stores.day import begin, go_on
from tests.stores.everything import everything

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

Step = dict[str, Any]


def sql(query: str, *bindings: Any) -> Step:
    return {"do": "exec", "sql": query, "bindings": list(bindings)}


def transaction(*steps: Step, fails: bool = False) -> Step:
    return {"do": "transaction", "steps": list(steps), "fails": fails}


def set_alarm(at: int) -> Step:
    return {"do": "setAlarm", "at": at}


GET_ALARM, DELETE_ALARM = {"do": "getAlarm"}, {"do": "deleteAlarm"}
LATE = 5_000_000_000_000
TABLE = sql("CREATE TABLE t (a INTEGER PRIMARY KEY AUTOINCREMENT, b INTEGER, c TEXT UNIQUE, d REAL)")
INSERT = "INSERT INTO t (b, c, d) VALUES (?, ?, ?)"
TYPES = sql("SELECT a, b, c, d, typeof(a), typeof(b), typeof(c), typeof(d) FROM t")

FACTS: dict[str, list[Step]] = {
    "types of bindings": [sql("SELECT typeof(?), typeof(?), typeof(?), ?", 5, 5.5, "x", True), sql("SELECT ?", None)],
    "affinity": [TABLE, sql(INSERT, 1, 2, 3), sql(INSERT, 2.5, 2.5, 1), sql(INSERT, "7", "7", "7"), TYPES],
    "numbers compared": [TABLE, sql(INSERT, 5, "x", 1), sql("SELECT b FROM t WHERE b = ? AND b - ? = 0", 5, 5)],
    "an integer key that is none": [TABLE, sql("INSERT INTO t (a) VALUES (?)", 2.5)],
    "large integers": [sql("SELECT 9007199254740993, -9007199254740993, 9007199254740991"), sql("SELECT ?", 2**53 - 2)],
    "texts of digits": [
        TABLE,
        sql(INSERT, "1152921504606846977", "x", 1),
        sql("SELECT CAST(b AS TEXT), typeof(b) FROM t WHERE b >= ?", "1152921504606846976"),
    ],
    "limits with numbers": [
        TABLE,
        sql(INSERT, 1, "x", 1),
        sql("SELECT a FROM t LIMIT ?", 1),
        sql("SELECT 1 LIMIT 1.5"),
    ],
    "numbers of parameters": [
        sql("SELECT ?", 1, 2),
        sql("SELECT ?, ?", 1),
        sql(f"SELECT 1 WHERE 1 IN ({','.join('?' * 100)})", *range(100)),
        sql(f"SELECT 1 WHERE 1 IN ({','.join('?' * 101)})", *range(101)),
    ],
    "several statements": [
        sql("CREATE TABLE t (b); INSERT INTO t VALUES (5); SELECT * FROM t WHERE b = ?", 5),
        sql("INSERT INTO t VALUES (?); SELECT 1", 5),
        sql("SELECT 1 ; "),
        sql(""),
        sql("-- nothing"),
        sql("CREATE TRIGGER x AFTER DELETE ON t BEGIN SELECT 1; SELECT 2; END; SELECT count(*) FROM t"),
    ],
    "long statements": [sql(f"SELECT '{'x' * 110_000}'"), sql("SELECT " + "1+" * 200 + "1")],
    "transactions": [
        sql("BEGIN"),
        sql("SAVEPOINT x"),
        TABLE,
        transaction(sql(INSERT, 1, "x", 1), sql("SELECT count(*) FROM t")),
        transaction(sql(INSERT, 1, "y", 1), fails=True),
        transaction(sql(INSERT, 1, "z", 1), transaction(sql(INSERT, 1, "in", 1), fails=True)),
        transaction(sql(INSERT, 1, "v", 1), sql(INSERT, 1, "v", 1), sql("SELECT changes()")),
        transaction(sql("CREATE TABLE u (a)"), fails=True),
        sql("SELECT c FROM t ORDER BY a"),
        sql("SELECT * FROM u"),
    ],
    "pragmas": [TABLE, *(sql(f"PRAGMA {name}") for name in ("user_version", "application_id", "journal_mode"))],
    "what is reserved": [sql("CREATE TABLE _cf_x (a)"), sql("ATTACH ':memory:' AS x")],
    "constraints": [
        *(TABLE, sql(INSERT, 1, "x", 1), sql(INSERT, 1, "x", 1)),
        sql("CREATE TABLE n (a TEXT NOT NULL)"),
        *(sql("INSERT INTO n VALUES (?)", None), sql("SELECT nothing FROM t"), sql("SELEC 1")),
    ],
    "changes": [
        *(TABLE, sql(INSERT, 1, "x", 1), sql("SELECT changes()"), sql("SELECT 1"), sql("SELECT changes()")),
        *(sql("UPDATE t SET b = 2"), sql("SELECT changes()"), sql("UPDATE t SET b = 2 WHERE a = 9")),
        *(sql("SELECT changes()"), sql("INSERT INTO t (c) VALUES ('x') ON CONFLICT (c) DO NOTHING")),
        *(sql("SELECT changes()"), sql("DELETE FROM t"), sql("SELECT changes()")),
    ],
    "columns of one name": [sql("SELECT 1 AS a, 2 AS a")],
    "characters": [sql("SELECT ?, length(?)", "a\x00b", "é🜁"), sql("SELECT 'é' < '🜁', '🜁' < ?", "\uffff")],
    "alarms": [
        *(GET_ALARM, set_alarm(LATE), GET_ALARM, set_alarm(0), set_alarm(-5), GET_ALARM),
        *(set_alarm(9_300_000_000_000), GET_ALARM, DELETE_ALARM, GET_ALARM),
    ],
    "alarms in transactions": [
        *(transaction(set_alarm(LATE), fails=True), GET_ALARM, transaction(set_alarm(LATE)), GET_ALARM),
        *(transaction(DELETE_ALARM, fails=True), GET_ALARM, transaction(transaction(DELETE_ALARM), fails=True)),
        *(GET_ALARM, transaction(DELETE_ALARM, set_alarm(LATE + 1)), GET_ALARM, transaction(DELETE_ALARM), GET_ALARM),
    ],
}


class StandIn:
    """Does steps to a stand-in."""

    def __init__(self) -> None:
        clock = VirtualClock()
        self.storage = Storage(Disk(), now=clock.now_ms)

    async def ask(self, steps: list[Step]) -> list[Any]:
        answers: list[Any] = []
        for step in steps:
            if step["do"] == "getAlarm":
                at = await self.storage.getAlarm()
                answers.append({"alarm": None if at is jsnull else at})
            elif step["do"] == "setAlarm":
                try:
                    await self.storage.setAlarm(step["at"])
                    answers.append({})
                except JsError as error:
                    answers.append({"error": str(error)})
            else:
                answers.append(self._now(step))
        return answers

    def _now(self, step: Step) -> Any:
        if step["do"] == "exec":
            return attempt(lambda: {"rows": plain(self.storage.sql.exec(step["sql"], *step["bindings"]))})
        if step["do"] == "transaction":
            inner: list[Any] = []

            def closure() -> Any:
                inner.extend(self._now(each) for each in step["steps"])
                if step["fails"]:
                    raise JsError("rolled back")
                return {}

            return attempt(lambda: self.storage.transactionSync(closure)) | {"steps": inner}
        _ = self.storage.setAlarm(step["at"]) if step["do"] == "setAlarm" else self.storage.deleteAlarm()
        return {}


def attempt(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except JsError as error:
        return {"error": str(error)}


def plain(cursor: Cursor) -> list[Any]:
    rows = cursor.raw().toArray().to_py()
    return [[None if value is jsnull else value for value in row] for row in rows]


def essence(answer: Any) -> Any:
    """Return an answer with what programs look at of an error: SQLite's code, or its first words."""
    if isinstance(answer, list):
        return [essence(each) for each in answer]
    if isinstance(answer, dict):
        return {key: shorten(value) if key == "error" else essence(value) for key, value in answer.items()}
    return answer


def shorten(error: str) -> str:
    code = re.search(r"SQLITE_[A-Z]+", error)
    return code[0] if code else error[:30]


@pytest.fixture(scope="module")
def workerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workerd]:
    with running(tmp_path_factory.mktemp("workerd")) as workerd:
        yield workerd


@pytest.mark.parametrize("name", FACTS)
async def test_the_stand_in_answers_as_workerd_does(workerd: Workerd, name: str) -> None:
    expected = workerd.ask(FACTS[name])
    assert essence(await StandIn().ask(FACTS[name])) == essence(expected)


class Recorder(Storage):
    """A stand-in that writes down what is done to it, as steps for workerd, and what came of each."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk, now=VirtualClock().now_ms)
        self.sql = RecordedSql(self)
        self.steps: list[Step] = []
        self.answers: list[Any] = []

    def transactionSync(self, closure: Callable[[], Any]) -> Any:  # noqa: N802
        outside, self.steps = self.steps, []
        before, self.answers = self.answers, []
        fails = True
        try:
            result = super().transactionSync(closure)
            fails = False
        finally:
            outside.append(transaction(*self.steps, fails=fails))
            before.append({"error": "rolled back", "steps": self.answers} if fails else {"steps": self.answers})
            self.steps, self.answers = outside, before
        return result


class RecordedSql(SqlStorage):
    def exec(self, query: str, *bindings: Any) -> Cursor:
        recorder = self._storage
        assert isinstance(recorder, Recorder)
        cursor = super().exec(query, *bindings)
        rows = cursor.raw().toArray().to_py()
        recorder.steps.append(sql(query, *map(to_js, bindings)))
        recorder.answers.append({"rows": [[None if value is jsnull else value for value in row] for row in rows]})
        names = list(cursor.columnNames)
        return Cursor(names, [tuple(None if value is jsnull else value for value in row) for row in rows], 0)


async def long_texts(store: DurableObjectStore) -> None:
    """Write, overwrite and delete texts that do not fit into a row, and one that is not written after all."""
    text = "é" * 1_000_000
    await store.append_entries("s", head("a", {"x": text}), [entry("a", text)], expected=0)
    await store.append_entries("s", head("b", {"y": text}), [entry("b")], expected=1)
    assert await store.load_session("s") is not None
    await store.admit(admission("s1"), now=0)
    claim = await claim_one(store, "a1")
    for body in ("1", text):
        await store.checkpoint(claim, Writes(steps=(StepResult("pay", body),)))
    await store.delete_sessions(["s"])


async def test_every_statement_of_the_store_gives_in_workerd_what_it_gave_in_the_stand_in(workerd: Workerd) -> None:
    for play in (everything, begin_and_go_on, long_texts):
        recorder = Recorder(Disk())
        await play(DurableObjectStore(recorder, VirtualClock()))
        found = workerd.ask(recorder.steps)
        assert sum(len(step.get("steps", [1])) for step in recorder.steps) > 20
        for step, expected, answer in zip(recorder.steps, recorder.answers, found, strict=True):
            assert without_error(answer) == without_error(expected), step


async def begin_and_go_on(store: DurableObjectStore) -> None:
    await begin(store)
    await go_on(store)


def without_error(answer: Any) -> Any:
    return {key: value for key, value in answer.items() if key != "error"} | {"failed": "error" in answer}
