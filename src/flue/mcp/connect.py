"""`connect_mcp_server`: what the user writes, checked."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Generator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from flue.errors import UsageError
from flue.mcp.connection import Wire
from flue.mcp.failure import require_sdk
from flue.mcp.http import HttpWire, Transport
from flue.mcp.server import McpServer

if TYPE_CHECKING:
    import httpx2

    from flue.mcp.auth import AuthHook


def connect_mcp_server(
    name: str,
    *,
    url: str | None = None,
    transport: Transport = "streamable-http",
    headers: Mapping[str, str] | None = None,
    auth: AuthHook | httpx2.Auth | None = None,
    command: Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | PathLike[str] | None = None,
    timeout: float | None = 60.0,
    connect_timeout: float | None = 30.0,
) -> Connecting:
    """Connect to an MCP server; await it, or use it in `async with`, to get a `McpServer` with `tools` and `close()`.

    A server behind a `url` speaks `transport`. `auth` is a function that returns headers and is asked again when the
    server answers 401, or an `httpx2.Auth`, such as an OAuth provider of the MCP SDK. A server that is a program is
    started with `command`, a list, in `cwd`; of this process's environment it sees HOME, LOGNAME, PATH, SHELL, TERM
    and USER, and what `env` gives it. `timeout` limits each call and `connect_timeout` connecting, both in seconds;
    None waits for ever.

    Raises `UsageError`: `invalid_mcp_server` for arguments that do not go together, `missing_package` without the
    extra `mcp`. Awaiting raises `McpError`: `mcp_connect_failed`, `mcp_unauthorized`, `mcp_bad_listing`; and
    `UsageError` (`duplicate_mcp_tool`) when two tools would have the same name.
    """
    if not _is_text(name) or not name.strip():
        raise _invalid("An MCP server needs a name.", "Its tools will be called mcp__<name>__<tool>.")
    _check_seconds(name, "timeout", timeout)
    _check_seconds(name, "connect_timeout", connect_timeout)
    if (url is None) == (command is None):
        raise _invalid(f'MCP server "{name}": give either url= or command=.', "A URL, or a list with a program.")
    require_sdk()
    wire: Wire
    if url is not None:
        if env is not None or cwd is not None:
            raise _invalid(f'MCP server "{name}": env= and cwd= go with command=, not with url=.', "Leave them out.")
        wire = _http_wire(name, url, transport, headers=headers or {}, auth=auth, timeout=timeout)
    else:
        assert command is not None
        if headers is not None or auth is not None or transport != "streamable-http":
            problem = f'MCP server "{name}": headers=, auth= and transport= go with url=, not with command=.'
            raise _invalid(problem, "Pass secrets to a program with env=.")
        wire = _stdio_wire(name, command, env or {}, cwd)
    return Connecting(name, wire, timeout, connect_timeout)


class Connecting:
    """What `connect_mcp_server` returns: `await` it, or write `async with connect_mcp_server(…) as server`."""

    def __init__(self, name: str, wire: Wire, timeout: float | None, connect_timeout: float | None) -> None:
        self._name = name
        self._wire = wire
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._server: McpServer | None = None

    def __await__(self) -> Generator[Any, None, McpServer]:
        return self._open().__await__()

    async def __aenter__(self) -> McpServer:
        self._server = await self._open()
        return self._server

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            await self._server.close()

    async def _open(self) -> McpServer:
        # Importing the SDK takes a second or two: the event loop has other work.
        await asyncio.to_thread(importlib.import_module, "mcp")
        server = McpServer(self._name, self._wire, timeout=self._timeout, connect_timeout=self._connect_timeout)
        return await server.open()


def _http_wire(
    name: str, url: str, transport: Transport, *, headers: Mapping[str, str], auth: Any, timeout: float | None
) -> Wire:
    import httpx2

    from flue.mcp.auth import HookAuth

    if transport not in ("streamable-http", "sse"):
        raise _invalid(f'MCP server "{name}": unknown transport {transport!r}.', 'Use "streamable-http" or "sse".')
    try:
        address = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError) as error:
        raise _invalid(f'MCP server "{name}": the URL cannot be read.', "Write https://host/path.") from error
    if address.scheme not in ("http", "https") or not address.host:
        raise _invalid(f'MCP server "{name}": the URL needs http or https and a host.', "Write https://host/path.")
    _check_texts(name, "headers", headers)
    if auth is not None and not isinstance(auth, httpx2.Auth):
        if not callable(auth):
            problem = f'MCP server "{name}": auth must be a function or an httpx2.Auth, got {type(auth).__name__}.'
            raise _invalid(problem, 'The function returns headers: {"Authorization": "Bearer …"}.')
        auth = HookAuth(auth)
    return HttpWire(url, transport, headers, auth, timeout)


def _stdio_wire(name: str, command: Sequence[str], env: Mapping[str, str], cwd: str | PathLike[str] | None) -> Wire:
    from flue.mcp.stdio import StdioWire

    if isinstance(command, str) or not command or not command[0]:
        raise _invalid(f'MCP server "{name}": command must be a list.', 'Write command=["npx", "-y", "some-server"].')
    if not all(map(_is_text, command)):
        raise _invalid(f'MCP server "{name}": every part of command must be text.', "Convert numbers and paths.")
    _check_texts(name, "env", env)
    folder = Path(cwd) if cwd is not None else None
    if folder is not None and not folder.is_dir():
        raise _invalid(f'MCP server "{name}": cwd {folder} is not a directory.', "Create it, or leave cwd out.")
    return StdioWire(name, command, env, folder)


def _check_texts(name: str, field: str, values: Mapping[str, str]) -> None:
    wrong = [key for key, value in values.items() if not (_is_text(key) and _is_text(value))]
    if wrong:
        # Only the name: the value may be a secret.
        raise _invalid(f'MCP server "{name}": {field}[{wrong[0]!r}] is not text.', "Names and values must be text.")


def _check_seconds(name: str, field: str, value: float | None) -> None:
    if value is not None and not value > 0:
        raise _invalid(f'MCP server "{name}": {field} must be more than 0 seconds, or None.', "None waits for ever.")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _invalid(problem: str, hint: str) -> UsageError:
    return UsageError(problem, code="invalid_mcp_server", hint=hint)
