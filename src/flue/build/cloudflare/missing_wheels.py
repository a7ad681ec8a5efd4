"""Says which dependency has no wheel for a Worker, and what to take instead."""

from __future__ import annotations

import re
from collections.abc import Callable

from flue.build.dependencies import normalised
from flue.errors import ConfigError

ALTERNATIVES = {
    "aiosqlite": "the object's own storage (docs/guides/sessions.md)",
    "asyncpg": "Hyperdrive, or a service of yours over HTTP",
    "cryptography": "Web Crypto, from Python as `js.crypto.subtle`; or `hmac` and `hashlib` of the standard library",
    "grpcio": "the HTTP interface of the same service",
    "lxml": "xml.etree.ElementTree, or html.parser, of the standard library",
    "markupsafe": "string.Template of the standard library in place of Jinja2",
    "numpy": "plain Python, or a container sandbox for heavy computing",
    "orjson": "json of the standard library, or msgspec",
    "pandas": "csv of the standard library, or a container sandbox for heavy computing",
    "psycopg": "Hyperdrive, or a service of yours over HTTP",
    "psycopg-binary": "Hyperdrive, or a service of yours over HTTP",
    "pyyaml": "json or tomllib of the standard library, or ruamel.yaml without its C part",
    "regex": "re of the standard library",
    "tiktoken": "the usage that the model reports",
    "ujson": "json of the standard library, or msgspec",
    "uvloop": "nothing: the platform has its own loop",
}

_NO_MATCH = re.compile(r"No matching distribution found for ([^\s;(]+)")
_REQUIRED_BY = re.compile(r"satisfies the requirement ([^\s;(]+)[^(\n]*\(from (?!versions:)([A-Za-z0-9][^)\s]*)")
_DEPENDS = re.compile(r"^ +(\S+) (\S+) depends on ([^\s;]+)", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def no_wheel(said: str, has_wheel: Callable[[str], bool]) -> ConfigError | None:
    """Return the error for a resolver's words, None when they are about something else.

    `has_wheel` asks whether a package can be had for a Worker at all, in whatever version.
    """
    match = _NO_MATCH.search(said)
    if match:
        tried = {_named(match[1]): (match[1], dict(_REQUIRED_BY.findall(said)).get(match[1], ""))}
    else:  # pip tried older versions of what depends on it, and in the end speaks of a conflict
        tried = {}
        for user, _, requirement in _DEPENDS.findall(said):
            tried.setdefault(_named(requirement), (requirement, user))
    missing = next((name for name in tried if not has_wheel(name)), None)
    return None if missing is None else _error(*tried[missing])


def _error(requirement: str, user: str) -> ConfigError:
    name = _named(requirement)
    wanted = f"{requirement} (for {user})" if user and _named(user) != name else requirement
    instead = f"Instead of {name}: {ALTERNATIVES[name]}. " if name in ALTERNATIVES else ""
    root = _named(user) if user else name
    return ConfigError(
        f"{wanted} cannot run in a Worker: there is no such wheel of pure Python or for WebAssembly.",
        code="no_worker_wheel",
        hint=f"{instead}If only your server needs it, write \"{root}; sys_platform != 'emscripten'\".",
    )


def _named(requirement: str) -> str:
    match = _NAME.match(requirement)
    return normalised(match[0]) if match else requirement
