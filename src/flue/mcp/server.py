"""A connected MCP server, as the user holds it."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from flue.definitions.tool import Tool, ToolContext, ToolResult
from flue.mcp.connection import Connection, ListingError, Wire
from flue.mcp.failure import McpError, describe
from flue.mcp.http import ATTEMPT, Attempt
from flue.mcp.results import tool_result
from flue.mcp.tools import Listed, listed_tools

if TYPE_CHECKING:
    from mcp import types


class McpServer:
    """A server whose tools agents can use: pass `tools` to `create_agent`, `init` or `prompt`.

    The tools work until `close()`. When the connection breaks, the next call opens a new one first. A call that was
    under way then fails towards the model, which is told that it may have been executed: it is never sent twice.

    `name` is the name given to `connect_mcp_server`; `instructions` what the server wants models to know, may be
    empty; `rejected` maps the server's names of tools that cannot be offered to the reasons.
    """

    def __init__(self, name: str, wire: Wire, *, timeout: float | None, connect_timeout: float | None) -> None:
        self.name = name
        self.tools: list[Tool] = []
        self.instructions = ""
        self.rejected: dict[str, str] = {}
        self._wire = wire
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._loop = asyncio.get_running_loop()
        self._lock = asyncio.Lock()
        self._connection: Connection | None = None
        self._opening: Connection | None = None
        self._closed = False

    async def open(self) -> Self:
        """Connect and read the list of tools; `connect_mcp_server` has done it. Raises `McpError`."""
        connection = await self._connected()
        try:
            found = listed_tools(self.name, connection.tools)
        except BaseException:
            await self.close()
            raise
        self.instructions, self.rejected = connection.instructions, found.rejected
        self.tools = [self._tool(item) for item in found.tools]
        return self

    async def close(self) -> None:
        """End the connection and the child process; calls under way fail. From any task, more than once if need be."""
        self._closed = True
        if self._opening is not None:
            self._opening.give_up()
        async with self._lock:
            if self._connection is not None:
                await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"McpServer({self.name!r}, {len(self.tools)} tools)"

    # --------------------------------------------------------------------------------------------- calls

    def _tool(self, listed: Listed) -> Tool:
        async def execute(arguments: dict[str, Any], _context: ToolContext) -> ToolResult:
            result = await self._call(listed.original, arguments)
            return tool_result(result, server=self.name, tool=listed.original, output_schema=listed.output_schema)

        return Tool(name=listed.name, description=listed.description, parameters=listed.parameters, execute=execute)

    async def _call(self, tool: str, arguments: dict[str, Any]) -> types.CallToolResult:
        from mcp import MCPError
        from mcp.types import HEADER_MISMATCH

        for is_last in (False, True):
            connection, attempt = await self._connected(), Attempt()
            token = ATTEMPT.set(attempt)
            try:
                return await connection.call(tool, arguments, self._timeout)
            except MCPError as error:
                if attempt.not_executed and not is_last:
                    connection.lose()
                elif error.code == HEADER_MISMATCH and not is_last:
                    # Refused before it was executed, because the tool has another schema by now.
                    await connection.list_tools()
                else:
                    raise await self._call_failure(tool, error, attempt, connection) from error
            except ValueError as error:
                raise McpError(
                    f'The MCP server "{self.name}" answered the call of "{tool}" with something that is no result of '
                    f"a tool ({describe(error)}).",
                    code="mcp_call_failed",
                    hint="The call has probably been executed; do not simply repeat it.",
                ) from error
            finally:
                ATTEMPT.reset(token)
        raise AssertionError("unreachable")

    async def _call_failure(self, tool: str, error: Any, attempt: Attempt, connection: Connection) -> McpError:
        from mcp.types import CONNECTION_CLOSED, REQUEST_TIMEOUT

        where = f'the MCP server "{self.name}"'
        unsure = "It may have been executed all the same; check before you repeat it."
        if attempt.status in (401, 403):
            return McpError(f"Access to {where} was refused (HTTP {attempt.status}).", code="mcp_unauthorized")
        if attempt.unsent:
            return self._unreachable(attempt.error)
        if attempt.error is not None:
            text = f'The connection to {where} broke during the call of "{tool}" ({describe(attempt.error)}).'
            return McpError(text, code="mcp_connection_lost", hint=unsure)
        if error.code == REQUEST_TIMEOUT and self._timeout is not None:
            connection.suspect = True
            text = f'The call of "{tool}" got no answer from {where} within {self._timeout:g} s.'
            return McpError(text, code="mcp_timeout", hint=unsure)
        if error.code == CONNECTION_CLOSED:
            await connection.close()
            reason = f" ({connection.broken_by})" if connection.broken_by else ""
            text = f'The connection to {where} was closed during the call of "{tool}"{reason}.'
            return McpError(text, code="mcp_connection_lost", hint=unsure)
        status = f" (HTTP {attempt.status})" if attempt.status is not None else ""
        text = f'The call of "{tool}" was refused by {where}{status}: {describe(error)}'
        return McpError(text, code="mcp_call_failed")

    # --------------------------------------------------------------------------------------- connecting

    async def _connected(self) -> Connection:
        """Return an open connection, opening a new one when the last one was lost."""
        if asyncio.get_running_loop() is not self._loop:
            raise McpError(
                f'The MCP server "{self.name}" was connected in another event loop.',
                code="mcp_wrong_loop",
                hint="Connect inside the event loop that uses it.",
            )
        async with self._lock:
            connection = self._connection
            if connection is not None and connection.is_open and connection.suspect and not await connection.is_alive():
                connection.lose()
            self._check_open()
            if connection is None or not connection.is_open:
                if connection is not None:
                    await connection.close()
                self._connection = connection = await self._open()
            return connection

    async def _open(self) -> Connection:
        connection = self._opening = Connection(self._wire, self.name, self._connect_timeout)
        try:
            if await connection.opened():
                return connection
        finally:
            self._opening = None
        await connection.close()
        self._check_open()
        raise self._open_failure(connection)

    def _check_open(self) -> None:
        if self._closed:
            raise McpError(f'The MCP server "{self.name}" has been closed.', code="mcp_closed")

    def _open_failure(self, connection: Connection) -> McpError:
        error, attempt = connection.failure, connection.attempt
        where = f'the MCP server "{self.name}" ({self._wire.label})'
        if attempt.status in (401, 403):
            failure = McpError(
                f"Access to {where} was refused (HTTP {attempt.status}).",
                code="mcp_unauthorized",
                hint="Check headers= or auth= of connect_mcp_server.",
            )
        elif attempt.error is not None:
            failure = self._unreachable(attempt.error)
        elif isinstance(error, TimeoutError):
            text = f"No answer from {where} within {self._connect_timeout:g} s{self._last_words()}."
            failure = McpError(text, code="mcp_connect_failed", hint="Raise connect_timeout if it only starts slowly.")
        elif isinstance(error, ListingError):
            failure = McpError(
                f"Cannot use {where}: {error}.", code="mcp_bad_listing", hint="This is the server's error."
            )
        else:
            status = f" (HTTP {attempt.status})" if attempt.status is not None else ""
            reason = describe(error) if error is not None else "it ended at once"
            text = f"Cannot connect to {where}{status}: {reason}{self._last_words()}."
            failure = McpError(text, code="mcp_connect_failed", hint="Check its address, or run its command by hand.")
        failure.__cause__ = error
        return failure

    def _unreachable(self, error: Exception | None) -> McpError:
        reason = "" if error is None else f": {describe(error)}"
        return McpError(
            f'Cannot reach the MCP server "{self.name}" ({self._wire.label}){reason}.',
            code="mcp_connect_failed",
            hint="Check that it runs and that the address is right.",
        )

    def _last_words(self) -> str:
        said = self._wire.last_words()
        return f"; its stderr ended with: {said}" if said else ""
