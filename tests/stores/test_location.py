from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from flue import open_context
from flue.errors import DurabilityError, UsageError
from flue.stores import MemoryStore, SqliteStore, open_store, store_from_env
from flue.testing.store_contract import entry, head

SECRET = "hunter2"
postgres = pytest.mark.skipif(
    find_spec("psycopg") is None, reason="needs the extra: pip install 'flue-agents[postgres]'"
)


def refusal(where: str) -> UsageError:
    """Return the error that an address gives."""
    with pytest.raises(UsageError) as caught:
        open_store(where)
    assert SECRET not in f"{caught.value!r} {caught.value} {caught.value.hint}"
    assert SECRET not in str(caught.value.__cause__)
    return caught.value


@pytest.mark.parametrize(
    ("where", "path"),
    [
        ("data/flue.db", "data/flue.db"),
        (Path("flue.db"), "flue.db"),
        ("sqlite:///flue.db", "flue.db"),
        ("sqlite:///data/flue.db", "data/flue.db"),
        ("sqlite:////var/lib/flue.db", "/var/lib/flue.db"),
        ("SQLite:///with%20space%3F.db", "with space?.db"),
        ("agent:1.db", "agent:1.db"),
    ],
)
def test_a_path_and_a_sqlite_url_name_a_file(where: str | Path, path: str) -> None:
    store = open_store(where)
    assert isinstance(store, SqliteStore)
    assert store.path == Path(path).absolute()


@pytest.mark.parametrize("where", [None, "memory:"])
def test_nothing_and_memory_are_kept_in_memory(where: str | None) -> None:
    assert isinstance(open_store(where), MemoryStore)


@postgres
@pytest.mark.parametrize("scheme", ["postgresql", "postgres", " postgresql"])
def test_a_postgres_url_gives_a_store_that_does_not_show_the_password(scheme: str) -> None:
    store = open_store(f"{scheme}://ann:{SECRET}@localhost:1/db")
    assert type(store).__name__ == "PostgresStore"
    assert SECRET not in repr(store)


@postgres
async def test_a_database_that_cannot_be_reached_is_told_without_the_password() -> None:
    from flue.stores import PostgresStore

    store = PostgresStore(f"postgresql://ann:{SECRET}@127.0.0.1:1/db", retry_for=0)
    with pytest.raises(DurabilityError) as caught:
        await store.list_sessions()
    assert caught.value.code == "store_unreachable"
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in f"{error!r} {error}"
        error = error.__cause__
    await store.aclose()


@pytest.mark.parametrize(
    ("where", "says"),
    [
        (f"mysql://ann:{SECRET}@host/db", "scheme 'mysql'"),
        (f"postgresql+psycopg://ann:{SECRET}@host/db", "scheme 'postgresql+psycopg'"),
        (f'"postgresql://ann:{SECRET}@host/db"', "without a scheme"),
        ("sqlite:flue.db", "names one file"),
        ("sqlite://", "names one file"),
        ("sqlite:///", "names one file"),
        ("sqlite:///:memory:", "names one file"),
        ("sqlite://host/flue.db", "names one file"),
        ("sqlite:///flue.db?mode=ro", "names one file"),
        ("memory://", "scheme 'memory'"),
    ],
)
def test_what_names_no_store_is_refused_without_repeating_it(where: str, says: str) -> None:
    error = refusal(where)
    assert error.code == "invalid_store"
    assert says in error.message


@postgres
@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("postgres:db", "does not start with postgresql://"),
        (f"postgresql://ann:x/{SECRET}@host/db", "port that is no number"),
        (f"postgresql://ann:1/{SECRET}@host/db", "more than one @"),
        (f"postgresql://ann:x@{SECRET}@host/db", "more than one @"),
        (f"postgresql://ann:{SECRET}%zz@host/db", "cannot be read"),
        (f"postgresql://ann@host/db?pass={SECRET}", "cannot be read"),
    ],
)
def test_a_postgres_url_that_is_none_is_refused_without_repeating_it(where: str, says: str) -> None:
    error = refusal(where)
    assert error.code == "invalid_store"
    assert says in error.message


def test_without_the_postgres_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for module in [module for module in sys.modules if module.startswith("flue.stores.postgres")]:
        monkeypatch.delitem(sys.modules, module)
    error = refusal(f"postgresql://ann:{SECRET}@host/db")
    assert error.code == "missing_package"
    assert "flue-agents[postgres]" in str(error.hint)


@pytest.mark.parametrize("value", [None, "", "  "])
def test_an_environment_without_the_url_gives_the_default(value: str | None, tmp_path: Path) -> None:
    env = {} if value is None else {"FLUE_DATABASE_URL": value}
    store = store_from_env(env, tmp_path / "flue.db")
    assert isinstance(store, SqliteStore)
    assert store.path == tmp_path / "flue.db"


def test_the_url_of_the_environment_wins_over_the_default(tmp_path: Path) -> None:
    store = store_from_env({"FLUE_DATABASE_URL": "memory:"}, tmp_path / "flue.db")
    assert isinstance(store, MemoryStore)


async def test_a_context_takes_the_url_of_a_store(tmp_path: Path) -> None:
    path = tmp_path / "flue.db"
    store = SqliteStore(path)
    await store.append_entries("s", head("a"), [entry("a")], expected=0)
    await store.aclose()
    before = path.read_bytes()
    async with open_context(id="a", store=f"sqlite:///{path}"):
        pass
    assert path.read_bytes() == before
    with pytest.raises(UsageError, match="no store with the scheme 'mysql'"):
        async with open_context(id="a", store="mysql://host/db"):
            pass
