"""MCP (Model Context Protocol), with the official SDK (extra `mcp`): other servers' tools for our agents, and back.

connect.py       connect_mcp_server: checks what the user wrote
server.py        McpServer: tools, calls, reconnection
connection.py    one open SDK client, held by a task of its own
stdio.py         a server as a child process
watched.py       notices that a transport has ended
http.py, auth.py a server behind a URL
tools.py         listed tools → Tool objects with names that models accept
results.py       what a call gave → text and images
serving.py       the other way: our callables as an MCP server
"""

from __future__ import annotations

from flue.mcp.connect import connect_mcp_server
from flue.mcp.failure import McpError
from flue.mcp.server import McpServer

__all__ = ["McpError", "McpServer", "connect_mcp_server"]
