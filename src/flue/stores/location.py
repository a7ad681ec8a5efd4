"""Which store an address names: a path, a `sqlite:`, `postgres:` or `postgresql:` URL, or `memory:`.

URLs may hold a password, so no error here repeats what it was given beyond the scheme or the path of a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from os import PathLike
from typing import Any
from urllib.parse import unquote

from flue.durable.port import DurableStore
from flue.errors import UsageError

DATABASE_URL = "FLUE_DATABASE_URL"
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_HINT = "Give a path, sqlite:///data/flue.db, postgresql://user:password@host/database, or memory:."


def open_store(where: str | PathLike[str] | None) -> DurableStore:
    """Return the store at an address; nothing is opened before its first use. Close it with `aclose()`.

    A path, or `sqlite:///` and a path, is a SQLite file (`sqlite:///flue.db` in the working directory,
    `sqlite:////var/lib/flue.db` from the root); `postgresql://…` and `postgres://…` are a database that several nodes
    share, which needs the extra `postgres`; `memory:` and None keep everything until the process ends.

    Raises `UsageError`: `invalid_store` for any other URL, `missing_package` without the extra.
    """
    if where is None or (isinstance(where, str) and is_memory(where)):
        from flue.stores.memory import MemoryStore

        return MemoryStore()
    if not isinstance(where, str) or not _is_url(where):
        return _sqlite(where)
    scheme, _, rest = where.strip().partition(":")
    scheme = scheme.lower()
    if scheme == "sqlite":
        return _sqlite(_path_of(rest))
    if scheme in ("postgres", "postgresql"):
        from flue.stores.postgres import PostgresStore

        return PostgresStore(f"{scheme}:{rest}")
    named = f"with the scheme {scheme!r}" if _SCHEME.fullmatch(scheme) else "at a URL without a scheme"
    raise UsageError(f"There is no store {named}.", code="invalid_store", hint=_HINT)


def store_from_env(env: Mapping[str, Any], default: str | PathLike[str] | None) -> DurableStore:
    """Return the store that `FLUE_DATABASE_URL` names, where it is not set or blank the one at `default`.

    Raises as `open_store`.
    """
    where = str(env.get(DATABASE_URL) or "").strip()
    return open_store(where or default)


def is_memory(where: str) -> bool:
    """Say whether an address is that of a store that lives in the memory of one process."""
    return where.strip() == "memory:"


def _is_url(where: str) -> bool:
    # "://" is in no path that somebody would write; a lone colon may be (C:\flue.db, agent:1.db).
    return "://" in where or where.lower().startswith(("sqlite:", "postgres:", "postgresql:", "memory:"))


def _path_of(rest: str) -> str:
    path = unquote(rest.removeprefix("///"))
    if not rest.startswith("///") or not path or path == ":memory:" or "?" in rest or "#" in rest:
        raise UsageError(
            "A sqlite: URL names one file and has no host and no options.",
            code="invalid_store",
            hint="Write sqlite:///data/flue.db, or sqlite:////var/lib/flue.db from the root; memory: keeps no file.",
        )
    return path


def _sqlite(path: str | PathLike[str]) -> DurableStore:
    from flue.stores.sqlite import SqliteStore

    return SqliteStore(path)
